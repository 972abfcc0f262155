"""The document of `diff`: before, after and change, fit for a pull-request comment."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.diffing import DiffReport, ModelChange, Side
from kvcalc.render.document import Cell, Column, Document, Table
from kvcalc.units import format_bytes


def diff_document(report: DiffReport) -> Document:
    """One line for each model and figure that differs; a line that says so where none does."""
    length = "each model's context" if report.seq_len is None else f"{report.seq_len:,} tokens"
    title = f"KV cache: {report.batch_size:,} x {length}, {report.kv_cache_dtype}"
    rows = [row for model in report.models for row in _rows(model, report)]
    same = sum(not model.changes_bytes for model in report.models)
    notes = [f"{same:,} of {len(report.models):,} models keep their bytes"] if same or not report.models else []
    if report.gpu:
        notes.append(f"GPUs: the fewest {report.gpu} whose memory adds up to weights and cache, with nothing to spare")
    columns = (Column("model"), Column("figure"), Column("before"), Column("after"), Column("change"))
    tables = (Table(columns=columns, rows=tuple(rows)),) if rows else ()
    return Document(title=title, tables=tables, notes=tuple(notes), data=_data(report))


def _rows(change: ModelChange, report: DiffReport) -> list[tuple[Cell, ...]]:
    if change.old is None or change.new is None:
        word = "added" if change.old is None else "removed"
        only = change.new or change.old
        assert only is not None
        shown = [(figure, value) for figure, value in _figures(only, report) if value is not None]
        return [
            (change.model, figure, None if change.old is None else value, None if change.new is None else value, word)
            for figure, value in ((figure, _shown(figure, value)) for figure, value in shown)
        ]
    rows: list[tuple[Cell, ...]] = []
    for (figure, old), (_, new) in zip(_figures(change.old, report), _figures(change.new, report), strict=True):
        if old != new:
            rows.append((change.model, figure, _shown(figure, old), _shown(figure, new), _change(old, new)))
    return rows


def _figures(side: Side, report: DiffReport) -> tuple[tuple[str, Fraction | int | None], ...]:
    return (
        ("context", side.seq_len if report.seq_len is None else None),
        ("B/token", side.bytes_per_token),
        ("fixed B", side.fixed_bytes),
        (f"B at batch {report.batch_size:,}", side.logical_bytes),
        *((("GPUs", side.gpus),) if report.gpu else ()),
    )


def _shown(figure: str, value: Fraction | int | None) -> str | None:
    if value is None:
        return None
    exact = Fraction(value)
    text = f"{exact.numerator:,}" if exact.denominator == 1 else f"{float(exact):,.2f}"
    return f"{text} ({format_bytes(exact.numerator)})" if figure.startswith("B at") and exact >= 1024 else text


def _change(old: Fraction | int | None, new: Fraction | int | None) -> str | None:
    if old is None or new is None:
        return None
    step = Fraction(new) - Fraction(old)
    text = f"{'+' if step > 0 else '-'}{_shown('', abs(step))}"
    return text + (f" ({float(step / Fraction(old) * 100):+.4g} %)" if old else "")


def _data(report: DiffReport) -> Table:
    """One line for each model, with bare numbers."""
    names = ("context", "bytes_per_token", "fixed_bytes", "bytes", *(("gpus",) if report.gpu else ()))
    empty: tuple[Cell, ...] = (None,) * len(names)

    def cells(side: Side | None) -> tuple[Cell, ...]:
        if side is None:
            return empty
        values: tuple[Cell, ...] = (
            side.seq_len, side.bytes_per_token, side.fixed_bytes, side.logical_bytes, side.gpus,
        )  # fmt: skip
        return values[: len(names)]

    columns = (Column("model"), *(Column(f"{when}_{name}") for when in ("old", "new") for name in names))
    return Table(columns=columns, rows=tuple((m.model, *cells(m.old), *cells(m.new)) for m in report.models))
