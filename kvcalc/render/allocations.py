"""Documents of `size --engine`: what is reserved, why, on which rank, and what a budget yields."""

from __future__ import annotations

from kvcalc.engines.base import Allocation, Capacity, Waste
from kvcalc.engines.budgets import Budget, Overhead
from kvcalc.engines.sizing import EngineSize, EngineSizeReport
from kvcalc.render.document import Cell, Column, Document, Table, lengths_text
from kvcalc.units import format_bytes

Fact = tuple[str, ...]


def _bytes(name: str, value: int, note: str = "") -> Fact:
    return (name, f"{value:,} B", f"= {format_bytes(value)}" if value >= 1024 else "", note)


def _heading(found: Allocation) -> str:
    lengths = lengths_text(found.batch_size, found.seq_len)
    return f"{found.model} in {found.engine} {found.version}: {lengths}, {found.kv_cache_dtype}"


def allocation_document(report: EngineSizeReport) -> Document:
    """Totals and waste of each model; per-rank bytes; capacity of a budget."""
    single = len(report.models) == 1
    title = _heading(report.models[0].allocation) if single else "Allocated KV cache"
    tables: list[Table] = []
    facts: list[Fact] = []
    notes: list[str] = []
    for model in report.models:
        prefix = "" if single else _heading(model.allocation)
        tables += _tables(model, prefix)
        facts += _capacity_facts(model, single)
        notes += [f"log: {line}" for line in (model.capacity.log_lines if model.capacity else ())]
        notes += [f"note: {note}" for note in model.allocation.notes]
        notes += [f"note: {note}" for note in (model.capacity.notes if model.capacity else ())]
    return Document(
        title=title,
        tables=tuple(tables),
        facts=tuple(facts),
        notes=("\n".join(notes),) if notes else (),
        data=_data(report),
    )


def _share(part: int, whole: int) -> str:
    """`0.06 %`, `100 %`; nothing of nothing."""
    return f"{100 * part / whole:.2f}".removesuffix(".00") + " %" if whole else ""


def _tables(model: EngineSize, title: str) -> list[Table]:
    found = model.allocation
    rows: list[tuple[Cell, ...]] = [("logical", found.logical_bytes, format_bytes(found.logical_bytes), "")]
    rows += _waste_rows(found.waste, found.allocated_bytes)
    rows.append(("allocated (one copy)", found.allocated_bytes, format_bytes(found.allocated_bytes), "100 %"))
    if found.ranks > 1:
        rows += _waste_rows(found.sharding_waste, found.allocated_bytes)
        every = found.per_rank_bytes * found.ranks
        rows.append((f"all {found.ranks} ranks", every, format_bytes(every), _share(every, found.allocated_bytes)))
    rows.append(("per rank", found.per_rank_bytes, format_bytes(found.per_rank_bytes), ""))
    rows += [
        (f"  {w.cause} (once per rank)", w.bytes, format_bytes(w.bytes), "") for w in found.reserve
    ]  # fmt: skip
    tables = [
        Table(columns=(Column("what", flexible=True), Column("bytes", "B"), Column(""), Column("of allocated")),
              rows=tuple(rows), title=title),
    ]  # fmt: skip
    if len(found.per_stage_bytes) > 1:
        stages = tuple((stage, size, format_bytes(size)) for stage, size in enumerate(found.per_stage_bytes))
        tables.append(Table(columns=(Column("pipeline stage"), Column("bytes per rank", "B"), Column("")), rows=stages))
    if found.figures:
        columns = (Column("one sequence"), Column(f"{found.unit}s"), Column("bytes per rank", "B"), Column("",
                   flexible=True))  # fmt: skip
        rows = [(f.name, f.units, f.bytes or None, f.meaning) for f in found.figures]
        tables.append(Table(columns=columns, rows=tuple(rows)))
    return tables


def _waste_rows(waste: tuple[Waste, ...], whole: int) -> list[tuple[Cell, ...]]:
    return [(f"  + {w.cause}", w.bytes, format_bytes(w.bytes), _share(w.bytes, whole)) for w in waste]


def _capacity_facts(model: EngineSize, single: bool) -> list[Fact]:
    facts: list[Fact] = []
    if model.budget is not None:
        facts += _budget_facts(model.budget)
    if model.capacity is not None:
        facts += _yield_facts(model.capacity)
    return facts if single else [(model.allocation.model, *fact) for fact in facts]


def _budget_facts(budget: Budget) -> list[Fact]:
    fraction = f"{float(budget.fraction):g} of {budget.fraction_of}"
    facts = [_bytes("GPU memory", budget.gpu_memory_bytes)]
    facts.append(_bytes("requested", budget.requested_bytes, fraction))
    facts += [_bytes(f"- {item.name}", item.bytes, _known_from(item)) for item in budget.overheads]
    facts.append(_bytes("left for the cache", budget.available_bytes))
    return facts


def _known_from(item: Overhead) -> str:
    """Nothing of a term that the user has given."""
    if item.given:
        return ""
    if item.low_bytes == item.high_bytes:
        return f"counted: {item.source}"
    seen = f"{format_bytes(item.low_bytes)} to {format_bytes(item.high_bytes)} seen"
    return f"assumed; {seen}: give --overhead {item.name}=SIZE"


def _yield_facts(found: Capacity) -> list[Fact]:
    unit = f"{found.unit}s of {found.unit_tokens:,} tokens" if found.unit_tokens > 1 else f"{found.unit}s"
    facts: list[Fact] = [
        _bytes("cache per rank", found.budget_bytes),
        (unit, f"{found.units:,}", f"x {found.unit_bytes:,} B", f"{found.usable_units:,} usable"),
        ("tokens (as logged)", f"{found.tokens:,}", "", ""),
        (
            "concurrency",
            f"{float(found.concurrency):.2f}x",
            "",
            f"requests of {found.max_model_len:,} tokens, {found.units_per_request:,} {found.unit}s each",
        ),
        ("longest request", f"{found.max_tokens_per_request:,}", "tokens", ""),
    ]
    return facts


def _data(report: EngineSizeReport) -> Table:
    """Flat: one row per model."""
    names = ("model", "engine", "version", "batch_size", "seq_len", "kv_cache_dtype")
    amounts = ("logical_bytes", "allocated_bytes", "ranks", "per_rank_bytes", "unit", "unit_tokens", "unit_bytes",
               "units")  # fmt: skip
    rows = []
    for model in report.models:
        found, held = model.allocation, model.capacity
        row: list[Cell] = [getattr(found, name) for name in (*names, *amounts)]
        figures = {f.name: f.bytes for f in found.figures}
        row += [figures.get(name) for name in ("steady", "prefill_peak", "admission")]
        row += [held.units, held.tokens, float(held.concurrency)] if held else [None, None, None]
        rows.append(tuple(row))
    extra = ("steady_bytes", "prefill_peak_bytes", "admission_bytes", "pool_units", "pool_tokens", "concurrency")
    units = {"logical_bytes", "allocated_bytes", "per_rank_bytes", "unit_bytes", *extra[:3]}
    columns = tuple(Column(name, "B" if name in units else "") for name in (*names, *amounts, *extra))
    return Table(columns=columns, rows=tuple(rows))
