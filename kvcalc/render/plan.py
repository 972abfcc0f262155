"""Documents of `plan`: the answer in a few lines, kinds of GPU side by side, then the best of them in detail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from kvcalc.plan.report import AtLength, Choice, GpuPlan, PlanReport, Point
from kvcalc.plan.request import OBJECTIVES
from kvcalc.plan.verdict import missed_bound
from kvcalc.render.document import Cell, Column, Document, Table, many, shown
from kvcalc.render.plan_tables import (
    BYTES_FIELDS,
    GIB_FIELDS,
    LAYOUT,
    LAYOUT_FIELDS,
    Fields,
    both,
    cut,
    lean,
    ledger_table,
    log_text,
    merged,
    nodes_text,
    table_of,
    why,
)
from kvcalc.units import format_bytes, format_seconds

Fact = tuple[str, ...]

BEST: Mapping[str, str] = {
    "gpus": "fewest",
    "tpot": "lowest TPOT",
    "throughput": "most per GPU",
    "cost": "cheapest",
}
"""What the first choice is, by the objective."""
CENTRAL = ("GPUs", "sequences", "tokens/s per GPU", "per hour", "per million tokens")
"""Columns of layouts that are left out where all layouts say the same: the answer says it."""
LAYOUTS, PROOFS = 6, 4
"""Layouts, and smaller numbers of GPUs, that are shown unless details are asked for."""


def plan_document(report: PlanReport, *, details: bool = False, fronts: bool = False) -> Document:
    """The answer of `plan`.

    Args:
        details: every kind of GPU in full, ledgers term by term, the fastest of each number of GPUs.
        fronts: the Pareto fronts too, if the report has them.
    """
    best = report.plans[report.best]
    detailed = report.plans if details else (best,)
    tables = [_side_by_side(report)] if len(report.plans) > 1 else []
    for plan in detailed:
        tables += _plan_tables(report, plan, details)
    if fronts:
        tables += _fronts(report)
    rest = [plan.gpu for plan in report.plans if plan not in detailed]
    notes = [f"note: {text}" for text in report.assumptions]
    notes += [f"note: --details also shows the layouts on {', '.join(rest)}"] if rest else []
    return Document(
        title=plan_title(report),
        answer=tuple(_answer(report, best)),
        tables=tuple(table for table in tables if table.rows),
        notes=tuple(text for text in ("\n".join(notes), _log(report, best)) if text),
        data=_front_data(report) if fronts else _data(report),
    )


def plan_title(report: PlanReport) -> str:
    """Model, engine, workload, format of the cache and the speed that is asked for."""
    if report.requests is not None:
        lengths = f"up to {many(report.seq_len, 'token')} ({many(report.requests, 'request')} of a trace)"
    elif report.isl is not None and report.osl is not None:
        lengths = f"{report.isl:,} + {report.osl:,} tokens"
        if report.seq_len != report.isl + report.osl:
            lengths += f", held as {report.seq_len:,}"
    else:
        lengths = f"{report.seq_len:,} tokens"
    if report.encoder_len:
        lengths += f" (+ {report.encoder_len:,} encoder tokens)"
    asked = f"{report.rate:,g} requests/s" if report.rate is not None else many(report.batch_size or 1, "sequence")
    speed = [("TPOT", report.tpot_s), ("TTFT", report.ttft_s)]
    limits = "".join(f", {name} <= {format_seconds(limit)}" for name, limit in speed if limit is not None)
    return (
        f"{report.model} in {report.engine} {report.engine_version}: {asked} x {lengths},"
        f" {report.kv_cache_dtype} cache{limits}"
    )


# --- the answer


def _answer(report: PlanReport, plan: GpuPlan) -> Iterator[Fact]:
    if plan.choices:
        yield from _chosen(report, plan)
    else:
        label, text = _missing(report, plan)
        yield label, f"up to {report.max_gpus:,} x {plan.gpu}: {text}"
        if plan.fewest_for_memory is not None:
            yield "memory alone", f"{many(plan.fewest_for_memory, 'GPU')} would do"
    waste = plan.waste
    cache = waste.cache_bytes if waste else report.cache_bytes
    if cache is not None:
        total = format_bytes(cache + report.weight_bytes)
        yield "needs", f"cache {both(cache)} + weights {both(report.weight_bytes)} = {total}, each held once"
    if waste and plan.gpus:
        doubled = {"weights": waste.replicated_weight_bytes, "cache (blocks, padding)": waste.replicated_cache_bytes}
        more = " and ".join(f"{format_bytes(size)} of {what}" for what, size in doubled.items() if size)
        if more:
            yield "replicas", f"{more} more" + (f" on {plan.gpus:,} GPUs together" if plan.gpus > 1 else "")
    for other in report.plans:
        if other is not plan and not other.choices:
            yield f"not {other.gpu}", ": ".join(_missing(report, other))


def _chosen(report: PlanReport, plan: GpuPlan) -> Iterator[Fact]:
    first = plan.choices[0]
    among = ""
    if report.objective in ("tpot", "throughput") and plan.fastest:
        among = f" (of {plan.fastest[0].gpus:,} to {plan.explored_gpus:,} GPUs)"
    yield BEST[report.objective], _place(first, plan) + among
    yield "speed", _speed(report, first)
    if report.rate is not None:
        served = f"{shown(first.tokens_per_s_per_gpu)} tokens/s per GPU"
        yield "load", f"{many(first.batch_size, 'sequence')} at once, {served}"
    if first.cost_per_hour is not None:
        tokens, least = first.cost_per_million_tokens, " at least" if report.rate is None else ""
        each = "" if tokens is None else f", {shown(tokens)} per million tokens{least}"
        yield "cost", f"{shown(first.cost_per_hour)} per hour{each}"
    free, total = first.ledger.free_bytes, first.ledger.gpu_memory_bytes
    yield "memory", f"{format_bytes(free)} of {format_bytes(total)} free on the fullest GPU"
    if plan.proof:
        short = plan.proof[0]
        yield f"why not {short.gpus:,}", why(short)
    if plan.fewest_for_memory is not None and plan.proof and plan.fewest_for_memory < plan.proof[0].gpus:
        yield "memory alone", f"{many(plan.fewest_for_memory, 'GPU')} would do"
    if plan.usual is not None:
        yield "usual size", f"{_place(plan.usual, plan)}; {_speed(report, plan.usual)}"


def _place(choice: Choice, plan: GpuPlan) -> str:
    """`16 x h200 (2 nodes of 8): TP8 x DP2`."""
    return f"{choice.gpus:,} x {choice.gpu} ({nodes_text(choice.gpus, plan.node_size)}): {choice.label}"


def _speed(report: PlanReport, choice: Choice) -> str:
    speed = choice.speed
    parts = [f"TPOT >= {format_seconds(speed.tpot_s)} (bound by {speed.bound_by})"]
    if choice.loaded_tpot_s is not None:
        late = report.tpot_s is not None and choice.loaded_tpot_s > report.tpot_s
        late_text = " (more than asked for)" if late else ""
        parts.append(f"{format_seconds(choice.loaded_tpot_s)} while prompts are prefilled{late_text}")
    if speed.ttft_s is not None:
        parts.append(f"TTFT >= {format_seconds(speed.ttft_s)}")
    if report.rate is None:
        parts.append(f"<= {shown(choice.tokens_per_s_per_gpu)} tokens/s per GPU")
    return ", ".join(parts)


def _missing(report: PlanReport, plan: GpuPlan) -> Fact:
    """(what is wrong, how much is missing) where no number of GPUs does."""
    bound = missed_bound(plan, report)
    if bound:
        return "too slow", bound[1]
    return "does not fit", why(plan.nearest_miss) if plan.nearest_miss else "no layout is one that engines take"


def _log(report: PlanReport, plan: GpuPlan) -> str:
    lines = plan.capacity.log_lines if plan.capacity else ()
    return log_text(report.engine, plan.choices[0].label, lines) if plan.choices else ""


# --- tables


def _seconds(value: float | None) -> str | None:
    return None if value is None else format_seconds(value)


def _speed_fields(report: PlanReport) -> Fields[Choice]:
    return _SPEED if report.rate is None else tuple((_SERVED.get(column, column), read) for column, read in _SPEED)


_SPEED: Fields[Choice] = (
    (LAYOUT, lambda c: c.label),
    (Column("GPUs"), lambda c: c.gpus),
    (Column("sequences"), lambda c: c.batch_size),
    (Column("TPOT >="), lambda c: format_seconds(c.speed.tpot_s)),
    (Column("with prefills >="), lambda c: _seconds(c.loaded_tpot_s)),
    (Column("TTFT >="), lambda c: _seconds(c.speed.ttft_s)),
    (Column("tokens/s per GPU <="), lambda c: c.tokens_per_s_per_gpu),
    (Column("bound by"), lambda c: c.speed.bound_by),
    (Column("free", "GiB"), lambda c: c.ledger.free_bytes / 2**30),
    (Column("per hour"), lambda c: c.cost_per_hour),
    (Column("per million tokens"), lambda c: c.cost_per_million_tokens),
)
_SERVED = {Column("tokens/s per GPU <="): Column("tokens/s per GPU")}
"""A rate says how many tokens are served: that is no bound."""
_MEMORY: Fields[Choice] = (
    (LAYOUT, lambda c: c.label),
    (Column("GPUs"), lambda c: c.gpus),
    *GIB_FIELDS,
)


def _layouts(report: PlanReport, choices: Iterable[Choice], title: str) -> Table:
    return merged(lean(table_of(_speed_fields(report), choices, title), CENTRAL))


def _plan_tables(report: PlanReport, plan: GpuPlan, details: bool) -> Iterator[Table]:
    if plan.choices:
        yield from _choice_tables(report, plan, details)
    yield _proof(plan, None if details else PROOFS)
    yield _by_length(plan)
    if details:
        yield _layouts(report, plan.fastest, f"fastest layout of each number of {plan.gpu}")
    title = "fewer GPUs would do" if plan.choices else "what would do"
    columns = (Column("change", flexible=True), Column("GPU"), Column("GPUs"), LAYOUT)
    yield Table(columns, tuple((a.change, a.gpu, a.gpus, a.label) for a in plan.alternatives), title)


def _choice_tables(report: PlanReport, plan: GpuPlan, details: bool) -> Iterator[Table]:
    """The layouts, where there are several, and the ledger of the first."""
    first = plan.choices[0]
    same = len({choice.gpus for choice in plan.choices}) == 1
    where = f"{first.gpus:,} x {plan.gpu}" if same else plan.gpu
    order = "best first" if report.objective in ("tpot", "throughput") else "fastest first"
    if len(plan.choices) > 1:
        layouts = _layouts(report, plan.choices, f"layouts of {where}, {order}")
        yield layouts if details else cut(layouts, LAYOUTS)
    if details:
        title = f"memory of the fullest GPU [GiB of {first.ledger.gpu_memory_bytes / 2**30:,.4g}]"
        yield merged(lean(table_of(_MEMORY, plan.choices, title), CENTRAL))
    yield ledger_table(first.ledger, f"{plan.gpu}, {first.label}", details=details)


def _proof(plan: GpuPlan, most: int | None) -> Table:
    """Smaller numbers of GPUs, the nearest first; neighbours that were not tried, for the same reason, in one row."""
    columns = (
        Column("GPUs"), Column("best layout", flexible=True), Column("short per GPU", "B"), Column("breaks"),
        Column("why", flexible=True),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for _, alike in groupby(plan.proof, lambda short: short.gpus if short.layouts else short.breaks):
        first, *others = alike
        span = f"{others[-1].gpus:,} to {first.gpus:,}" if others else f"{first.gpus:,}"
        rows.append((span, first.label, first.short_bytes or None, first.breaks, first.detail))
    title = f"why fewer {plan.gpu} are not enough" if plan.choices else f"why {plan.gpu} are not enough"
    return lean(Table(columns, tuple(rows[:most]), title))


def _by_length(plan: GpuPlan) -> Table:
    """Of a trace: what would hold it if all sequences were as long as some."""
    label = plan.choices[0].label if plan.choices else ""
    fields: Fields[AtLength] = (
        (Column("length"), lambda at: at.name),
        (Column("tokens"), lambda at: at.seq_len),
        (Column("GPUs for the memory"), lambda at: at.gpus),
        (LAYOUT, lambda at: at.label),
        (Column(f"sequences in {label}"), lambda at: at.max_batch_size),
    )
    return lean(table_of(fields, plan.lengths, "if every sequence were as long as this of the trace"))


_KINDS = ("GPUs", "TPOT >=", "TTFT >=", "tokens/s per GPU <=", "tokens/s per GPU", "per hour", "per million tokens")
"""What of the first choices is set side by side."""


def _side_by_side(report: PlanReport) -> Table:
    """Kinds of GPU, the best first."""
    key = OBJECTIVES[report.objective]
    fitting = sorted((plan for plan in report.plans if plan.choices), key=lambda plan: key(plan.choices[0]))
    order = [*fitting, *(plan for plan in report.plans if not plan.choices)]
    chosen = [(column, read) for column, read in _speed_fields(report) if column.name in _KINDS]
    columns = (Column("GPU"), Column("GPUs"), LAYOUT, Column("limited by"), *(column for column, _ in chosen[1:]))
    rows: list[tuple[Cell, ...]] = []
    for plan in order:
        if plan.choices:
            gpus, *rest = (read(plan.choices[0]) for _, read in chosen)
            rows.append((plan.gpu, gpus, plan.choices[0].label, plan.binds, *rest))
        else:
            rows.append((plan.gpu, None, _missing(report, plan)[0], plan.binds, *[None] * len(chosen[1:])))
    return lean(Table(columns, tuple(rows), "kinds of GPU, best first"))


def _fronts(report: PlanReport) -> Iterator[Table]:
    asked = [choice for plan in report.plans for choice in plan.pareto]
    fields: Fields[Choice] = ((Column("GPU"), lambda c: c.gpu), *_speed_fields(report))
    if report.batch_size is not None:
        title = f"front at {many(report.batch_size, 'sequence')}: GPUs, TPOT, tokens/s per GPU"
    else:
        title = f"front at {report.rate:g} requests/s: GPUs, TPOT, tokens/s per GPU"
    yield lean(table_of(fields, asked, title), ("GPU", "sequences"))
    points = [(plan, point) for plan in report.plans for point in plan.frontier]
    title = "front over all batch sizes: tokens/s of a user, tokens/s of a GPU"
    yield lean(table_of(_front_fields(report), points, title), ("GPU",))


_Placed = tuple[GpuPlan, Point]


def _front_fields(report: PlanReport) -> Fields[_Placed]:
    target = report.tpot_s
    return (
        (Column("GPU"), lambda p: p[0].gpu),
        (LAYOUT, lambda p: p[1].label),
        (Column("GPUs"), lambda p: p[1].gpus),
        (Column("sequences"), lambda p: p[1].batch_size),
        (Column("TPOT >="), lambda p: format_seconds(p[1].tpot_s)),
        (Column("tokens/s per user <="), lambda p: p[1].tokens_per_s_per_user),
        (Column("tokens/s per GPU <="), lambda p: p[1].tokens_per_s_per_gpu),
        (Column("in time"), lambda p: None if target is None else p[1].tpot_s <= target),
    )


# --- for machines


_CHOICE_DATA: Fields[Choice] = (
    (Column("gpus"), lambda c: c.gpus),
    (Column("nodes"), lambda c: c.nodes),
    (Column("layout"), lambda c: c.label),
    *LAYOUT_FIELDS,
    (Column("batch_size"), lambda c: c.batch_size),
    (Column("tpot_bound", "s"), lambda c: c.speed.tpot_s),
    (Column("tpot_with_prefills_bound", "s"), lambda c: c.loaded_tpot_s),
    (Column("ttft_bound", "s"), lambda c: c.speed.ttft_s),
    (Column("throughput_per_gpu", "tokens/s"), lambda c: c.tokens_per_s_per_gpu),
    (Column("bound_by"), lambda c: c.speed.bound_by),
    *BYTES_FIELDS,
    (Column("cost", "per hour"), lambda c: c.cost_per_hour),
    (Column("cost", "per million tokens"), lambda c: c.cost_per_million_tokens),
)


def _data(report: PlanReport) -> Table:
    """Every choice of every kind of GPU; one row without a choice where none fits."""
    columns = (Column("model"), Column("gpu"), Column("fits"), Column("limited_by"), *(c for c, _ in _CHOICE_DATA))
    rows: list[tuple[Cell, ...]] = []
    for plan in report.plans:
        head = (report.model, plan.gpu, plan.fits, plan.binds)
        rows += [(*head, *(read(choice) for _, read in _CHOICE_DATA)) for choice in plan.choices]
        if not plan.choices:
            rows.append((*head, *[None] * len(_CHOICE_DATA)))
    return Table(columns, tuple(rows))


_POINT_DATA: Fields[Point] = (
    (Column("gpus"), lambda p: p.gpus),
    (Column("layout"), lambda p: p.label),
    (Column("batch_size"), lambda p: p.batch_size),
    (Column("tpot_bound", "s"), lambda p: p.tpot_s),
    (Column("throughput_per_user_bound", "tokens/s"), lambda p: p.tokens_per_s_per_user),
    (Column("throughput_per_gpu_bound", "tokens/s"), lambda p: p.tokens_per_s_per_gpu),
)


def _front_data(report: PlanReport) -> Table:
    """The front over all batch sizes, of every kind of GPU."""
    columns = (Column("model"), Column("gpu"), *(column for column, _ in _POINT_DATA))
    rows = tuple(
        (report.model, plan.gpu, *(read(point) for _, read in _POINT_DATA))
        for plan in report.plans
        for point in plan.frontier
    )
    return Table(columns, rows)
