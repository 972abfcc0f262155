"""Reports for machines: JSON and CSV, byte-identical across runs, locales and terminals."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

from kvcalc.render.document import Cell, Document, Table, one_line

SCHEMA_VERSION = 1


def plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as JSON's own types; integers stay exact."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return str(value) if isinstance(value, str) else value


def render_json(name: str, report: Any) -> str:
    """`{"schema_version": 1, "report": name, ...fields of the report}`."""
    body = {"schema_version": SCHEMA_VERSION, "report": name, **plain(report)}
    return json.dumps(body, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def render_csv(document: Document) -> str:
    """One table with bare numbers; the unit stands in the heading (`bytes [B]`)."""
    import csv
    import io

    table = document.data or (document.tables[0] if document.tables else Table(columns=(), rows=()))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in table.columns])
    writer.writerows([[bare(value) for value in row] for row in table.rows])
    return out.getvalue()


def bare(value: Cell) -> str:
    """A value as a CSV cell: digits ungrouped, an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else repr(float(value))
    text = one_line(value) if isinstance(value, str) else repr(value)
    # A spreadsheet would run a cell that starts like a formula.
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
