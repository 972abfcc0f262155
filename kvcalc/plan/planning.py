"""The answer of `kvcalc plan`: fewest GPUs, ranked layouts, the proof, and what is nearest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from kvcalc.footprint import sequence_bytes
from kvcalc.formats import ceil_div
from kvcalc.plan.alternatives import alternatives
from kvcalc.plan.frontier import frontier, largest_batch, pareto
from kvcalc.plan.layouts import check_pins
from kvcalc.plan.ledger import Job
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.remarks import of_batches, of_calibration, of_lengths, of_prices
from kvcalc.plan.report import AtLength, Choice, GpuPlan, PlanReport, Point, Shortage, Waste
from kvcalc.plan.request import OBJECTIVES, Objective, Request
from kvcalc.plan.search import Minimum, Progress, Search, alone, counts, usual
from kvcalc.problems import usage_error
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.units import format_rate

SHOWN = 32
"""Choices that a report holds of each kind of GPU."""
EXPLORED = 4
"""Beyond the fewest, up to this many times as many GPUs are looked at (at least a node)."""
MOST_BESIDE = 16
"""Numbers of GPUs among these, evenly spread, where none of them can come first: they show what more would give."""
PROVEN = 8
"""Smaller numbers of GPUs that the proof shows, the nearest first."""
SLOW = ("tpot", "ttft")


def plan(request: Request, gpus: Sequence[HardwareSpec], progress: Progress | None = None) -> PlanReport:
    """Plans for each kind of GPU.

    Raises:
        KvcalcError: the spec says too little, or asks for what no number of GPUs could give.
    """
    if not gpus:
        raise usage_error("no GPU is named", help="as in --gpu h200")
    if request.objective == "cost":
        for hardware in gpus:
            if hardware.name not in request.prices:
                raise usage_error(f"no price of {hardware.name}", help=f"as in --price {hardware.name}=2.50")
    for price in request.prices.values():
        if not 0 < price < math.inf:
            raise usage_error("a price is more than 0", help="per GPU and hour, as in --price h200=2.50")
    job = request.job()
    check_pins(job.rules, request.pins)
    ranks, batch = request.pins.data, request.demand.batch_size
    if ranks is not None and batch is not None and ranks > batch:
        sequences = "1 sequence" if batch == 1 else f"{batch:,} sequences"
        raise usage_error(f"{sequences} cannot fill {ranks:,} data-parallel ranks", help="raise -b, or lower -dp")
    plans = tuple(_for_gpu(request, job, hardware, progress) for hardware in gpus)
    firsts = [(OBJECTIVES[request.objective](p.choices[0]), i) for i, p in enumerate(plans) if p.choices]
    demand = request.demand
    return PlanReport(
        model=request.spec.name,
        engine=request.engine.name,
        engine_version=request.engine.version,
        batch_size=demand.batch_size,
        seq_len=demand.lengths.longest,
        mean_seq_len=float(demand.lengths.mean),
        encoder_len=request.encoder_len,
        rate=demand.rate,
        isl=demand.isl,
        osl=demand.osl,
        tpot_s=request.target.tpot_s,
        ttft_s=request.target.ttft_s,
        kv_cache_dtype=request.formats.name,
        weight_format=request.scheme.summary,
        weight_bytes=job.total_weights,
        cache_bytes=None if demand.batch_size is None else _logical_bytes(job, demand.batch_size, demand.lengths),
        requests=request.trace.requests if request.trace else None,
        max_gpus=request.max_gpus,
        objective=request.objective,
        plans=plans,
        best=min(firsts)[1] if firsts else 0,
        assumptions=_assumptions(request, gpus),
        warnings=(
            *of_lengths(request),
            *of_prices(request, gpus),
            *of_calibration(request, gpus),
            *of_batches(request, job, gpus, plans),
        ),
    )


def _assumptions(request: Request, gpus: Sequence[HardwareSpec]) -> tuple[str, ...]:
    ceiling = request.calibration.label if request.calibration else "published peaks"
    found = [f"times are bounds from {ceiling}, link volumes over link rates; no launches, no imbalance"]
    unlinked = [hardware for hardware in gpus if not hardware.linked]
    if len(unlinked) < len(gpus):
        found.append(f"between nodes {format_rate(request.node_link, 'B/s')} per GPU")
    found += map(alone, unlinked)
    if request.demand.rate is not None:
        found.append("sequences at once by Little's law: rate x (TTFT + OSL x (TPOT + prefills per step))")
    return tuple(found)


def _for_gpu(request: Request, job: Job, hardware: HardwareSpec, progress: Progress | None) -> GpuPlan:
    search = request.search(job, hardware)
    found = search.fewest(request.max_gpus, progress, proven=PROVEN)
    fewest, shortages, proof = found.gpus, found.shortages, found.proof(PROVEN)
    # Fewest GPUs are cheapest, too: only speed is sought among more of them.
    fewest_first = request.objective in ("gpus", "cost")
    explored: list[Choice] = []
    most = None
    if fewest is not None:
        most = min(request.max_gpus, max(search.node, fewest * EXPLORED))
        beyond = tuple(counts(search.node, most, fewest + 1))
        explored = [*found.choices, *search.explored(_spread(beyond) if fewest_first else beyond, progress)]
    asked = found.choices if fewest_first else explored
    ranked = sorted(asked, key=OBJECTIVES[request.objective])
    first = ranked[0] if ranked else None
    lengths = request.demand.lengths
    return GpuPlan(
        gpu=hardware.name,
        gpu_name=hardware.full_name,
        gpu_memory_bytes=hardware.memory.plan_bytes,
        memory_basis=hardware.memory.plan_basis,
        node_size=search.node,
        fits=first is not None,
        gpus=first.gpus if first else None,
        nodes=first.nodes if first else None,
        fewest_for_memory=next((s.gpus for s in shortages if s.breaks in SLOW), fewest),
        usual=_usual(search, first, explored, request.objective) if first else None,
        nearest=found.nearest,
        binds=_binds(found, proof),
        choices=tuple(ranked[:SHOWN]),
        searched=sum(s.layouts for s in shortages) + len(explored),
        explored_gpus=most,
        proof=proof,
        waste=_waste(job, first, search) if first else None,
        capacity=job.capacity(first.layout, hardware, lengths.longest) if first else None,
        alternatives=tuple(alternatives(request, search, found)) if request.alternatives else (),
        lengths=tuple(_at_lengths(request, search, first)),
        fastest=_fastest(explored),
        pareto=pareto(explored),
        frontier=_frontier(request, search, most),
    )


def _spread(numbers: Sequence[int]) -> Sequence[int]:
    """At most MOST_BESIDE of them, evenly, the last among them."""
    most, total = min(MOST_BESIDE, len(numbers)), len(numbers)
    return [n for index, n in enumerate(numbers) if (index + 1) * most // total > index * most // total]


def _binds(found: Minimum, proof: Sequence[Shortage]) -> str:
    """What one GPU fewer breaks; where nothing fits, what the nearest miss does."""
    missed = proof if found.choices else [*(short for short in proof if short.layouts), *proof]
    return missed[0].breaks if missed else ""


def _usual(search: Search, first: Choice, explored: Sequence[Choice], objective: Objective) -> Choice | None:
    """The next number of GPUs that people rent, where the first choice's is none."""
    if usual(first.gpus, search.node):
        return None
    larger = [c for c in explored if c.gpus > first.gpus and usual(c.gpus, search.node)]
    return min(larger, key=lambda c: (c.gpus, OBJECTIVES[objective](c)), default=None)


