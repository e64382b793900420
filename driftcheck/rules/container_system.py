"""Family BOX: what small images leave out of the operating system."""

from __future__ import annotations

import re
from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.container_facts import is_linux, python_of, value_of
from driftcheck.rules.distributions import distributions_of
from driftcheck.rules.system_packages import install, tool_of
from driftcheck.snapshot import Snapshot


class BOX006(Contradiction):
    """There are no CA certificates, so no server can be verified.

    Compares: the system's CA bundle, and the variables SSL_CERT_FILE and SSL_CERT_DIR.

    Why: Debian's minimal root and distroless images hold none. What uses Python's own ssl module
    (urllib: torch.hub, nltk, many download helpers), curl and git then trust nobody.

    See: `ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable
    to get local issuer certificate (_ssl.c:1000)`.

    Decided: no bundle and no variable that names another one which is there: breaks, possible, because a service
    may never speak to a server. Not judged for a Python of conda, which has its own bundle.

    Fix: install ca-certificates.

    Limits: requests, httpx and huggingface-hub bring a bundle (certifi) and do not need this one. A company's own
    authority is not looked for.
    """

    code = "BOX006"
    name = "no-ca-bundle"
    reads = ("system",)
    references = (
        "https://docs.python.org/3/library/ssl.html#ssl.SSLContext.load_default_certs",
        "https://packages.debian.org/stable/ca-certificates",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = target.facts("system") or {}
        bundle = facts.get("ca_bundle")
        if "ca_bundle" not in facts or (bundle is not None and bundle["certificates"]) or not is_linux(target):
            return
        if lookup(target, ("python", "environment", "kind")) == "conda":
            return
        variables = lookup(target, ("variables", "variables")) or {}
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in variables]
        if any("missing" not in variables[name] for name in named):
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            "There are no CA certificates",
            Subject("system", "ca-bundle"),
            "What verifies servers with the system's certificates (urllib, torch.hub, curl, git) trusts nobody here.",
            predicted_error="ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "unable to get local issuer certificate",
            evidence=[
                at(target, "target", "system", "ca_bundle"),
                *(at(target, "target", "variables", "variables", name, "missing") for name in named),
            ],
            fix=[install(target, "ca-certificates")],
        )


class BOX007(Contradiction):
    """Text is read as ASCII, or the locale that is asked for is not installed.

    Compares: the encoding that the interpreter started with; the locale that LC_ALL, LC_CTYPE or LANG name
    with those that the system has.

    Why: images rarely hold locales. A locale that is not there is replaced by C. Python 3.7 and newer then
    read UTF-8 all the same; Python 3.6, and any with PYTHONUTF8=0, read ASCII, and the first vocabulary
    file with an accent ends the start.

    See: `UnicodeDecodeError: 'ascii' codec can't decode byte 0xc3 in position 3: ordinal not in
    range(128)`; from code that sets the locale itself: `locale.Error: unsupported locale setting`.

    Decided: the interpreter started with ASCII: breaks, likely. Only the locale is missing: a note.

    Fix: set LANG=C.UTF-8, which every current base image has.

    Limits: what code opens with an encoding of its own does not fail. musl takes any name for a locale.
    """

    code = "BOX007"
    name = "no-locale"
    reads = ("limits",)
    references = (
        "https://peps.python.org/pep-0538/",
        "https://peps.python.org/pep-0540/",
        "https://docs.python.org/3/library/locale.html#locale.setlocale",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        locale = lookup(target, ("limits", "locale")) or {}
        fix = [Fix("dockerfile", "ENV LANG=C.UTF-8"), Fix("docker-run", "-e LANG=C.UTF-8")]
        encoding = (locale.get("encoding") or "").lower()
        if encoding in _ASCII and not locale.get("utf8_mode"):
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                "Text files are read as ASCII",
                Subject("locale", "encoding"),
                "The first file or line of output that is not plain English ends in an error.",
                predicted_error="UnicodeDecodeError: 'ascii' codec can't decode byte 0xc3 in position 3: "
                "ordinal not in range(128)",
                evidence=[at(target, "target", "limits", "locale")],
                fix=fix,
            )
            return
        name = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if value_of(target, name)), None)
        known = lookup(target, ("system", "locales"))
        glibc = lookup(target, ("system", "libc", "family")) == "glibc"
        asked = value_of(target, name) if name is not None else None
        if name is None or asked is None or known is None or not glibc or _normal(asked) in {"c", "posix"}:
            return
        if _normal(asked) in {_normal(entry) for entry in known}:
            return
        yield self.finding(
            Impact.NOTE,
            Confidence.CERTAIN,
            f"{name} asks for the locale {asked}, which is not installed",
            Subject("locale", name),
            "C is taken instead. Code that sets the locale itself fails.",
            predicted_error="locale.Error: unsupported locale setting",
            evidence=[
                at(target, "target", "variables", "variables", name, "value"),
                at(target, "target", "system", "locales"),
            ],
            fix=fix,
        )


