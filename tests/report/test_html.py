"""The report for a browser, read as a browser's parser reads it: our own structure, and no other."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from driftcheck.diff import Change, Unmeasured
from driftcheck.explain import NotJudged
from driftcheck.findings import Impact, Subject
from driftcheck.report import model
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import ErrorAnswer, Report, Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from driftcheck.findings import Finding

    Samples = dict[str, Callable[[], Report]]

VOID = {"meta", "br", "input", "col", "link", "img", "hr", "base"}
# In SVG these close themselves.
DRAWN = {"circle", "path", "rect", "line"}
TAGS = {
    "html", "head", "meta", "title", "style", "script", "body", "a", "div", "p", "span", "button", "header", "main",
    "nav", "footer", "form", "label", "input", "select", "option", "kbd", "h1", "h2", "h3", "h4", "b", "i", "q", "ul",
    "li", "section", "article", "details", "summary", "dl", "dt", "dd", "pre", "code", "table", "colgroup", "col",
    "thead", "tbody", "tr", "th", "td", "svg", "g", "text", "desc", *DRAWN,
}  # fmt: skip


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        return [
            element
            for element in self.walk()
            if (not tag or element.tag == tag)
            and all(value in element.attributes.get(name.rstrip("_"), "").split() for name, value in attributes.items())
        ]

    def one(self, tag: str = "", **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


class Page(HTMLParser):
    """A tree, and a complaint about whatever is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {}, None)
        self._at = self.root
        self.source = text
        self.feed(text)
        self.close()
        assert self._at is self.root, f"{self._at.tag} is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} says something twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs}, self._at)
        self._at.children.append(element)
        if tag not in VOID:
            self._at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN
        self._at.children.append(Element(tag, {name: value or "" for name, value in attrs}, self._at))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._at.tag, f"{tag} ends where {self._at.tag} is open"
        assert self._at.parent is not None
        self._at = self._at.parent

    def handle_data(self, data: str) -> None:
        self._at.children.append(data)

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        return self.root.all(tag, **attributes)

    def one(self, tag: str = "", **attributes: str) -> Element:
        return self.root.one(tag, **attributes)


def html(report: Report, *, all_: bool = False) -> str:
    return render(report, "html", RenderOptions(all=all_))


def page(report: Report, *, all_: bool = False) -> Page:
    return Page(html(report, all_=all_))


_PAGES: dict[str, Page] = {}


@pytest.fixture
def found(sample: Report, request: pytest.FixtureRequest) -> Page:
    """The page of each sample, read once."""
    name = request.node.callspec.params["sample"]
    if name not in _PAGES:
        _PAGES[name] = page(sample)
    return _PAGES[name]


def findings_with(report: Report, *findings: Finding) -> Report:
    target = report.targets[0]
    return replace(
        report,
        targets=(replace(target, explanation=replace(target.explanation, findings=findings)), *report.targets[1:]),
    )


def test_a_browser_finds_our_structure_alone(found: Page) -> None:
    has_our_structure(found)


@pytest.mark.parametrize("name", ["diff", "policed", "hostile"])
def test_so_it_does_where_everything_is_told(samples: Samples, name: str) -> None:
    found = page(samples[name](), all_=True)
    has_our_structure(found)
    refers_to_what_is_there(found)


def has_our_structure(found: Page) -> None:
    assert found.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {element.tag for element in found.all()} <= TAGS
    assert len(found.all("script")) == len(found.all("style")) == len(found.all("h1")) == len(found.all("main")) == 1
    for element in found.all():
        assert not any(name.startswith("on") for name in element.attributes)
        assert not element.attributes.keys() & {
            "style",
            "src",
            "srcset",
            "srcdoc",
            "action",
            "formaction",
            "background",
        }


def test_whatever_refers_to_a_place_finds_it(found: Page) -> None:
    refers_to_what_is_there(found)


def refers_to_what_is_there(found: Page) -> None:
    names = Counter(element.attributes["id"] for element in found.all() if "id" in element.attributes)
    assert {name for name, number in names.items() if number > 1} == set()
    for element in found.all():
        wanted = [*element.attributes.get("aria-labelledby", "").split(), *element.attributes.get("for", "").split()]
        if element.tag == "a" and element.attributes["href"].startswith("#"):
            wanted.append(element.attributes["href"][1:])
        assert set(wanted) <= names.keys()


def test_headings_skip_no_level(found: Page) -> None:
    levels = [int(element.tag[1]) for element in found.all() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_nothing_comes_from_elsewhere(found: Page) -> None:
    for element in found.all("a"):
        address = element.attributes["href"]
        assert address.startswith("#") or (address.startswith("https://") and element.text == address)
    assert not re.search(r"url\(|@import|@font-face", found.one("style").text)
    assert not re.search(r"fetch|XMLHttp|import|WebSocket|sendBeacon|https?:|innerHTML|eval", found.one("script").text)


def test_only_the_style_and_the_script_of_the_page_may_run(found: Page) -> None:
    (policy,) = (
        element.attributes["content"]
        for element in found.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.keys() == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(found.one(kind).text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_every_sign_can_be_seen(found: Page) -> None:
    assert all(sign.isprintable() or sign == "\n" for sign in found.source)


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
            for number in range(1500)
        ),
        changes=tuple(
            Change((f"section{number}", text, str(number)), "changed", text, text + "1") for number in range(1500)
        ),
        unmeasured=tuple(Unmeasured(f"{text}{number}", "target", "failed", text) for number in range(500)),
        not_judged=tuple(NotJudged(text, text, text, fault=number % 2 == 0) for number in range(500)),
    )
    summary = {f"{text}{number}": text for number in range(300)}
    place = replace(target.environment, summary=summary, problems=((text, text, text),) * 500)
    forged = replace(
        target,
        environment=place,
        explanation=explanation,
        suppressed=tuple(Suppressed(one, text, text, text) for one in explanation.findings[:500]),
    )
    found = page(replace(report, targets=(forged,) * 3, notices=(text,) * 500))
    assert len(found.source) < 8_000_000
    refers_to_what_is_there(found)
    words = found.one("footer").words
    for what in ("full accounts of findings", "changed facts", "rows of the comparison", "sections of the picture"):
        assert re.search(rf"[\d,]+ {what}", words)


def test_hundreds_of_environments_fit(samples: Samples) -> None:
    report = samples["diff"]()
    found = page(replace(report, targets=report.targets * 150))
    assert len(found.source) < 2_000_000
    assert len(found.one("table", class_="compare").all("thead")[0].all("th")) == 12
    assert "139 columns of the comparison" in found.one("footer").words
