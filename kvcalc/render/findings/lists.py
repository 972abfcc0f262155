"""Findings as JSON and CSV."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.checks.engine import CheckReport
from kvcalc.checks.table import RULES
from kvcalc.render import machine
from kvcalc.render.document import Cell, Column, Document, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One finding."""

    code: str
    rule: str
    severity: str
    path: str | None
    line: int | None
    column: int | None
    message: str
    help: str | None
    fixable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The JSON report."""

    files: int
    skipped: int
    suppressed: int
    failed: bool
    findings: tuple[Item, ...]


def items(report: CheckReport) -> tuple[Item, ...]:
    """The findings, flat."""
    return tuple(
        Item(
            code=found.code, rule=RULES[found.code].name, severity=found.severity.value, path=found.path,
            line=found.line, column=found.column, message=found.message, help=found.help, fixable=fix is not None,
        )
        for found, fix in ((finding.problem, finding.fix) for finding in report.findings)
    )  # fmt: skip


def render_json(report: CheckReport) -> str:
    """One object, with `schema_version`."""
    flat = Checked(
        files=report.files, skipped=report.skipped, suppressed=report.suppressed, failed=report.failed,
        findings=items(report),
    )  # fmt: skip
    return machine.render_json("check", flat)


def render_csv(report: CheckReport) -> str:
    """A line for each finding."""
    names = ("code", "rule", "severity", "path", "line", "column", "message", "help", "fixable")
    rows: tuple[tuple[Cell, ...], ...] = tuple(tuple(getattr(item, name) for name in names) for item in items(report))
    table = Table(columns=tuple(Column(name) for name in names), rows=rows)
    return machine.render_csv(Document(title="", tables=(table,)))