def _fastest(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choice with the lowest TPOT of each number of GPUs."""
    best: dict[int, Choice] = {}
    for choice in sorted(choices, key=OBJECTIVES["tpot"]):
        best.setdefault(choice.gpus, choice)
    return tuple(best[gpus] for gpus in sorted(best))


def _frontier(request: Request, search: Search, most: int | None) -> tuple[Point, ...]:
    """Over whole replicas: batches are not those asked for, so all numbers of GPUs that hold the weights count."""
    if not request.frontier:
        return ()
    limit = min(request.max_gpus, most or search.node)
    return frontier(search, (n for n in counts(search.node, limit) if usual(n, search.node)))


def _logical_bytes(job: Job, batch: int, lengths: Lengths) -> int:
    """Of the cache of `batch` sequences, once."""
    groups = job.spec.layout().groups
    once = sum(n * sequence_bytes(groups, size, job.formats, job.encoder_len) for size, n in lengths.mix)
    return ceil_div(batch * once, lengths.count)


def _waste(job: Job, choice: Choice, search: Search) -> Waste:
    layout = choice.layout
    ranks = layout.tensor * layout.data
    held_weights = ranks * sum(stage.total for stage in job.weights(layout))
    cache = choice.ledger.group_bytes("cache") * layout.gpus
    logical = _logical_bytes(job, choice.batch_size, search.demand.lengths)
    return Waste(
        weight_bytes=job.total_weights,
        replicated_weight_bytes=held_weights - job.total_weights,
        cache_bytes=logical,
        replicated_cache_bytes=max(0, cache - logical),
    )


def _at_lengths(request: Request, search: Search, first: Choice | None) -> Iterator[AtLength]:
    """Memory at percentiles of a trace, as if every sequence were that long."""
    trace = request.trace
    if trace is None:
        return
    wanted = [(f"p{p}", trace.totals.percentile(Fraction(p))) for p in (50, 90, 99)]
    wanted.append(("longest", trace.totals.longest))
    batch = request.demand.batch_size or (first.batch_size if first else 1)
    for name, size in wanted:
        one = Lengths.of(size)
        demand = replace(request.demand, lengths=one, batch_size=batch, rate=None)
        found = replace(search, demand=demand).without_target().fewest_for_memory(request.max_gpus)
        yield AtLength(
            name=name,
            seq_len=size,
            gpus=found[0] if found else None,
            label=found[1].label if found else None,
            max_batch_size=largest_batch(search, first.layout, one) * first.layout.data if first else None,
        )
