"""Reads an HTML report as a browser's parser does, and fails the test where it is not what it should be.

``read_html`` is for every report; what a certain one says is for the test to ask of the ``Page``.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

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


def read_html(text: str) -> Page:
    """The page: our own structure and no other, whose references are met, and which asks for nothing."""
    found = Page(text)
    _structure(found)
    _references(found)
    _headings(found)
    _nothing_from_elsewhere(found)
    _policy(found)
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    return found


def _structure(found: Page) -> None:
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


def _references(found: Page) -> None:
    names = Counter(element.attributes["id"] for element in found.all() if "id" in element.attributes)
    assert {name for name, number in names.items() if number > 1} == set()
    for element in found.all():
        wanted = [*element.attributes.get("aria-labelledby", "").split(), *element.attributes.get("for", "").split()]
        if element.tag == "a" and element.attributes["href"].startswith("#"):
            wanted.append(element.attributes["href"][1:])
        assert set(wanted) <= names.keys()


def _headings(found: Page) -> None:
    """They skip no level."""
    levels = [int(element.tag[1]) for element in found.all() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def _nothing_from_elsewhere(found: Page) -> None:
    for element in found.all("a"):
        address = element.attributes["href"]
        assert address.startswith("#") or (address.startswith("https://") and element.text == address)
    assert not re.search(r"url\(|@import|@font-face", found.one("style").text)
    assert not re.search(r"fetch|XMLHttp|import|WebSocket|sendBeacon|https?:|innerHTML|eval", found.one("script").text)


def _policy(found: Page) -> None:
    """The style and the script of the page are the only ones that may run."""
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
