"""Findings as SARIF 2.1.0 (OASIS Standard), for code scanning."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kvcalc import __version__
from kvcalc.checks.engine import CheckReport
from kvcalc.checks.rule import Finding, Rule
from kvcalc.checks.table import RULES
from kvcalc.problems import Problem, Severity
from kvcalc.render.findings.places import posix_path

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Mapping[Severity, str] = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(report: CheckReport) -> str:
    """One run; rules are those that found something."""
    codes = sorted({finding.problem.code for finding in report.findings})
    seen: Counter[str] = Counter()
    run = {
        "tool": {
            "driver": {
                "name": "kvcalc",
                "version": __version__,
                "rules": [_rule(RULES[code]) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, codes, seen) for finding in report.findings],
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


def _result(finding: Finding, codes: list[str], seen: Counter[str]) -> dict[str, Any]:
    found = finding.problem
    text = found.message if found.help is None else f"{found.message}\n{found.help}"
    base = f"{posix_path(found.path)}\n{found.code}\n{found.message}"
    seen[base] += 1
    print_of = hashlib.sha256(f"{base}\n{seen[base]}".encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "ruleId": found.code,
        "ruleIndex": codes.index(found.code),
        "level": LEVELS[found.severity],
        "message": {"text": text},
        "locations": [_location(found)],
        "partialFingerprints": {"kvcalc/v1": print_of},
    }


def _location(found: Problem) -> dict[str, Any]:
    path = posix_path(found.path) or "."
    region = {"startLine": found.line or 1, "startColumn": found.column or 1}
    uri = quote(path.encode("utf-8", "surrogateescape"))
    if path.startswith("/"):
        uri = f"file://{uri}"
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
