"""The document of `fit`: what given GPUs hold, then every layout of them."""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.plan.report import FitLine, FitReport
from kvcalc.render.document import Column, Document, Table, many
from kvcalc.render.plan_tables import (
    BYTES_FIELDS,
    LAYOUT,
    LAYOUT_FIELDS,
    Fields,
    cut,
    lean,
    ledger_table,
    log_text,
    merged,
    nodes_text,
    table_of,
    why,
)

LAYOUTS = 12
"""Rows of the table unless details are asked for."""


def fit_document(report: FitReport, *, details: bool = False) -> Document:
    """What the best layout holds, all layouts side by side, and one GPU's memory."""
    tables: list[Table] = []
    notes = [f"note: {text}" for text in report.assumptions]
    if report.lines:
        first, layouts = report.lines[0], _layouts(report)
        if len(report.lines) > 1:
            tables.append(layouts if details else cut(layouts, LAYOUTS))
        tables.append(ledger_table(first.ledger, f"{report.gpu}, {first.label}, {_each(first)}", details=details))
    nodes = nodes_text(report.gpus, report.node_size)
    return Document(
        title=f"{report.model} on {report.gpus:,} x {report.gpu} ({nodes}) in {report.engine}"
        f" {report.engine_version}, {report.kv_cache_dtype} cache",
        answer=tuple(_answer(report)),
        tables=tuple(tables),
        notes=tuple(text for text in ("\n".join(notes), _log(report)) if text),
        data=_data(report),
    )


def _each(line: FitLine) -> str:
    return "1 sequence" if line.layout.data == 1 else "1 sequence per data rank"


def _answer(report: FitReport) -> Iterator[tuple[str, ...]]:
    if not report.lines:
        yield from _missing(report)
        return
    first = report.lines[0]
    encoder = f" (+ {report.encoder_len:,} encoder tokens)" if report.encoder_len else ""
    yield "most", f"{many(first.max_batch_size, 'sequence')} of {report.seq_len:,} tokens{encoder}: {first.label}"
    longest = max(report.lines, key=lambda line: line.max_seq_len)
    sequences = many(report.batch_size, "sequence")
    if longest.max_seq_len:
        whole = ", the model's whole context" if longest.max_seq_len == report.context else ""
        yield "longest", f"{sequences} of {longest.max_seq_len:,} tokens{whole}: {longest.label}"
    else:
        yield "longest", f"{sequences} do not fit, however short"
    if first.tokens is not None and first.concurrency is not None:
        counted = f"{first.concurrency:,.2f} requests of {report.seq_len:,} tokens"
        yield "cache", f"{first.tokens:,} tokens; {report.engine} counts {counted} at once"


def _missing(report: FitReport) -> Iterator[tuple[str, ...]]:
    if report.shortage is not None:
        yield "does not fit", why(report.shortage)
        if report.shortage.short_bytes:
            yield "memory", report.shortage.detail
    yield "what would", "kvcalc plan says how many GPUs would do"


def _layouts(report: FitReport) -> Table:
    fields: Fields[FitLine] = (
        (LAYOUT, lambda line: line.label),
        (Column(f"sequences of {report.seq_len:,}"), lambda line: line.max_batch_size),
        (Column(f"tokens of {many(report.batch_size, 'sequence')}"), lambda line: line.max_seq_len),
        (Column("cache", "tokens"), lambda line: line.tokens),
        (Column("requests at once"), lambda line: line.concurrency),
    )
    return merged(lean(table_of(fields, report.lines, "layouts, most sequences first"), [fields[2][0].name]))


def _log(report: FitReport) -> str:
    return log_text(report.engine, report.lines[0].label, report.lines[0].log_lines) if report.lines else ""


def _data(report: FitReport) -> Table:
    fields: Fields[FitLine] = (
        (Column("model"), lambda line: report.model),
        (Column("gpu"), lambda line: report.gpu),
        (Column("gpus"), lambda line: report.gpus),
        (Column("layout"), lambda line: line.label),
        *LAYOUT_FIELDS,
        (Column("max_batch_size"), lambda line: line.max_batch_size),
        (Column("at_seq_len", "tokens"), lambda line: report.seq_len),
        (Column("max_seq_len", "tokens"), lambda line: line.max_seq_len),
        (Column("at_batch_size"), lambda line: report.batch_size),
        (Column("capacity", "tokens"), lambda line: line.tokens),
        (Column("concurrency"), lambda line: line.concurrency),
        *BYTES_FIELDS,
    )
    return table_of(fields, report.lines)
