"""Findings as a GitLab code quality report (docs.gitlab.com, "Code Quality report format")."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kvcalc.checks.engine import CheckReport
from kvcalc.problems import Severity
from kvcalc.render.findings.places import fingerprints, posix_path

SEVERITIES: Mapping[Severity, str] = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}


def render(report: CheckReport) -> str:
    """A JSON array."""
    problems = [finding.problem for finding in report.findings]
    found = [
        {
            "description": f"{problem.code} {problem.message}",
            "check_name": problem.code,
            "fingerprint": fingerprint,
            "severity": SEVERITIES[problem.severity],
            "location": {"path": posix_path(problem.path), "lines": {"begin": problem.line or 1}},
        }
        for problem, fingerprint in zip(problems, fingerprints(problems), strict=True)
    ]
    return json.dumps(found, indent=2, ensure_ascii=True) + "\n"
