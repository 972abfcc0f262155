"""Findings as SARIF 2.1.0 (OASIS Standard), for code scanning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kvcalc import __version__
from kvcalc.checks.engine import CheckReport
from kvcalc.checks.rule import Rule
from kvcalc.checks.table import RULES
from kvcalc.problems import Problem, Severity
from kvcalc.render.findings.places import fingerprints, posix_path, with_help

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Mapping[Severity, str] = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(report: CheckReport) -> str:
    """One run; rules are those that found something."""
    problems = [finding.problem for finding in report.findings]
    codes = sorted({problem.code for problem in problems})
    run = {
        "tool": {
            "driver": {
                "name": "kvcalc",
                "version": __version__,
                "rules": [_rule(RULES[code]) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(problem, codes.index(problem.code), fingerprint)
            for problem, fingerprint in zip(problems, fingerprints(problems), strict=True)
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=True) + "\n"


def _rule(rule: Rule[Any]) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why}\n\nkvcalc explain {rule.code}"},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(found: Problem, rule: int, fingerprint: str) -> dict[str, Any]:
    return {
        "ruleId": found.code,
        "ruleIndex": rule,
        "level": LEVELS[found.severity],
        "message": {"text": with_help(found)},
        "locations": [_location(found)],
        "partialFingerprints": {"kvcalc/v1": fingerprint},
    }


def _location(found: Problem) -> dict[str, Any]:
    path = posix_path(found.path) or "."
    region = {"startLine": found.line or 1, "startColumn": found.column or 1}
    uri = quote(path.encode("utf-8", "surrogateescape"))
    if path.startswith("/"):
        uri = f"file://{uri}"
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
