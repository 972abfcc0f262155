"""Findings as JUnit XML: one test case for each finding, so that a CI system lists them as failures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from kvcalc.checks.engine import CheckReport
from kvcalc.problems import Problem, Severity
from kvcalc.render.document import safe
from kvcalc.render.findings.places import posix_path
from kvcalc.render.problems import render_problem

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow."""


def render(report: CheckReport) -> str:
    """Remarks are listed as passed; a run without findings is one passed case."""
    failures = sum(finding.problem.severity is not Severity.INFO for finding in report.findings)
    cases = max(1, len(report.findings))
    totals = {"name": "kvcalc check", "tests": str(cases), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {**totals, "skipped": "0", "time": "0"})
    if not report.findings:
        ElementTree.SubElement(suite, "testcase", {"name": "no findings", "classname": "kvcalc", "time": "0"})
    for finding in report.findings:
        _case(suite, finding.problem)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, found: Problem) -> None:
    path = posix_path(found.path)
    attributes = {
        "name": _xml(f"{found.code} {path}:{found.line or 1}:{found.column or 1}"),
        "classname": _xml(path or "kvcalc"),
        "file": _xml(path),
        "line": str(found.line or 1),
        "time": "0",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    text = _xml(render_problem(found))
    if found.severity is Severity.INFO:
        ElementTree.SubElement(case, "system-out").text = text
    else:
        failure = {"message": _xml(f"{found.code} {found.message}"), "type": found.severity.value}
        ElementTree.SubElement(case, "failure", failure).text = text


def _xml(text: str) -> str:
    return _NOT_XML.sub("", safe(text))
