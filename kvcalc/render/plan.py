"""Documents of `plan` and `fit`."""

from __future__ import annotations

from kvcalc.plan.ledger import Ledger
from kvcalc.plan.report import Choice, FitReport, GpuPlan, PlanReport
from kvcalc.render.document import Cell, Column, Document, Table
from kvcalc.units import format_bytes, format_seconds

LAYOUTS = 12


def _ledger_table(ledger: Ledger, label: str) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (term.group, term.name, term.bytes, format_bytes(term.bytes), term.source) for term in ledger.terms
    ]
    rows.append(("", "free", ledger.free_bytes, format_bytes(ledger.free_bytes), ""))
    rows.append(("", "total", ledger.gpu_memory_bytes, format_bytes(ledger.gpu_memory_bytes), ""))
    columns = (Column("memory"), Column("term"), Column("bytes", "B"), Column(""), Column("from", flexible=True))
    return Table(title=f"One GPU of {label}, stage {ledger.stage}", columns=columns, rows=tuple(rows))


def _choice_row(choice: Choice) -> tuple[Cell, ...]:
    speed = choice.speed
    ttft = None if speed.ttft_s is None else format_seconds(speed.ttft_s)
    free = format_bytes(choice.ledger.free_bytes)
    return (choice.gpu, choice.gpus, choice.nodes, choice.label, choice.batch_size, free, format_seconds(speed.tpot_s),
            ttft, choice.tokens_per_s_per_gpu, speed.bound_by, choice.cost_per_hour)  # fmt: skip


_CHOICES = (
    Column("GPU"), Column("GPUs"), Column("nodes"), Column("layout"), Column("sequences"), Column("free per GPU"),
    Column("TPOT >="), Column("TTFT >="), Column("tokens/s per GPU <="), Column("binds"), Column("cost per hour"),
)  # fmt: skip


def plan_document(report: PlanReport) -> Document:
    """Layouts, the ledger of the first, why fewer GPUs are not enough, and what would need fewer."""
    asked = f"rate {report.rate:g}/s" if report.rate is not None else f"{report.batch_size:,} sequences"
    title = f"{report.model} in {report.engine} {report.engine_version}: {asked} x {report.seq_len:,} tokens"
    tables: list[Table] = []
    facts: list[tuple[str, ...]] = []
    for plan in report.plans:
        tables += _plan_tables(plan)
        facts += _plan_facts(plan)
    rows = tuple(_choice_row(choice) for plan in report.plans for choice in plan.choices)
    notes = [f"note: {text}" for text in report.assumptions]
    notes += [f"log: {line}" for plan in report.plans if plan.capacity for line in plan.capacity.log_lines]
    return Document(
        title=title, tables=tuple(tables), facts=tuple(facts), notes=("\n".join(notes),),
        data=Table(columns=_CHOICES, rows=rows),
    )  # fmt: skip


def _plan_tables(plan: GpuPlan) -> list[Table]:
    found: list[Table] = []
    if plan.choices:
        rows = tuple(_choice_row(choice) for choice in plan.choices)
        found.append(Table(title="Layouts, best first", columns=_CHOICES, rows=rows))
        found.append(_ledger_table(plan.choices[0].ledger, plan.choices[0].label))
    if plan.proof:
        columns: tuple[Column, ...] = (
            Column("GPUs"), Column("best layout"), Column("short per GPU", "B"), Column("breaks"),
            Column("why not", flexible=True),
        )  # fmt: skip
        short = tuple((s.gpus, s.label, s.short_bytes, s.breaks, s.detail) for s in plan.proof)
        found.append(Table(title="Fewer GPUs are not enough", columns=columns, rows=short))
    if plan.lengths:
        columns = (Column("length"), Column("tokens"), Column("GPUs"), Column("layout"))
        rows = tuple((at.name, at.seq_len, at.gpus, at.label) for at in plan.lengths)
        found.append(Table(title="By the lengths of the trace (memory)", columns=columns, rows=rows))
    if plan.alternatives:
        columns = (Column("change"), Column("GPU"), Column("GPUs"), Column("layout"))
        rows = tuple((a.change, a.gpu, a.gpus, a.label) for a in plan.alternatives)
        found.append(Table(title="Nearest that takes fewer (memory)", columns=columns, rows=rows))
    return found


def _plan_facts(plan: GpuPlan) -> list[tuple[str, ...]]:
    if not plan.fits:
        last = plan.proof[0] if plan.proof else None
        return [(plan.gpu, "does not fit", last.detail if last else "no layout")]
    facts: list[tuple[str, ...]] = [
        (plan.gpu, "fewest", f"{plan.gpus:,} GPUs", f"{plan.nodes:,} nodes of {plan.node_size}", f"binds: {plan.binds}")
    ]
    if plan.waste:
        facts.append((plan.gpu, "replicated weights", f"{plan.waste.replicated_weight_bytes:,} B",
                      f"= {format_bytes(plan.waste.replicated_weight_bytes)}", ""))  # fmt: skip
        facts.append((plan.gpu, "cache beyond logical", f"{plan.waste.replicated_cache_bytes:,} B",
                      f"= {format_bytes(plan.waste.replicated_cache_bytes)}", ""))  # fmt: skip
    return facts


def fit_document(report: FitReport) -> Document:
    """What each layout of the given GPUs holds."""
    columns = (
        Column("layout"), Column("most sequences"), Column("longest", "tokens"), Column("cache", "tokens"),
        Column("concurrency"), Column("free per GPU", "B"),
    )  # fmt: skip
    rows = tuple(
        (line.label, line.max_batch_size, line.max_seq_len, line.tokens, line.concurrency, line.ledger.free_bytes)
        for line in report.lines
    )
    title = (
        f"{report.model} on {report.gpus} x {report.gpu} in {report.engine} {report.engine_version}:"
        f" most sequences of {report.seq_len:,} tokens, longest of {report.batch_size:,} sequences"
    )
    tables = [Table(columns=columns, rows=rows[:LAYOUTS])]
    if report.lines:
        tables.append(_ledger_table(report.lines[0].ledger, report.lines[0].label))
    facts = (("does not fit", report.shortage.detail),) if report.shortage else ()
    return Document(title=title, tables=tuple(tables), facts=facts, data=Table(columns=columns, rows=rows))
