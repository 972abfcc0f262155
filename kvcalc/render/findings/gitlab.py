"""Findings as a GitLab code quality report (docs.gitlab.com, "Code Quality report format")."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping

from kvcalc.checks.engine import CheckReport
from kvcalc.problems import Severity
from kvcalc.render.findings.places import posix_path

SEVERITIES: Mapping[Severity, str] = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}


def render(report: CheckReport) -> str:
    """A JSON array. Fingerprints hold no line numbers, so that a finding that moves stays the same."""
    seen: Counter[str] = Counter()
    found = []
    for problem in (finding.problem for finding in report.findings):
        path = posix_path(problem.path)
        base = f"{path}\n{problem.code}\n{problem.message}"
        seen[base] += 1
        fingerprint = hashlib.sha256(f"{base}\n{seen[base]}".encode("utf-8", "surrogatepass")).hexdigest()
        found.append(
            {
                "description": f"{problem.code} {problem.message}",
                "check_name": problem.code,
                "fingerprint": fingerprint,
                "severity": SEVERITIES[problem.severity],
                "location": {"path": path, "lines": {"begin": problem.line or 1}},
            }
        )
    return json.dumps(found, indent=2, ensure_ascii=True) + "\n"
