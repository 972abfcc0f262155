"""Documents of `compare`."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.comparison import CompareReport
from kvcalc.render.document import Column, Document, Table, lengths_text
from kvcalc.render.footprints import slope


def compare_document(report: CompareReport) -> Document:
    """Slope, fixed part, bytes and ratio of every candidate."""
    first = report.rows[0].footprint
    rows = tuple(
        (
            row.label,
            row.footprint.kv_cache_dtype,
            slope(row.footprint.growth),
            row.footprint.growth.fixed_bytes,
            row.footprint.logical_bytes,
            row.ratio,
        )
        for row in report.rows
    )
    human = tuple(
        (label, dtype, per_token, fixed, total, _percent(ratio), _percent(None if ratio is None else 1 - ratio))
        for label, dtype, per_token, fixed, total, ratio in rows
    )
    later = [
        f"{row.label} from {row.footprint.growth.from_tokens:,} tokens on"
        for row in report.rows
        if row.footprint.growth.from_tokens > row.footprint.seq_len
    ]
    return Document(
        notes=(f"slope and fixed part hold for {', '.join(later)}",) if later else (),
        title=lengths_text(first.batch_size, first.seq_len, first.encoder_len),
        tables=(
            Table(
                columns=(
                    Column("model", flexible=True), Column("format", flexible=True), Column("slope", "B/token"),
                    Column("fixed", "B"), Column("bytes", "B"), Column("of first"), Column("saved"),
                ),
                rows=human,
            ),
        ),
        data=Table(
            columns=(
                Column("model"), Column("kv_cache_dtype"), Column("slope", "B/token"),
                Column("fixed_bytes_per_sequence", "B"), Column("bytes", "B"), Column("ratio_to_first"),
            ),
            rows=rows,
        ),
    )  # fmt: skip


def _percent(ratio: Fraction | None) -> str:
    """`6.66 %`, `71.1 x` from tenfold on; nothing for less than nothing."""
    if ratio is None or ratio < 0:
        return ""
    return f"{float(ratio):.4g} x" if ratio >= 10 else f"{float(ratio * 100):.4g} %"
