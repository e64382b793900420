"""Family NUM: distributions that answer otherwise in another version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Impact, Subject
from driftcheck.rules import wheels
from driftcheck.rules.base import at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix
from driftcheck.rules.version_drift import VersionDrift, reinstall
from driftcheck.snapshot import Snapshot


class NUM002(VersionDrift):
    """Libraries that compute have other versions than in the baseline.

    Compares: the versions of distributions that compute numbers (numpy, torch, onnxruntime, tensorflow,
    jaxlib, scikit-learn, vllm, ...) in both, down to the minor version.

    Why: another version has other kernels, another order of operations, sometimes other rules: NumPy 2
    keeps float32 where NumPy 1 computed in float64. Libraries promise an interface, not the last digits.

    See: no error; other low digits, and a different label for an input that was near the border.

    Decided: versions alone, so changes-results, possible; likely where a change of answers that was seen
    lies between the two versions.

    Fix: install the baseline's versions.

    Limits: what another version does to one model is not known without running it. Patch releases are not
    counted. That a version is one that somebody forbids is PKG001's.
    """

    code = "NUM002"
    name = "numerical-versions-changed"
    reads = ("packages",)
    references = (
        "https://pytorch.org/docs/stable/notes/numerical_accuracy.html",
        "https://numpy.org/doc/stable/numpy_2_0_migration_guide.html",
        "https://github.com/microsoft/onnxruntime/issues/25634",
        "https://scikit-learn.org/stable/model_persistence.html",
    )
    computes = "numbers"
    what = "other numbers"


class NUM003(VersionDrift):
    """Text is split into tokens by another version.

    Compares: the versions of tokenizers, transformers, sentencepiece and tiktoken in both, down to the
    minor version.

    Why: a model knows token numbers only. Where the same text is split otherwise the model reads another
    text, and answers worse without any error. Files of a newer version may not be readable by an older one.

    See: no error, or `Exception: data did not match any variant of untagged enum ModelWrapper at line 30
    column 3`.

    Decided: versions alone: changes-results, possible. tokenizers older than 0.20 where the baseline has a
    newer one: breaks, possible, since it hangs on who wrote the model's tokenizer.json.

    Fix: install the baseline's versions, and compare token numbers of a few texts.

    Limits: the model's own files are not read here.
    """

    code = "NUM003"
    name = "tokenizer-versions-changed"
    reads = ("packages",)
    references = (
        "https://github.com/generative-computing/mellea/issues/947",
        "https://github.com/huggingface/tokenizers/issues/566",
        "https://github.com/OpenNMT/Tokenizer/issues/274",
    )
    computes = "text"
    what = "other tokens"


class NUM004(VersionDrift):
    """Images are decoded by other code than in the baseline.

    Compares: the versions of Pillow, OpenCV and torchvision; which of pillow and pillow-simd brings PIL; and
    whether the codecs for lossy formats (JPEG, WebP, AVIF) come inside of a wheel or from the system.

    Why: the JPEG standard leaves room for rounding. libjpeg and libjpeg-turbo, and two releases of one,
    decode the same file to pixels that differ by a step or two, and a model that was trained on the ones
    answers otherwise on the others. Pillow-SIMD resizes with other rounding.

    See: no error; about one pixel in a hundred differs by one step.

    Decided: another version, another owner of PIL, or codecs from elsewhere: changes-results, possible.

    Fix: install the baseline's versions from where the baseline has them.

    Limits: the versions of codecs inside of a wheel are not read; PKG005 says where the same version is
    another build.
    """

    code = "NUM004"
    name = "image-decoding-changed"
    reads = ("packages",)
    references = (
        "https://github.com/python-pillow/Pillow/issues/2316",
        "https://github.com/python-pillow/Pillow/issues/3651",
        "https://github.com/opencv/opencv-python/issues/65",
        "https://github.com/pytorch/vision/issues/8088",
    )
    computes = "media"
    what = "other pixels"

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        yield from super().check(baseline, target)
        yield from self._owner(baseline, target)
        for name in _DECODERS:
            yield from self._codecs(baseline, target, name)

    def _owner(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        owners = [[name for name in _PIL if name in distributions_of(snapshot)] for snapshot in (baseline, target)]
        if not all(owners) or owners[0] == owners[1]:
            return
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"PIL is that of {' and '.join(owners[1])} instead of {' and '.join(owners[0])}",
            Subject("module", "PIL"),
            "The two resize and filter with other instructions and another rounding.",
            evidence=[
                *(at(baseline, "baseline", *DISTRIBUTIONS, name, "version") for name in owners[0]),
                *(at(target, "target", *DISTRIBUTIONS, name, "version") for name in owners[1]),
            ],
            fix=pip_fix(
                target,
                f"uninstall -y {' '.join(owners[1])}",
                f"install {' '.join(pinned(distributions_of(baseline)[name]) for name in owners[0])}",
            ),
        )

    def _codecs(self, baseline: Snapshot, target: Snapshot, name: str) -> Iterator[Finding]:
        needs = [lookup(snapshot, ("libraries", "distributions", name, "needs")) for snapshot in (baseline, target)]
        if None in needs:
            return
        before, after = ({soname for soname in found if _LOSSY.match(soname)} for found in needs)
        if before == after:
            return
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"{name} decodes with {_whose(after)} instead of {_whose(before)}",
            Subject("distribution", name),
            "Two libraries, and two releases of one, decode the same file to pixels that differ by a step or two.",
            evidence=[
                *(at(baseline, "baseline", "libraries", "distributions", name, "needs", one) for one in sorted(before)),
                *(at(target, "target", "libraries", "distributions", name, "needs", one) for one in sorted(after)),
            ],
            fix=reinstall(baseline, target, name),
        )


_PIL = ("pillow", "pillow-simd")
_DECODERS = (
    *_PIL,
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "torchvision",
)
# Lossless formats have one right answer.
_LOSSY = re.compile(r"lib(?:jpeg|turbojpeg|webp|avif|heif|jxl|openjp2)\b")


def _whose(sonames: set[str]) -> str:
    return f"the system's {wheels.listed(sorted(sonames))}" if sonames else "the codecs in its wheel"
