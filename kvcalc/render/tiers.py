"""The document of `tiers`."""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.render.document import Column, Document, Table, lengths_text, many
from kvcalc.tiers import Restore, TierLine, TiersReport, TileFit
from kvcalc.units import format_bytes, format_rate, format_seconds


def tiers_document(report: TiersReport) -> Document:
    """The ladder, what is left beside the weights, restore against recompute, and the tile that fits."""
    lengths = lengths_text(report.batch_size, report.seq_len, report.encoder_len)
    return Document(
        title=f"{report.model} on {report.gpu_name}: {lengths}, {report.kv_cache_dtype}",
        tables=tuple(table for table in (_ladder(report), _restores(report)) if table.rows),
        facts=tuple(_facts(report)),
        notes=tuple(_notes(report)),
        data=_data(report),
    )


def _ladder(report: TiersReport) -> Table:
    return Table(
        columns=(
            Column("tier", flexible=True), Column("holds"), Column("reads at"), Column("rests on"),
            Column("sequences"), Column("tokens of one"), Column("one step's read"), Column("tokens/s at most"),
        ),
        rows=tuple(_row(line) for line in report.tiers),
    )  # fmt: skip


def _row(line: TierLine) -> tuple[str | int | float | None, ...]:
    return (
        line.title,
        "" if line.capacity_bytes is None else format_bytes(line.capacity_bytes),
        "" if line.bytes_per_s is None else format_rate(line.bytes_per_s, "B/s"),
        line.basis,
        line.sequences,
        "any" if line.capacity_bytes is not None and line.tokens is None else line.tokens,
        "" if line.read_s is None else format_seconds(line.read_s),
        line.tokens_per_s_bound,
    )


def _restores(report: TiersReport) -> Table:
    titles = {line.name: line.title for line in report.tiers}
    return Table(
        title=f"one sequence of {many(report.seq_len, 'token')} ({format_bytes(report.bytes_per_sequence)}):"
        f" bring back, or compute again in {format_seconds(report.recompute_s or 0.0)}",
        columns=(
            Column("from", flexible=True), Column("bring back"), Column("pays"), Column("pays from", "tokens"),
        ),
        rows=tuple((titles[r.name], format_seconds(r.restore_s), r.faster, _from(r)) for r in report.restore),
    )  # fmt: skip


def _from(restore: Restore) -> str | int:
    return "never" if restore.break_even_tokens is None else restore.break_even_tokens


def _facts(report: TiersReport) -> Iterator[tuple[str, ...]]:
    yield "cache of the batch", f"{report.cache_bytes:,} B", f"= {format_bytes(report.cache_bytes)}"
    yield "one step reads", f"{report.read_bytes:,} B", f"= {format_bytes(report.read_bytes)}"
    if report.weight_bytes is not None and report.memory_left_bytes is not None:
        yield "weights", f"{report.weight_bytes:,} B", f"= {format_bytes(report.weight_bytes)}"
        if report.memory_left_bytes < 0:
            short = -report.memory_left_bytes
            yield "beside the weights", "they do not fit one GPU:", f"{short:,} B ({format_bytes(short)}) too much"
        else:
            left = report.memory_left_bytes
            room = report.memory_left_sequences
            held = "" if room is None else many(room, "sequence")
            yield "beside the weights", f"{left:,} B", f"= {format_bytes(left)}", held
    if report.break_even_bytes_per_s is not None:
        rate = format_rate(report.break_even_bytes_per_s, "B/s")
        yield "bringing back pays above", rate, "at this length"


def _notes(report: TiersReport) -> Iterator[str]:
    for tile in report.tiles:
        yield _tile_text(tile)
    quoted = [f"  {line.title}: {text}" for line in report.tiers for text in line.quoted]
    if quoted:
        yield "quoted elsewhere:\n" + "\n".join(quoted)
    yield "\n".join(report.assumptions)


def _tile_text(tile: TileFit) -> str:
    if not tile.keys:
        return f"FlashAttention tile of {tile.label}: {tile.queries} queries do not fit {format_bytes(tile.sram_bytes)}"
    return (
        f"FlashAttention tile of {tile.label}: {tile.queries} queries x {tile.keys} keys, two stages,"
        f" 16 bit: {tile.bytes:,} of {tile.sram_bytes:,} B of one SM"
        f" (algorithm 1 of the paper: {tile.paper_rows} x {tile.paper_columns})"
    )


def _data(report: TiersReport) -> Table:
    return Table(
        columns=(
            Column("model"), Column("gpu"), Column("batch_size"), Column("seq_len", "tokens"),
            Column("kv_cache_dtype"), Column("tier"), Column("capacity", "B"), Column("bandwidth", "B/s"),
            Column("basis"), Column("sequences"), Column("tokens_of_one_sequence", "tokens"), Column("read_bytes", "B"),
            Column("read_time_bound", "s"), Column("throughput_bound", "tokens/s"),
            Column("restore_time_bound", "s"), Column("break_even", "tokens"),
        ),
        rows=tuple(_data_row(report, line) for line in report.tiers),
    )  # fmt: skip


def _data_row(report: TiersReport, line: TierLine) -> tuple[str | int | float | None, ...]:
    back = next((restore for restore in report.restore if restore.name == line.name), None)
    return (
        report.model, report.gpu, report.batch_size, report.seq_len, report.kv_cache_dtype, line.name,
        line.capacity_bytes, line.bytes_per_s, line.basis, line.sequences, line.tokens, report.read_bytes,
        line.read_s, line.tokens_per_s_bound, back.restore_s if back else None,
        back.break_even_tokens if back else None,
    )  # fmt: skip
