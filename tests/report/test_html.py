"""The report for a browser, read as a browser's parser reads it: our own structure, and no other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.html_pages import Page, read_html

from driftcheck.diff import Change, Unmeasured
from driftcheck.explain import NotJudged
from driftcheck.findings import Fix, Impact, Subject
from driftcheck.report import model
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import ErrorAnswer, Report, Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.findings import Finding

    Samples = dict[str, Callable[[], Report]]


def html(report: Report, *, all_: bool = False) -> str:
    return render(report, "html", RenderOptions(all=all_))


def page(report: Report, *, all_: bool = False) -> Page:
    return read_html(html(report, all_=all_))


def findings_with(report: Report, *findings: Finding) -> Report:
    target = report.targets[0]
    return replace(
        report,
        targets=(replace(target, explanation=replace(target.explanation, findings=findings)), *report.targets[1:]),
    )


def test_it_is_what_a_page_should_be(sample: Report) -> None:
    page(sample)


@pytest.mark.parametrize("name", ["diff", "caused", "policed", "hostile"])
def test_so_it_is_where_everything_is_told(samples: Samples, name: str) -> None:
    page(samples[name](), all_=True)


def test_hostile_values_are_seen_and_do_nothing(samples: Samples) -> None:
    found = page(samples["hostile"]())
    text = found.root.text
    for trace in (
        r"\x1b]0;owned\x07",
        r"\u202e",
        r"\r\n",
        r"\ud800",
        "</details></summary><script>alert(1)</script><img src=x onerror=alert(1)>",
        "&lt;b&gt; &#64;octocat",
        "... (1,000,000 characters)",
    ):
        assert trace in text
    assert not [element for element in found.all("a") if "evil" in element.attributes["href"]]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://a.example/", "https://a.example/\u202e", "https://a b"]
)
def test_only_plain_addresses_are_links(samples: Samples, address: str) -> None:
    report = samples["clean"]()
    numpy = samples["diff"]().targets[0].explanation.findings[0]
    found = page(findings_with(report, replace(numpy, references=(address, "https://good.example/a#b"))))
    links = [element for element in found.all("a") if not element.attributes["href"].startswith("#")]
    assert [element.attributes["href"] for element in links] == ["https://good.example/a#b"]
    assert "noreferrer" in links[0].attributes["rel"]


@pytest.mark.parametrize("name", ["diff", "single", "several", "policed"])
def test_it_is_the_same_every_time_and_after_it_was_saved(samples: Samples, name: str) -> None:
    report = model.redacted(samples[name]())
    text = html(report)
    assert text == html(report)
    assert text == html(model.parse(report.text().encode(), "report.json"))


def test_what_breaks_and_what_to_type_come_first(samples: Samples) -> None:
    found = page(samples["diff"]())
    text = found.one("body").words
    order = [
        "2 findings would break inference in registry.example/svc:1.4; 1 section could not be compared (machine).",
        "What breaks",
        "cv2 needs libGL.so.1",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        "apt-get install -y --no-install-recommends libgl1",
        "What changes results",
        "Who agrees with whom",
        "Side by side",
        "What changed",
        "What is not known",
        "How it was measured",
    ]
    main = text.index(found.one("main").words[:40])
    places = [text.index(entry, 0 if number == 0 else main) for number, entry in enumerate(order)]
    assert places == sorted(places)
    assert found.one("h1").words == order[0]


def test_a_finding_says_all_that_it_knows(samples: Samples) -> None:
    found = page(samples["diff"]())
    card = found.one("article", id="PKG001")
    labels = [element.words for element in card.all("dt")]
    assert labels == ["You would see", "Type", "Why", "Evidence", "See"]
    assert card.one("pre", class_="error").text.startswith("ValueError: numpy.dtype size changed")
    assert card.all("div", class_="command")[0].all("pre")[0].text == "pip install 'numpy==1.26.4'"
    rows = [[cell.words for cell in row.all("th") + row.all("td")] for row in card.all("tr")]
    assert ["numpy > version", "1.26.4", "2.1.3"] in rows
    assert (card.attributes["data-impact"], card.attributes["data-targets"]) == ("breaks", "0")


def test_an_error_and_a_command_of_several_lines_have_them(samples: Samples) -> None:
    report = samples["single"]()
    (target,) = report.targets
    finding = replace(
        target.explanation.findings[0], predicted_error="first line\nsecond line", fix=(Fix("pip", "pip one\npip two"),)
    )
    told = replace(target, explanation=replace(target.explanation, findings=(finding,)))
    page = render(replace(report, targets=(told,)), "html", RenderOptions())
    assert "first line\nsecond line</pre>" in page
    assert "<span>one</span>\n<span>pip</span>" in page


def test_findings_of_several_targets_are_told_once(samples: Samples) -> None:
    report = samples["several"]()
    first = report.targets[0]
    twice = replace(report, targets=(first, replace(first, environment=report.targets[2].environment)))
    found = page(twice)
    card = found.one("article", id="PKG001")
    assert card.attributes["data-targets"] == "0 1"
    assert "in ci, node7" in card.words
    assert found.one("h1").words == "Inference would break in 2 of 2 environments."


def test_an_effect_stands_under_its_cause(samples: Samples) -> None:
    report = samples["diff"]()
    findings = report.targets[0].explanation.findings
    cause = replace(
        findings[0], code="SYS004", impact=Impact.NOTE, title="another release", subject=Subject("system", "d")
    )
    effects = [replace(one, caused_by=cause.identity) for one in findings if one.code in {"LIB001", "ENV002"}]
    others = [one for one in findings if one.code == "PKG001"]
    found = page(findings_with(report, cause, *effects, *others))
    card = found.one("article", id="SYS004")
    assert "Causes 2 findings" in card.words
    effect = card.one("details", id="LIB001")
    assert "open" in effect.attributes  # what breaks is not folded away under a note
    assert "ImportError: libGL.so.1" in effect.words
    assert "open" not in card.one("details", id="ENV002").attributes
    # It is told with what breaks, and the number is that of findings that break.
    (heading,) = [element for element in found.all("h2") if element.words.startswith("What breaks")]
    assert heading.words == "What breaks 2"
    assert heading.parent is card.parent


def test_the_error_at_hand_is_answered_first(samples: Samples) -> None:
    report = samples["diff"]()
    target = report.targets[0]
    answered = next(one for one in target.explanation.findings if one.code == "ENV002")
    error = ErrorAnswer("crash.log", "slow </pre><b>", answered.identity, "pattern")
    found = page(replace(report, targets=(replace(target, error=error),)))
    words = found.one("body").words
    assert "The error in crash.log is explained by ENV002 (not word for word): OMP_NUM_THREADS is 16" in words
    assert found.all("article")[0].attributes["id"] == "ENV002"
    nothing = replace(error, finding=None, match=None)
    assert (
        "No finding explains the error in crash.log:"
        in page(replace(report, targets=(replace(target, error=nothing),))).one("body").words
    )


def test_what_the_policy_expects_is_shown_on_request(samples: Samples) -> None:
    report = samples["policed"]()
    found = page(report)
    assert "The policy driftcheck.toml expects 2 findings and 21 changes: which, and why." in found.one("header").words
    for entry in report.targets[0].suppressed:
        assert isinstance(entry, Suppressed)
        (row,) = (row for row in found.all("details", class_="row") if entry.finding.title in row.text)
        assert entry.reason in row.text
        assert "open" not in row.attributes
    assert report.notices[1] in found.one("header").words


def test_the_comparison_has_every_environment(samples: Samples) -> None:
    found = page(samples["several"]())
    table = found.one("table", class_="compare")
    assert [cell.words for cell in table.all("thead")[0].all("th")] == [
        "baseline laptop",
        "target ci",
        "target ci (2)",
        "target node7",
    ]
    rows = {row.all("th")[0].words: row for row in table.all("tr") if row.all("td") and row.all("th")}
    package = rows["package-00"].all("td")
    assert [cell.words for cell in package] == ["1.0", "2.0", "1.0", "2.0"]
    assert [cell.attributes["class"] for cell in package] == ["baseline", "differs", "same", "differs"]
    assert "data-same" in rows["System"].attributes
    assert "data-same" not in rows["package-00"].attributes
    assert [cell.words for cell in rows["zstandard"].all("td")] == [
        "\u2013not there",
        "0.23.0",
        "\u2013not there",
        "0.23.0",
    ]


def test_the_picture_has_words(samples: Samples) -> None:
    found = page(samples["several"]())
    picture = found.one("svg", class_="picture")
    assert picture.attributes["role"] == "img"
    words = picture.one("desc").words
    assert "python: ci 2 differences, ci (2) as in the baseline, node7 2 differences." in words
    table = next(element for element in found.all("details", class_="as-table"))
    (row,) = (row for row in table.all("tr") if row.all("th")[0].words == "python")
    assert [cell.words for cell in row.all("td")] == [
        "A the baseline",
        "B 2 differences",
        "A as in the baseline",
        "B 2 differences",
    ]


def test_every_change_is_listed_with_what_explains_it(samples: Samples) -> None:
    report = samples["diff"]()
    found = page(report)
    changed = [row for row in found.all("tr") if row.attributes.get("data-item") == "change"]
    assert len(changed) == len(report.targets[0].explanation.changes)
    (row,) = (row for row in changed if row.all("th")[0].words.startswith("OS packages > lib007"))
    assert [cell.words for cell in row.all("td")] == ["7.0-1", "7.2-1+deb12u1"]
    assert row.one("a").attributes["href"] == "#SYS003"


def test_what_is_not_known_is_said(samples: Samples) -> None:
    words = page(samples["diff"]()).one("main").words
    assert "Not compared: neither equal nor different" in words
    assert "machine unavailable in the target: an image that does not run has no machine" in words
    assert "METADATA cannot be read: Permission denied" in words
    assert "CPU001 lower-level: machine of the target" in words


def test_one_environment_has_no_baseline(samples: Samples) -> None:
    found = page(samples["single"]())
    assert "baseline" not in found.one("body").text
    assert not found.all("svg", class_="picture")
    assert "took longer than 20 s" in found.one("main").words


def test_a_report_of_no_target_is_no_fault() -> None:
    assert page(Report(None, ())).one("h1").words.startswith("Nothing found")


def test_ten_thousand_findings_fit(samples: Samples) -> None:
    report = samples["huge"]()
    found = page(report)
    assert len(found.source) < 1_500_000
    told = {element.attributes["id"] for element in found.all() if element.attributes.get("data-item") == "finding"}
    assert {one.code for one in report.targets[0].explanation.findings if one.impact is Impact.BREAKS} <= told
    in_full = len(found.all("article")) + len(found.all("details", class_="row"))
    words = found.one("footer").words
    assert f"{len(report.targets[0].explanation.findings) - in_full:,} full accounts of findings" in words
    assert "--format json has everything." in words
    assert re.search(r"And not shown: .* others [\d,]+\.", found.one("main").words)


def test_a_value_of_a_megabyte_in_every_place_fits(report_of: Callable[..., Report]) -> None:
    assert len(html(report_of(("x" * 1_000_000, "<&\"'>" * 200_000, "\u202e" * 1_000_000)))) < 1_500_000


def test_whatever_is_forged_in_great_number_fits(samples: Samples) -> None:
    """Thousands of everything, each of signs that take five times their room in HTML."""
    text = "&<>\"'" * 80
    report = samples["diff"]()
    target = report.targets[0]
    numpy = target.explanation.findings[0]
    explanation = replace(
        target.explanation,
        findings=tuple(
            replace(numpy, title=f"{text}{number}", explanation=text, subject=Subject("x", str(number)))
            for number in range(900)
        ),
        changes=tuple(
            Change((f"section{number}", text, str(number)), "changed", text, text + "1") for number in range(900)
        ),
        unmeasured=tuple(Unmeasured(f"{text}{number}", "target", "failed", text) for number in range(200)),
        not_judged=tuple(NotJudged(text, text, text, fault=number % 2 == 0) for number in range(200)),
    )
    summary = {f"{text}{number}": text for number in range(300)}
    place = replace(target.environment, summary=summary, problems=((text, text, text),) * 200)
    forged = replace(
        target,
        environment=place,
        explanation=explanation,
        suppressed=tuple(Suppressed(one, text, text, text) for one in explanation.findings[:200]),
    )
    found = page(replace(report, targets=(forged,) * 2, notices=(text,) * 200))
    assert len(found.source) < 8_000_000
    words = found.one("footer").words
    for what in ("full accounts of findings", "changed facts", "rows of the comparison", "sections of the picture"):
        assert re.search(rf"[\d,]+ {what}", words)


def test_hundreds_of_environments_fit(samples: Samples) -> None:
    report = samples["diff"]()
    found = page(replace(report, targets=report.targets * 60))
    assert len(found.source) < 1_500_000
    assert len(found.one("table", class_="compare").all("thead")[0].all("th")) == 12
    assert "49 columns of the comparison" in found.one("footer").words
