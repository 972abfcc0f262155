"""The document of `roofline`."""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.render.document import Cell, Column, Document, Table, bar, lengths_text
from kvcalc.roofline import Point, RooflineReport
from kvcalc.units import format_bytes, format_rate, format_seconds


def roofline_document(report: RooflineReport) -> Document:
    """Each component under the roof, why attention is bound as it is, and the bound of the whole step."""
    counted = report.traffic
    lengths = lengths_text(counted.batch_size, counted.seq_len)
    what = "one decode step of" if counted.phase == "decode" else "prefill of"
    ranks = f", one rank of {counted.shards}" if counted.shards else ""
    return Document(
        title=f"{counted.model} on {report.gpu}: {what} {lengths}, {counted.kv_cache_dtype}{ranks}",
        tables=(_table(report),),
        facts=tuple(_facts(report)),
        notes=(*(_why(report, point) for point in report.points if point.what == "attention"),
               "\n".join(report.assumptions)),
        data=_data(report),
    )  # fmt: skip


def _name(point: Point) -> str:
    return f"{point.layers} x {point.name}" if point.layers else point.name


def _table(report: RooflineReport) -> Table:
    return Table(
        columns=(
            Column("component", flexible=True), Column("moves"), Column("FLOPs"), Column("intensity", "FLOP/B"),
            Column("ridge", "FLOP/B"), Column("bound by"), Column("time at least"), Column("share"),
        ),
        rows=tuple(
            (_name(p), format_bytes(p.bytes), format_rate(p.flops, "FLOP"), p.intensity, p.ridge, p.bound_by,
             format_seconds(p.seconds), _share(p.seconds, report.time.seconds))
            for p in sorted(report.points, key=lambda p: -p.seconds)
        ),
    )  # fmt: skip


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:4.1f} % {bar(part, whole)}".rstrip() if whole else ""


def _why(report: RooflineReport, point: Point) -> str:
    """`attention is bound by arithmetic: 241.7 FLOP/B against a ridge of 206`."""
    if point.intensity is None:
        return f"{_name(point)}: reads nothing of its own"
    what = "arithmetic" if point.bound_by == "compute" else "memory"
    sign = ">" if point.bound_by == "compute" else "<="
    rate = format_rate(report.flops_per_s[point.dtype], "FLOP/s")
    return (
        f"{_name(point)}: bound by {what}: {point.intensity:,.4g} FLOP/B {sign} ridge {point.ridge:,.4g} FLOP/B"
        f" ({rate} {point.dtype} / {format_rate(report.bytes_per_s, 'B/s')})"
    )


def _facts(report: RooflineReport) -> Iterator[tuple[str, ...]]:
    counted, time = report.traffic, report.time
    for name, size in (
        ("KV read", counted.kv_read_bytes), ("indexer read", counted.index_read_bytes),
        ("cross read", counted.cross_read_bytes), ("state read", counted.state_read_bytes),
        ("weights read", counted.weight_read_bytes),
    ):  # fmt: skip
        if size:
            yield name, f"{size:,} B", f"= {format_bytes(size)}"
    yield "written", f"{float(counted.written_bytes):,.0f} B", f"= {format_bytes(counted.written_bytes)}"
    if report.needed_bytes is not None and report.needed_bytes > report.memory_bytes:
        short = report.needed_bytes - report.memory_bytes
        yield "does not fit", f"{short:,} B", f"= {format_bytes(short)} too much for one GPU: a bound all the same"
    label = "TPOT" if counted.phase == "decode" else "TTFT"
    yield f"{label} bound", format_seconds(time.seconds), f"(all overlapped: {format_seconds(time.overlapped_seconds)})"
    yield "tokens/s bound", f"{report.tokens_per_s_bound:,.0f}", "of the whole batch"


def _data(report: RooflineReport) -> Table:
    counted = report.traffic
    shared: tuple[Cell, ...] = (
        counted.model, report.gpu, counted.phase, counted.batch_size, counted.seq_len, counted.kv_cache_dtype,
        counted.convention, counted.shards,
    )  # fmt: skip
    return Table(
        columns=(
            Column("model"), Column("gpu"), Column("phase"), Column("batch_size"), Column("seq_len", "tokens"),
            Column("kv_cache_dtype"), Column("convention"), Column("ranks"), Column("component"), Column("layers"),
            Column("bytes", "B"), Column("flops", "FLOP"), Column("dtype"), Column("intensity", "FLOP/B"),
            Column("ridge", "FLOP/B"), Column("memory_time", "s"), Column("compute_time", "s"),
            Column("time_bound", "s"), Column("bound_by"),
        ),
        rows=tuple(
            (*shared, p.name, p.layers, p.bytes, p.flops, p.dtype, p.intensity, p.ridge, p.memory_s, p.compute_s,
             p.seconds, p.bound_by)
            for p in report.points
        ),
    )  # fmt: skip
