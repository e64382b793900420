"""Reads reports as their consumers do: SARIF and JUnit by their schemas, annotations as GitHub's runner takes them.

Each reader fails the test where its consumer would refuse the text, and returns what the consumer gets to see.
"""

from __future__ import annotations

import functools
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import xmlschema

from driftcheck.findings import Impact
from driftcheck.report import formats, github, markdown_page, sarif
from support.html_pages import read_html

if TYPE_CHECKING:
    from driftcheck.report.model import Report

SCHEMAS = Path(__file__).resolve().parents[1] / "report" / "schemas"
RUNNER_LEVELS = {"error", "warning", "notice"}


@functools.cache
def sarif_validator() -> Any:
    """Of the schema in ``tests/report/schemas``, corrected as its README says."""
    schema: dict[str, Any] = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    for name in ("run", "toolComponent"):
        schema["definitions"][name]["properties"]["language"]["pattern"] = "^[a-zA-Z]{2}(-[a-zA-Z]{2})?$"
    schema["definitions"]["region"]["anyOf"] = [
        {"required": [name]} for name in ("startLine", "charOffset", "byteOffset")
    ]
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def read_sarif(text: str) -> dict[str, Any]:
    """The document, valid by its schema, and no larger than code scanning takes."""
    assert len(text.encode("utf-8")) <= sarif.SIZE
    document: dict[str, Any] = json.loads(text)
    sarif_validator().validate(document)
    for run in document["runs"]:
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
        prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
        assert len(set(prints)) == len(prints)
    return document


@functools.cache
def _junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")


def read_junit(text: str) -> ET.Element:
    """The root element, valid by the schema of Jenkins, with counts that are right."""
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    data = text.encode("utf-8")
    _junit_schema().validate(data)
    root = ET.fromstring(data)
    for suite in root:
        assert suite.attrib["tests"] == str(len(suite.findall("testcase")))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.attrib[attribute] == str(len(suite.findall(f"testcase/{tag}")))
    for attribute in ("tests", "failures", "errors"):
        assert root.attrib[attribute] == str(sum(int(suite.attrib[attribute]) for suite in root))
    return root


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    message: str


def read_command(text: str) -> Command:
    """A line as the runner takes it apart: ``::name key=value,key=value::message`` (its ActionCommand.cs)."""
    assert text.startswith("::"), text
    info, separator, message = text[2:].partition("::")
    assert separator, text
    name, _, stated = info.partition(" ")
    pairs = [pair.split("=", 1) for pair in stated.strip().split(",") if pair]
    return Command(name, {key: _unescaped(value, "\r\n:,") for key, value in pairs}, _unescaped(message, "\r\n"))


def _unescaped(text: str, signs: str) -> str:
    for sign in (*signs, "%"):
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text


def read_commands(text: str) -> list[Command]:
    """Every line, each an annotation, no more of a level than GitHub shows."""
    assert text.endswith("\n")
    # The runner splits its input at either sign, and shows what is no command as it is.
    found = [read_command(line) for line in re.split(r"\r\n|\r|\n", text[:-1])]
    for level in RUNNER_LEVELS:
        assert sum(entry.name == level for entry in found) <= 10
    for entry in found:
        assert entry.name in RUNNER_LEVELS
        assert entry.properties["title"]
        assert all(sign.isprintable() or sign == "\n" for sign in entry.message + entry.properties["title"])
    return found


def valid_everywhere(report: Report) -> None:
    """Fail the test where a consumer would refuse the report, or would not hear of something that breaks.

    For reports of real comparisons, which hold fewer findings than any format has to leave out.
    """
    options = formats.RenderOptions()
    breaking = [
        finding
        for target in report.targets
        for finding in target.explanation.findings
        if finding.impact is Impact.BREAKS and not finding.also_in_baseline
    ]
    document = read_sarif(formats.render(report, "sarif", options))
    results = [result for run in document["runs"] for result in run["results"]]
    told = [result for result in results if result["level"] == "error" and not result.get("suppressions")]
    assert sorted(result["ruleId"] for result in told) == sorted(finding.code for finding in breaking)
    root = read_junit(formats.render(report, "junit", options))
    cases = {
        entry.attrib["name"].split(" ")[0]: ET.tostring(entry, "unicode", "text") for entry in root.iter("testcase")
    }
    read_commands(formats.render(report, "github", options))
    page = formats.render(report, "markdown", options)
    assert len(page.encode("utf-8")) <= markdown_page.LIMIT
    assert github.step_summary(report) == page
    html = read_html(formats.render(report, "html", options)).root.text
    for finding in breaking:
        assert finding.code in cases
        assert f"`{finding.code}`" in page
        assert finding.code in html
