"""Findings in every form, against the rules of those who read them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from checks.spec_text import HERE, checked, plain

from kvcalc.checks.engine import CheckReport
from kvcalc.cli.check import FindingsFormat
from kvcalc.problems import Severity
from kvcalc.render.findings import FORMATS, renderer

# What hostile files can put into a message or a path: terminal escapes, workflow commands, markup, bidi marks.
HOSTILE = plain("hostile", more='"::error file=x::\\e[31m%0A,:<b>|\\u202e\\u0000]]>": 1\n')


@pytest.fixture(scope="module")
def report() -> CheckReport:
    return checked(*sorted((HERE / "bad").glob("*.yaml")))


@pytest.fixture
def hostile(tmp_path: Path) -> CheckReport:
    path = tmp_path / "a,b:c%\u202e.yaml"
    path.write_text(HOSTILE, encoding="utf-8")
    report = checked(path)
    assert [f.problem.code for f in report.findings] == ["KV010"]
    return report


def test_the_command_offers_every_form() -> None:
    assert {form.value for form in FindingsFormat} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_form_is_deterministic_and_ends_its_last_line(name: str, report: CheckReport) -> None:
    text = renderer(name)(report)
    assert text == renderer(name)(report)
    assert text.endswith("\n")


@pytest.mark.parametrize("name", FORMATS)
def test_no_form_passes_control_characters_on(name: str, hostile: CheckReport) -> None:
    text = renderer(name)(hostile)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text)
    assert name == "csv" or "\u202e" not in text  # in CSV a path stays the path


def test_full_points_at_the_place(report: CheckReport) -> None:
    lines = renderer("full")(report).splitlines()
    at = next(i for i, line in enumerate(lines) if "KV101 8 query heads cannot be shared by 3 KV heads" in line)
    assert lines[at + 1].endswith("num_key_value_heads: 3, head_dim: 64}")
    assert lines[at + 2].index("^") == lines[at + 1].index("3, head_dim")


def test_concise_has_one_line_for_each_finding(report: CheckReport) -> None:
    lines = renderer("concise")(report).splitlines()
    assert len(lines) == len(report.findings) + 1
    assert all(re.match(r".+\.yaml:\d+:\d+: KV\d{3} ", line) for line in lines[:-1])


def test_json_and_csv_hold_the_same_findings(report: CheckReport) -> None:
    body = json.loads(renderer("json")(report))
    rows = list(csv.DictReader(io.StringIO(renderer("csv")(report))))
    assert (body["schema_version"], body["report"], body["failed"]) == (1, "check", True)
    assert [(f["code"], str(f["line"])) for f in body["findings"]] == [(row["code"], row["line"]) for row in rows]
    assert len(rows) == len(report.findings)


def test_github_commands_are_one_line_each_and_escaped(hostile: CheckReport) -> None:
    # actions/toolkit: % CR LF are escaped in data, and : and , as well in properties.
    (line,) = renderer("github")(hostile).splitlines()
    match = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
    assert match is not None
    properties = dict(pair.split("=", 1) for pair in match[2].split(","))
    assert list(properties) == ["file", "line", "col", "title"]
    assert properties["file"].endswith("a%2Cb%3Ac%25.yaml")
    assert "%250A" in match[3]


def test_github_levels_follow_severities(report: CheckReport) -> None:
    lines = renderer("github")(report).splitlines()
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
    assert [line.split(" ")[0] for line in lines] == [f"::{words[f.problem.severity]}" for f in report.findings]


SARIF = {
    # The parts of the OASIS schema (sarif-schema-2.1.0.json) that we use, closed: an unknown property fails.
    "type": "object", "additionalProperties": False, "required": ["$schema", "version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "items": {
            "type": "object", "additionalProperties": False, "required": ["tool", "results"],
            "properties": {
                "tool": {"type": "object", "additionalProperties": False, "required": ["driver"], "properties": {
                    "driver": {"type": "object", "additionalProperties": False, "required": ["name"], "properties": {
                        "name": {"type": "string"},
                        "version": {"type": "string"},
                        "rules": {"type": "array", "uniqueItems": True, "items": {
                            "type": "object", "additionalProperties": False, "required": ["id"], "properties": {
                                "id": {"type": "string"}, "name": {"type": "string"},
                                "shortDescription": {"$ref": "#/definitions/text"},
                                "fullDescription": {"$ref": "#/definitions/text"},
                                "help": {"$ref": "#/definitions/text"},
                                "defaultConfiguration": {"type": "object", "additionalProperties": False,
                                                         "properties": {"level": {"$ref": "#/definitions/level"}}},
                            }}}}}}},
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False, "required": ["message"], "properties": {
                        "ruleId": {"type": "string"}, "ruleIndex": {"type": "integer", "minimum": -1},
                        "level": {"$ref": "#/definitions/level"}, "message": {"$ref": "#/definitions/text"},
                        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                        "locations": {"type": "array", "items": {
                            "type": "object", "additionalProperties": False, "properties": {
                                "physicalLocation": {"type": "object", "additionalProperties": False, "properties": {
                                    "artifactLocation": {
                                        "type": "object", "additionalProperties": False,
                                        "properties": {"uri": {"type": "string", "format": "uri-reference"}}},
                                    "region": {
                                        "type": "object", "additionalProperties": False, "properties": {
                                            "startLine": {"type": "integer", "minimum": 1},
                                            "startColumn": {"type": "integer", "minimum": 1}}},
                                }}}}}}}},
            }}},
    },
    "definitions": {
        "text": {"type": "object", "additionalProperties": False, "required": ["text"],
                 "properties": {"text": {"type": "string"}}},
        "level": {"enum": ["none", "note", "warning", "error"]},
    },
}  # fmt: skip


def test_sarif_holds_its_schema_and_its_indices(report: CheckReport, hostile: CheckReport) -> None:
    for one in (report, hostile, CheckReport(findings=(), files=0, skipped=0, suppressed=0)):
        log = json.loads(renderer("sarif")(one))
        jsonschema.Draft7Validator(SARIF).validate(log)
        (run,) = log["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
            finding.problem.code for finding in one.findings
        ]
        prints = [result["partialFingerprints"]["kvcalc/v1"] for result in run["results"]]
        assert len(prints) == len(set(prints))


WHOLE_SCHEMA = os.environ.get("KVCALC_SARIF_SCHEMA")


@pytest.mark.skipif(WHOLE_SCHEMA is None, reason="KVCALC_SARIF_SCHEMA names no copy of OASIS's schema")
def test_sarif_holds_the_whole_schema(report: CheckReport, hostile: CheckReport) -> None:
    schema = json.loads(Path(WHOLE_SCHEMA or "").read_text("utf-8"))
    formats = jsonschema.FormatChecker()
    for one in (report, hostile, CheckReport(findings=(), files=0, skipped=0, suppressed=0)):
        log = json.loads(renderer("sarif")(one))
        jsonschema.Draft4Validator(schema, format_checker=formats).validate(log)
        assert log["$schema"] == schema["id"]


def test_sarif_uris_are_escaped(hostile: CheckReport) -> None:
    (result,) = json.loads(renderer("sarif")(hostile))["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("file:///")
    assert uri.endswith("/a%2Cb%3Ac%25%E2%80%AE.yaml")


GITLAB = {
    # docs.gitlab.com, "Code Quality report format"
    "type": "array", "items": {
        "type": "object", "additionalProperties": False,
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string"}, "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {"type": "object", "additionalProperties": False, "required": ["path", "lines"], "properties": {
                "path": {"type": "string", "pattern": "^[^.].*"},
                "lines": {"type": "object", "additionalProperties": False, "required": ["begin"],
                          "properties": {"begin": {"type": "integer", "minimum": 1}}}}},
        }},
}  # fmt: skip


def test_gitlab_holds_its_format_and_fingerprints_survive_a_move(tmp_path: Path, report: CheckReport) -> None:
    found = json.loads(renderer("gitlab")(report))
    jsonschema.validate(found, GITLAB)
    assert len({one["fingerprint"] for one in found}) == len(found) == len(report.findings)
    path = tmp_path / "tiny.yaml"
    prints = []
    for text in (plain(more="mtp: {}\nfoo: 1\n"), "# a line more\n" + plain(more="mtp: {}\nfoo: 1\n")):
        path.write_text(text)
        prints.append([one["fingerprint"] for one in json.loads(renderer("gitlab")(checked(path)))])
    assert prints[0] == prints[1]


def test_junit_counts_its_cases(report: CheckReport, hostile: CheckReport) -> None:
    nothing = CheckReport(findings=(), files=3, skipped=0, suppressed=0)
    for one in (report, hostile, nothing):
        root = ElementTree.fromstring(renderer("junit")(one))
        (suite,) = root
        cases = suite.findall("testcase")
        failures = suite.findall("testcase/failure")
        assert (root.tag, suite.tag) == ("testsuites", "testsuite")
        assert int(suite.attrib["tests"]) == len(cases) == max(1, len(one.findings))
        assert int(suite.attrib["failures"]) == len(failures)
        assert len(failures) == sum(f.problem.severity is not Severity.INFO for f in one.findings)
        assert len({case.attrib["name"] for case in cases}) <= len(cases)


def test_the_markdown_table_keeps_its_cells(hostile: CheckReport) -> None:
    (row,) = [line for line in renderer("markdown")(hostile).splitlines() if "KV010" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert "<b>" not in row
