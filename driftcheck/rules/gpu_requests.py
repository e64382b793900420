"""Family GPU: what the image demands of a machine, and what variables leave of its GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from driftcheck import nvidia_requirements
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.nvidia_requirements import Verdict
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.gpu_facts import Facts, Fit
from driftcheck.snapshot import Snapshot


class GPU011(Contradiction):
    """The image demands of the machine what its NVIDIA driver or GPU does not have.

    Compares: NVIDIA_REQUIRE_CUDA and the like, as the container runtime evaluates them (a space means or, a comma
    means and), with the driver's CUDA level and version and the compute capability and brand of each device.

    Why: NVIDIA's container runtime asks before it starts a container, and refuses what does not hold. Its images list
    the driver branches on which their compat library may be used, and no others, although minor version compatibility
    would let many run.

    See: `nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a
    newer version, or use an earlier cuda container`; the container does not start.

    Decided: the expression does not hold for a device of the machine, whatever is not known of it: breaks, likely. It
    depends on a brand or a version that is not known, or cannot be read: breaks, possible. Only where the environment
    is put on a machine or has no devices yet: one that runs with its GPUs has passed, or was not asked.

    Fix: a newer driver; an image for an older CUDA; NVIDIA_DISABLE_REQUIRE=1 where the program itself would start.

    Limits: the brand is taken from the device's name. A start without NVIDIA's runtime asks nothing.
    """

    code = "GPU011"
    name = "image-requirement-not-met"
    reads = ("gpu", "cuda")
    references = (
        f"{gpu.TOOLKIT}/docker-specialized.html",
        "https://github.com/NVIDIA/libnvidia-container/blob/main/src/cli/dsl.c",
        "https://gitlab.com/nvidia/container-images/cuda",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts, image = gpu.nvidia(target), lookup(target, ("cuda", "image"))
        if facts is None or not image or (not gpu.placed(target) and facts["device_nodes"]):
            return
        if not (facts["kernel_module"] or facts["driver"] or facts["cuda"]):
            return
        for variable, expression in nvidia_requirements.requirements(image).items():
            verdicts = {number: _verdict(expression, facts, device) for number, device in gpu.devices(target).items()}
            verdicts = verdicts or {"": _verdict(expression, facts, None)}
            for verdict in (Verdict.UNSATISFIED, Verdict.INVALID, Verdict.UNDECIDED):
                numbers = [number for number, found in verdicts.items() if found == verdict]
                if numbers:
                    yield self._finding(target, facts, variable, expression, verdict, numbers[0])
                    break

    def _finding(
        self, target: Snapshot, facts: Facts, variable: str, expression: str, verdict: Verdict, number: str
    ) -> Finding:
        device = gpu.devices(target).get(number)
        first = expression.split(" ", 1)[0]
        level = gpu.kernel_level(facts)
        driver = gpu.driver_version(facts) or facts["driver"] or "of a version that is not known"
        offered = f"driver {driver}" + (f", CUDA {cuda.spelled(level.value)}" if level else "")
        having = f"{offered}, {gpu.device_text(device)}" if device else offered
        fact = (
            ("cuda", "image", "cuda_version") if variable == "CUDA_VERSION" else ("cuda", "image", "require", variable)
        )
        evidence = [at(target, "target", *fact), *gpu.version_evidence(target, facts)]
        if level:
            evidence.append(at(target, "target", *level.path))
        if device:
            evidence.append(at(target, "target", *gpu.on_device(number, "name")))
        title, why = {
            Verdict.UNSATISFIED: (
                f"The image demands {first}; the machine has {offered}",
                f"None of the alternatives of {variable} holds for {having}.",
            ),
            Verdict.INVALID: (
                f"{variable} cannot be read: {first}",
                f"NVIDIA's runtime refuses it on {having}; newer releases pass over what they do not know.",
            ),
            Verdict.UNDECIDED: (
                f"Whether the machine has what the image demands ({first}) cannot be told",
                f"{variable} depends on a brand or a version that the snapshot does not state of {having}.",
            ),
        }[verdict]
        fixes = [Fix("advice", "Update the driver of the machine, or take an image for an older CUDA.")]
        wanted = cuda.level(first.removeprefix("cuda>=")) if first.startswith("cuda>=") else None
        if wanted and level and level.value >= cuda.needed_level(wanted):
            fixes.append(Fix("docker-run", "-e NVIDIA_DISABLE_REQUIRE=1"))
            why += f" Programs for CUDA {cuda.spelled(wanted)} start on this driver all the same"
            library = gpu.compat_library(target)
            in_the_way = library is not None and library.fit(facts) in {Fit.FORBIDDEN, Fit.UNLISTED, Fit.OLDER}
            why += ", once the image's compat library is gone." if in_the_way else ", unless they need PTX translated."
        return self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if verdict is Verdict.UNSATISFIED else Confidence.POSSIBLE,
            title,
            Subject("variable", variable),
            why,
            predicted_error=(
                nvidia_requirements.message(expression)
                if verdict is Verdict.UNSATISFIED
                else "nvidia-container-cli: requirement error: invalid expression"
                if verdict is Verdict.INVALID
                else None
            ),
            evidence=_once(evidence),
            fix=fixes,
        )


def _once(evidence: list[Evidence]) -> list[Evidence]:
    return list({entry.path: entry for entry in evidence}.values())


def _verdict(expression: str, facts: Facts, device: Facts | None) -> Verdict:
    level = gpu.kernel_level(facts)
    machine = nvidia_requirements.Machine(
        cuda=facts["cuda"] or (cuda.spelled(level.value) if level else None),
        driver=gpu.driver_version(facts) or facts["driver"],
        arch=device["compute_capability"] if device else None,
        brands=nvidia_requirements.brands_of(device["name"]) if device else None,
        device=device is not None or facts["asked"] != "nvml",
    )
    return nvidia_requirements.evaluate(expression, machine)


_VISIBLE = Subject("variable", "CUDA_VISIBLE_DEVICES")


class GPU014(Contradiction):
    """CUDA_VISIBLE_DEVICES, or a division of the GPU, leaves less than there is to see.

    Compares: CUDA_VISIBLE_DEVICES with the number of devices, and whether devices in MIG mode have parts.

    Why: CUDA enumerates only what the variable names, and stops at the first entry that is none. A device in MIG mode
    is not used whole: CUDA sees one of its parts, and none where nobody made parts.

    See: torch: `RuntimeError: No CUDA GPUs are available`; `RuntimeError: CUDA error: invalid device ordinal` for
    those that are missing.

    Decided: its first entry names no device: breaks, likely; a later one: the devices before it are seen, a note. All
    hidden on purpose (empty, -1): a note. Every device is in MIG mode and has no parts: breaks, likely.
    A second or later number while devices are in MIG mode: breaks, possible.

    Fix: numbers that are there; for MIG the names that nvidia-smi -L lists.

    Limits: names (GPU-..., MIG-...) are not compared: snapshots hold no serial numbers.
    """

    code = "GPU014"
    name = "devices-hidden"
    reads = ("gpu", "variables")
    references = (
        "https://docs.nvidia.com/deploy/topics/topic_5_2_1.html",
        "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/mig-device-names.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        devices = gpu.devices(target)
        if not devices or (gpu.nvidia(target) or {}).get("asked") == "proc":
            return
        divided = [number for number, device in devices.items() if device["mig"]]
        empty = [number for number in divided if not devices[number]["mig_devices"]]
        if len(empty) == len(devices):
            yield self._finding(
                target, Subject("gpu", "mig"), Impact.BREAKS, Confidence.LIKELY,
                "Every GPU is in MIG mode and has no parts",
                "CUDA uses a divided GPU through its parts alone, and there are none.",
                [at(target, "target", *gpu.on_device(number, "mig")) for number in empty[:4]],
                [Fix("advice", "Make parts (nvidia-smi mig -cgi ... -C), or leave MIG mode: nvidia-smi -mig 0.")],
            )  # fmt: skip
        value = gpu.variable(target, "CUDA_VISIBLE_DEVICES")
        if value is not None:
            yield from self._of_variable(target, value, len(devices), divided)

    def _of_variable(self, target: Snapshot, value: str, count: int, divided: list[str]) -> Iterator[Finding]:
        evidence = [
            at(target, "target", "variables", "variables", "CUDA_VISIBLE_DEVICES", "value"),
            *(at(target, "target", *gpu.on_device(number, "name")) for number in list(gpu.devices(target))[:4]),
        ]
        entries = [entry.strip() for entry in value.split(",")]
        wrong = next((place for place, entry in enumerate(entries) if not _names_device(entry, count)), None)
        there = "one device" if count == 1 else f"{count} devices"
        fixes = [Fix("variable", "CUDA_VISIBLE_DEVICES=" + ",".join(str(number) for number in range(min(count, 8))))]
        shown = value[:60]
        if value.strip() in {"", "-1"}:
            yield self._finding(
                target, _VISIBLE, Impact.NOTE, Confidence.CERTAIN, "CUDA_VISIBLE_DEVICES hides every GPU",
                f"It is {shown!r}; the machine has {there}.", evidence, fixes,
            )  # fmt: skip
        elif wrong == 0:
            yield self._finding(
                target, _VISIBLE, Impact.BREAKS, Confidence.LIKELY,
                f"CUDA_VISIBLE_DEVICES={shown} names no GPU of this machine, which has {there}",
                "CUDA stops at the first entry that is none, so it sees nothing.", evidence, fixes,
            )  # fmt: skip
        elif wrong is not None:
            yield self._finding(
                target, _VISIBLE, Impact.NOTE, Confidence.LIKELY,
                f"CUDA_VISIBLE_DEVICES={shown} names more GPUs than are there: {there}",
                f"CUDA sees the {wrong} before {entries[wrong]!r}.", evidence, fixes,
            )  # fmt: skip
        elif divided and any(entry.isdecimal() and int(entry) > 0 for entry in entries):
            yield self._finding(
                target, _VISIBLE, Impact.BREAKS, Confidence.POSSIBLE,
                f"CUDA_VISIBLE_DEVICES={shown} counts GPUs, and some are divided (MIG)",
                "A program sees one part of one divided GPU; numbers beyond that name nothing.",
                [*evidence, *(at(target, "target", *gpu.on_device(number, "mig")) for number in divided[:4])],
                [Fix("advice", "Name the part as nvidia-smi -L lists it: CUDA_VISIBLE_DEVICES=MIG-...")],
            )  # fmt: skip

    def _finding(
        self,
        target: Snapshot,
        subject: Subject,
        impact: Impact,
        confidence: Confidence,
        title: str,
        why: str,
        evidence: list[Evidence],
        fixes: list[Fix],
    ) -> Finding:
        return self.finding(
            impact,
            confidence,
            title,
            subject,
            why,
            predicted_error=gpu.start_error(target, 100) if impact is Impact.BREAKS else None,
            evidence=evidence,
            fix=fixes,
        )


def _names_device(entry: str, count: int) -> bool:
    if re.match(r"(?:GPU|MIG)-", entry):
        return True
    return entry.isdecimal() and entry.isascii() and len(entry) < 6 and int(entry) < count
