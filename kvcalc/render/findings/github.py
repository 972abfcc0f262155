"""Findings as GitHub workflow commands: annotations on the lines at fault."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.checks.engine import CheckReport
from kvcalc.checks.table import RULES
from kvcalc.problems import Problem, Severity
from kvcalc.render.document import safe
from kvcalc.render.findings.places import posix_path, with_help

COMMANDS: Mapping[Severity, str] = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: CheckReport) -> str:
    """One command on each line (actions/toolkit, packages/core/src/command.ts, says how values are escaped)."""
    return "".join(_command(finding.problem) + "\n" for finding in report.findings)


def _command(found: Problem) -> str:
    properties = {
        "file": posix_path(found.path),
        "line": str(found.line or 1),
        "col": str(found.column or 1),
        "title": f"{found.code} {RULES[found.code].name}",
    }
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{COMMANDS[found.severity]} {listed}::{_data(with_help(found))}"


def _data(text: str) -> str:
    kept = "\n".join(safe(line) for line in text.splitlines())
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