_ASCII = frozenset({"ascii", "us-ascii", "ansi_x3.4-1968", "646", "iso646-us"})


def _normal(name: str) -> str:
    """As glibc compares names of locales: the encoding in small letters, without hyphens."""
    stem, dot, encoding = name.partition(".")
    return (stem.lower() if stem in {"C", "POSIX"} else stem) + dot + re.sub(r"[-_]", "", encoding).lower()


class BOX008(Contradiction):
    """There is no time-zone database.

    Compares: the system's database and the distribution tzdata with the variable TZ.

    Why: minimal images leave it out. zoneinfo then knows no zone but UTC, and the C library takes a TZ that
    it cannot look up for UTC without a word.

    See: `zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Berlin'`; with TZ set,
    local times that are hours off.

    Decided: TZ names a zone and the system has no database: changes-results, likely. Otherwise, where the
    distribution tzdata is not installed either: breaks, possible. Python 3.8 and older have no zoneinfo.

    Fix: install tzdata, the system's package or the distribution (the C library needs the former).

    Limits: whether a zone is ever asked for is not known. pytz and dateutil bring their own.
    """

    code = "BOX008"
    name = "no-time-zone-data"
    reads = ("system", "python")
    references = (
        "https://docs.python.org/3/library/zoneinfo.html#data-sources",
        "https://peps.python.org/pep-0615/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = target.facts("system") or {}
        if facts.get("tzdata", "unknown") is not None or not is_linux(target):
            return
        zone = lookup(target, ("limits", "timezone", "tz"))
        evidence = [at(target, "target", "system", "tzdata")]
        if zone and re.fullmatch(r":?[A-Z][A-Za-z_]+(?:/[A-Za-z_+-]+)+", zone):
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.LIKELY,
                f"TZ={zone} is taken for UTC: there is no time-zone database",
                Subject("system", "TZ"),
                "The C library cannot look the zone up and uses UTC without a word.",
                evidence=[*evidence, at(target, "target", "limits", "timezone", "tz")],
                fix=[install(target, _zones(target))],
            )
        elsewhere = "tzdata" in distributions_of(target) or value_of(target, "PYTHONTZPATH")
        if elsewhere or target.facts("packages") is None or python_of(target) < (3, 9):
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            "There is no time-zone database",
            Subject("system", "tzdata"),
            "zoneinfo finds no zone but UTC here, neither in the system nor in the distribution tzdata.",
            predicted_error="zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Berlin'",
            evidence=[*evidence, at(target, "target", "python", "version")],
            fix=[Fix("pip", "python -m pip install tzdata"), install(target, _zones(target))],
        )


def _zones(target: Snapshot) -> str:
    """The system's package with the database of time zones."""
    return "timezone" if tool_of(target) == "zypper" else "tzdata"
