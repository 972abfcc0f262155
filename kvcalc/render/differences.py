"""The document of `diff`: before, after and change, fit for a pull-request comment."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from kvcalc.diffing import DiffReport, ModelChange, Needed, Side
from kvcalc.render.document import Cell, Column, Document, Table
from kvcalc.units import format_bytes

Figure = Fraction | int | str | Needed | None


def diff_document(report: DiffReport) -> Document:
    """One line for each model and figure that differs; a line that says so where none does."""
    rows = [row for model in report.models for row in _rows(model)]
    same = sum(not model.changes_figures for model in report.models)
    notes = [f"{same:,} of {len(report.models):,} models keep their bytes"] if same else []
    if not report.models:
        notes = ["no spec or plan differs"]
    if report.engine:
        notes.append(
            f"GPUs: the fewest that the planner finds for weights and cache, by the rules of {report.engine}; "
            "a speed that is asked for is held against bounds"
        )
    columns = (Column("model"), Column("figure"), Column("before"), Column("after"), Column("change"))
    tables = (Table(columns=columns, rows=tuple(rows)),) if rows else ()
    return Document(title=_title(report), tables=tables, notes=tuple(notes), data=_data(report))


def _title(report: DiffReport) -> str:
    length = "each model's context" if report.seq_len is None else f"{report.seq_len:,} tokens"
    batch = "a rate of requests" if report.batch_size is None else f"{report.batch_size:,}"
    return f"KV cache: {batch} x {length}, {report.kv_cache_dtype}"


def _rows(change: ModelChange) -> list[tuple[Cell, ...]]:
    if change.old is None or change.new is None:
        word, side = ("added", change.new) if change.old is None else ("removed", change.old)
        assert side is not None
        shown = {figure: _shown(figure, value) for figure, value in _figures(side).items() if value is not None}
        return [
            (change.model, figure, None if change.old is None else text, None if change.new is None else text, word)
            for figure, text in shown.items()
        ]
    old, new = _figures(change.old), _figures(change.new)
    figures = [figure for figure in dict.fromkeys((*old, *new)) if old.get(figure) != new.get(figure)]
    if figures:  # then it is worth a line that the GPUs stay as many
        figures = [*(f for f in figures if not f.startswith("GPUs")), *(f for f in {**old, **new} if f[:4] == "GPUs")]
    return [
        (change.model, figure, _shown(figure, old.get(figure)), _shown(figure, new.get(figure)),
         _change(old.get(figure), new.get(figure)))
        for figure in figures
    ]  # fmt: skip


TOTAL = "B of the batch"


def _figures(side: Side) -> Mapping[str, Figure]:
    """What is shown of a side where it differs, by its name in the table."""
    return {
        "format": side.kv_cache_dtype,
        "batch": side.batch_size,
        "tokens": side.seq_len,
        "B/token": side.bytes_per_token,
        "fixed B": side.fixed_bytes,
        TOTAL: side.logical_bytes,
        **{f"GPUs ({needed.gpu})": needed for needed in side.needed},
    }


def _shown(figure: str, value: Figure) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Needed):
        return "too few" if value.gpus is None else f"{value.gpus:,} ({value.label})"
    exact = Fraction(value)
    text = f"{exact.numerator:,}" if exact.denominator == 1 else f"{float(exact):,.2f}"
    return f"{text} ({format_bytes(exact.numerator)})" if figure == TOTAL and exact >= 1024 else text


def _change(old: Figure, new: Figure) -> str | None:
    if isinstance(old, Needed) and isinstance(new, Needed):
        if old == new:
            return "as before"
        old, new = old.gpus, new.gpus
    if not isinstance(old, Fraction | int) or not isinstance(new, Fraction | int):
        return None
    step = Fraction(new) - Fraction(old)
    if not step:
        return "another layout"
    text = f"{'+' if step > 0 else '-'}{_shown('', abs(step))}"
    return text + (f" ({_percent(step / Fraction(old))})" if old else "")


def _percent(share: Fraction) -> str:
    """Of four digits, and no exponent."""
    percent = float(share * 100)
    return f"{percent:+,.0f} %" if abs(percent) >= 1000 else f"{percent:+.4g} %"


def _data(report: DiffReport) -> Table:
    """One line for each model, with bare numbers."""
    needs = tuple(f"{gpu}_gpus" for gpu in report.gpus)
    names = ("batch", "seq_len", "kv_cache_dtype", "bytes_per_token", "fixed_bytes", "bytes", *needs)

    def cells(side: Side | None) -> tuple[Cell, ...]:
        if side is None:
            return (None,) * len(names)
        needed = {each.gpu: each.gpus for each in side.needed}
        return (
            side.batch_size, side.seq_len, side.kv_cache_dtype, side.bytes_per_token, side.fixed_bytes,
            side.logical_bytes, *(needed.get(gpu) for gpu in report.gpus),
        )  # fmt: skip

    columns = (Column("model"), *(Column(f"{when}_{name}") for when in ("old", "new") for name in names))
    return Table(columns=columns, rows=tuple((m.model, *cells(m.old), *cells(m.new)) for m in report.models))
