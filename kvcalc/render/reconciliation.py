"""The document of `reconcile`."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.reconcile.report import ReconcileReport
from kvcalc.render.document import Cell, Column, Document, Table

FLAGS: Mapping[str, str] = {
    "tensor": "tensor-parallel-size",
    "pipeline": "pipeline-parallel-size",
    "data": "data-parallel-size",
    "decode_context": "decode-context-parallel-size",
}
"""Settings that a user knows by another name."""


def reconcile_document(report: ReconcileReport) -> Document:
    """Predicted beside printed, the settings behind it, and what would explain a difference."""
    verdict = "agrees" if report.agrees else "DISAGREES"
    rows: list[tuple[Cell, ...]] = [
        (c.name, c.predicted, c.printed, c.unit, "yes" if c.agrees else "NO", c.line, c.note)
        for c in report.comparisons
    ]
    columns = (
        Column("figure"), Column("predicted"), Column("printed"), Column("unit"), Column("agrees"),
        Column("line"), Column("note", flexible=True),
    )  # fmt: skip
    facts = tuple((FLAGS.get(s.name, s.name.replace("_", "-")), s.value, f"({s.origin})") for s in report.settings)
    notes = [f"would agree with: {e.change}" for e in report.explanations]
    notes += [f"note: {note}" for note in report.notes]
    return Document(
        title=f"{report.model} in {report.engine} {report.version}: the log {verdict} with the prediction",
        tables=(Table(columns=columns, rows=tuple(rows)),),
        facts=facts,
        notes=("\n".join(notes),) if notes else (),
    )
