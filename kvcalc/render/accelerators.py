"""The document of `explain GPU`."""

from __future__ import annotations

from kvcalc.accelerators import AcceleratorExplanation, TierTheory
from kvcalc.render.document import Column, Document, Table
from kvcalc.units import format_bytes, format_rate


def accelerator_document(report: AcceleratorExplanation) -> Document:
    """The hierarchy with its theory, the ridge points, and every figure with its source."""
    also = f" (also {', '.join(report.aliases)})" if report.aliases else ""
    warning = ": announced, not on the market" if report.announced else ""
    rows = tuple((line.place, line.value, line.kind, line.source, line.note) for line in report.figures)
    columns = (
        Column("figure"), Column("value"), Column("known from"), Column("source", flexible=True),
        Column("note", flexible=True),
    )  # fmt: skip
    quotes = [
        f"{tier.tier}: {text}" for tier in report.tiers for text in (*map("measured {}".format, tier.measured),
                                                                     *map("quoted {}".format, tier.quoted))
    ]  # fmt: skip
    return Document(
        title=f"{report.full_name}: {report.name}{also}{warning}",
        tables=(_tiers(report), _ridges(report), Table(title="figures", columns=columns, rows=rows)),
        notes=(*(("\n".join(quotes),) if quotes else ()), *((report.notes,) if report.notes else ())),
        data=Table(columns=columns, rows=rows),
    )


def _tiers(report: AcceleratorExplanation) -> Table:
    return Table(
        columns=(Column("tier"), Column("holds"), Column(""), Column("reads at"), Column("theory", flexible=True)),
        rows=tuple(
            (
                tier.tier,
                "" if tier.capacity_bytes is None else format_bytes(tier.capacity_bytes),
                tier.capacity,
                "" if tier.bytes_per_s is None else f"{format_rate(tier.bytes_per_s, 'B/s')} ({tier.basis})",
                _theory(tier),
            )
            for tier in report.tiers
        ),
    )


def _theory(tier: TierTheory) -> str:
    if tier.theory_bytes_per_s is None:
        return ""
    return f"{tier.theory} = {format_rate(tier.theory_bytes_per_s, 'B/s')}"


def _ridges(report: AcceleratorExplanation) -> Table:
    return Table(
        columns=(Column("operands"), Column("peak, dense"), Column("ridge", "FLOP/B")),
        rows=tuple((dtype, format_rate(peak, "FLOP/s"), ridge) for dtype, peak, ridge in report.ridges),
    )
