"""Documents of `size`."""

from __future__ import annotations

from kvcalc.footprint import Footprint, GroupBytes, Growth
from kvcalc.render.document import Cell, Column, Document, Table, lengths_text
from kvcalc.sizing import SizeReport
from kvcalc.units import format_bytes


def workload_text(counted: Footprint) -> str:
    """`8 sequences x 32,768 tokens, bf16`."""
    return f"{lengths_text(counted.batch_size, counted.seq_len, counted.encoder_len)}, {counted.kv_cache_dtype}"


def growth_text(grown: Growth) -> str:
    """`0 B + 2,621,440 B x tokens`, and from when on."""
    if grown.step_bytes == 0:
        return f"{grown.fixed_bytes:,} B at any length" + (
            f" from {grown.from_tokens:,} on" if grown.from_tokens else ""
        )
    per = "x tokens" if grown.step_tokens == 1 else f"per {grown.step_tokens:,} tokens"
    start = f" (from {grown.from_tokens:,} tokens on)" if grown.from_tokens > 1 else ""
    return f"{grown.fixed_bytes:,} B + {grown.step_bytes:,} B {per}{start}"


def slope(grown: Growth) -> int | float:
    """Bytes per token; a float only where that is no whole number (strides, sub-byte rows)."""
    whole, rest = divmod(grown.step_bytes, grown.step_tokens)
    return grown.step_bytes / grown.step_tokens if rest else whole


def size_document(report: SizeReport) -> Document:
    """One table per model, its totals, and a flat table of all groups for CSV."""
    single = len(report.models) == 1
    title = f"{report.models[0].model}: {workload_text(report.models[0])}" if single else "KV cache"
    tables = tuple(
        _size_table(counted, "" if single else f"{counted.model}: {workload_text(counted)}")
        for counted in report.models
    )
    facts = tuple(row for counted in report.models for row in _size_facts(counted, "" if single else counted.model))
    return Document(title=title, tables=tables, facts=facts, data=_size_data(report))


def per_layer_document(report: SizeReport) -> Document:
    """One line per layer of every model, in the order of the layers."""
    lines: list[tuple[Cell, ...]] = []
    for counted in report.models:
        parts = {index: part for part in counted.groups for index in part.layers}
        for index, part in sorted(parts.items()):
            each = part.bytes_per_layer
            lines.append((counted.model, index, part.label, _rows_text(part), each, counted.batch_size * each))
    columns = (
        Column("model"), Column("layer"), Column("attention", flexible=True), Column("rows kept"),
        Column("bytes/sequence", "B"), Column("bytes", "B"),
    )  # fmt: skip
    shown = size_document(report)
    return Document(title=shown.title, tables=(Table(columns=columns, rows=tuple(lines)),), facts=shown.facts)


def _size_table(counted: Footprint, title: str) -> Table:
    return Table(
        title=title,
        columns=(
            Column("layers"),
            Column("attention", flexible=True),
            Column("rows kept"),
            Column("bytes/layer", "B"),
            Column("bytes", "B"),
        ),
        rows=tuple(
            (len(part.layers), part.label, _rows_text(part), part.bytes_per_layer, part.bytes)
            for part in counted.groups
        ),
    )


def _rows_text(part: GroupBytes) -> str:
    return ", ".join(dict.fromkeys(f"{stream.rows:,}" for stream in part.streams)) or "none"


def _size_facts(counted: Footprint, model: str) -> tuple[tuple[str, ...], ...]:
    def line(name: str, value: int, note: str = "") -> tuple[str, ...]:
        return (model, name, f"{value:,} B", f"= {format_bytes(value)}" if value >= 1024 else "", note)[
            0 if model else 1 :
        ]

    parts = [line("logical", counted.logical_bytes)]
    if counted.index_bytes:
        parts.append(line("of which indexer", counted.index_bytes))
    if counted.cross_bytes:
        parts.append(line("of which cross", counted.cross_bytes))
    if counted.state_bytes:
        parts.append(line("of which state", counted.state_bytes))
    parts.append(line("per sequence", counted.bytes_per_sequence))
    formula = (model, "growth", growth_text(counted.growth))[0 if model else 1 :]
    return (*parts, formula)


def _size_data(report: SizeReport) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for counted in report.models:
        shared: tuple[Cell, ...] = (
            counted.model,
            counted.batch_size,
            counted.seq_len,
            counted.encoder_len,
            counted.kv_cache_dtype,
        )
        rows += [
            (*shared, part.label, len(part.layers), part.bytes_per_layer, part.bytes, part.growth.fixed_bytes,
             slope(part.growth))
            for part in counted.groups
        ]  # fmt: skip
    return Table(
        columns=(
            Column("model"), Column("batch_size"), Column("seq_len", "tokens"), Column("encoder_len", "tokens"),
            Column("kv_cache_dtype"), Column("attention"), Column("layers"),
            Column("bytes_per_layer_and_sequence", "B"), Column("bytes", "B"),
            Column("fixed_bytes_per_sequence", "B"), Column("slope", "B/token"),
        ),
        rows=tuple(rows),
    )  # fmt: skip
