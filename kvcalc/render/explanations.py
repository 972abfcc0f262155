"""Documents of `explain`."""

from __future__ import annotations

from kvcalc.explanation import ExplainedGroup, FormatExplanation, KindExplanation, ModelExplanation
from kvcalc.render.document import Column, Document, Table
from kvcalc.render.footprints import growth_text, workload_text
from kvcalc.units import format_bytes


def model_document(report: ModelExplanation) -> Document:
    """Each layer group's steps, the total, the sources."""
    counted = report.footprint
    total = report.total
    rows = [
        (group.title, step.name, step.formula, step.with_numbers, step.value, step.unit)
        for group in report.groups
        for step in group.steps
    ]
    notes = [_group_text(group) for group in report.groups]
    notes.append(
        f"{total.name} = {total.formula}\n  = {total.with_numbers}\n  = {total.value:,} B = {format_bytes(total.value)}"
    )
    notes.append(f"one sequence of S tokens: {growth_text(counted.growth)}")
    if report.sources:
        notes.append("sources of this spec:\n" + "\n".join(f"  {source}" for source in report.sources))
    if report.notes:
        notes.append(f"note: {report.notes}")
    columns = tuple(Column(name) for name in ("group", "step", "formula", "with_numbers", "value", "unit"))
    return Document(
        title=f"{counted.model}: {workload_text(counted)}",
        notes=tuple(notes),
        data=Table(columns=columns, rows=tuple(rows)),
    )


def _group_text(group: ExplainedGroup) -> str:
    lines = [group.title]
    for step in group.steps:
        steps = dict.fromkeys([step.formula, step.with_numbers, f"{step.value:,}"])
        unit = "row" if step.value == 1 and step.unit == "rows" else step.unit
        lines.append(f"  {step.name} = {' = '.join(steps)} {unit}")
    if not group.steps:
        lines.append("  keeps nothing")
    if group.source:
        lines.append(f"  source: {group.source}")
    return "\n".join(lines)


def kind_document(report: KindExplanation) -> Document:
    """A kind's text and source."""
    columns = (Column("kind"), Column("summary"), Column("source"))
    return Document(
        title=f"{report.name}: {report.summary}",
        notes=(report.text, f"source: {report.source}"),
        data=Table(columns=columns, rows=((report.name, report.summary, report.source),)),
    )


def format_document(report: FormatExplanation) -> Document:
    """A format's layouts."""
    rows = tuple((layout.applies_to, layout.summary, layout.formula, layout.source) for layout in report.layouts)
    notes = [f"{where}: {summary}\n  bytes = {formula}\n  source: {source}" for where, summary, formula, source in rows]
    notes.append("rows: kept rows; heads: KV heads; width: elements of one head's row")
    columns = (Column("stream"), Column("summary"), Column("bytes"), Column("source"))
    return Document(
        title=f"{report.name}: {report.summary}", notes=tuple(notes), data=Table(columns=columns, rows=rows)
    )
