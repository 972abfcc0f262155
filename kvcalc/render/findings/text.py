"""Findings for people: with the line at fault, on one line each, or as Markdown for a CI job's summary."""

from __future__ import annotations

from collections import Counter

from kvcalc.checks.engine import CheckReport
from kvcalc.problems import Severity
from kvcalc.render.document import Column, Document, Table, many, one_line
from kvcalc.render.problems import render_problem
from kvcalc.render.text import render_markdown

MAX_ROWS = 200
"""Of a summary: a CI system cuts it at 1 MiB."""


def render_full(report: CheckReport) -> str:
    """Each finding with its line, a caret, and what to do."""
    blocks = [render_problem(finding.problem) + "\n" for finding in report.findings]
    return "\n".join([*blocks, verdict(report) + "\n"])


def render_concise(report: CheckReport) -> str:
    """One line for each finding; `[*]` marks what --fix repairs."""
    lines = []
    for finding in report.findings:
        problem = finding.problem
        star = "[*] " if finding.fix else ""
        lines.append(one_line(f"{problem.place}: {problem.code} {star}{problem.message}"))
    return "\n".join([*lines, verdict(report)]) + "\n"


def verdict(report: CheckReport) -> str:
    """`2 errors, 1 warning in 97 files (1 fixable with --fix)`."""
    counts = Counter(finding.problem.severity for finding in report.findings)
    words = [many(counts[severity], word) for severity, word in _WORDS if counts[severity]]
    files = many(report.files, "file")
    text = f"{', '.join(words)} in {files}" if words else f"{files} checked, nothing found"
    fixable = sum(finding.fix is not None for finding in report.findings)
    asides = [f"{fixable:,} fixable with --fix"] if fixable else []
    asides += [f"{report.suppressed:,} silenced by comments"] if report.suppressed else []
    asides += [f"{many(report.skipped, 'other YAML file')} passed over"] if report.skipped else []
    return text + (f" ({'; '.join(asides)})" if asides else "")


_WORDS = ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "remark"))


def render_summary(report: CheckReport) -> str:
    """A Markdown table, for a job summary or a comment."""
    rows = tuple(
        (found.place, found.code, found.severity.value, found.message, found.help or "")
        for found in (finding.problem for finding in report.findings[:MAX_ROWS])
    )
    columns = (Column("place"), Column("code"), Column("severity"), Column("finding"), Column("help"))
    left_out = len(report.findings) - len(rows)
    notes = (verdict(report), *((f"{left_out:,} more are not shown here",) if left_out else ()))
    tables = (Table(columns=columns, rows=rows),) if rows else ()
    return render_markdown(Document(title="kvcalc check", tables=tables, notes=notes))
