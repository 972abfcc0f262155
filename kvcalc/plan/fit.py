"""The answer of `kvcalc fit`: what given GPUs hold."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.engines.checks import longest_that_fits
from kvcalc.plan.demand import Demand
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.remarks import of_fit, of_lengths
from kvcalc.plan.report import FitLine, FitReport
from kvcalc.plan.request import Request
from kvcalc.plan.search import Search
from kvcalc.problems import usage_error
from kvcalc.spec.hardware import HardwareSpec

MOST_SEQUENCES = 2**24
MOST_TOKENS = 2**26


def fit(request: Request, hardware: HardwareSpec, gpus: int, batch_size: int, seq_len: int) -> FitReport:
    """Largest batch, longest context and tokens of cache of every layout of `gpus` GPUs.

    Raises:
        KvcalcError: no layout of this many GPUs is one that engines take.
    """
    job = request.job()
    search = request.search(job, hardware)
    one = Search(
        job, hardware, search.clock, Demand(batch_size=gpus, lengths=Lengths.of(seq_len)), node=search.node,
        pins=search.pins,
    )  # fmt: skip
    layouts = one.layouts(gpus)
    if not layouts:
        works = [n for n in range(2 * search.node + 1) if one.layouts(n)]
        near = ", ".join(map(str, sorted(sorted(works, key=lambda n: abs(n - gpus))[:3]))) or "none"
        raise usage_error(one.no_layout(gpus), help=f"numbers that work: {near}")
    lines = [line for layout in layouts if (line := _line(one, layout, batch_size, seq_len)) is not None]
    lines.sort(key=lambda line: (-line.max_batch_size, -line.max_seq_len, line.layout.simplicity))
    # The nearest miss is one of few ranks: a sequence each is asked of as many as were pinned.
    alone = replace(one, demand=Demand(batch_size=search.pins.data or 1, lengths=Lengths.of(seq_len)))
    return FitReport(
        model=request.spec.name,
        gpu=hardware.name,
        gpu_name=hardware.full_name,
        gpus=gpus,
        node_size=search.node,
        engine=request.engine.name,
        engine_version=request.engine.version,
        batch_size=batch_size,
        seq_len=seq_len,
        encoder_len=request.encoder_len,
        context=request.spec.max_position_embeddings,
        kv_cache_dtype=request.formats.name,
        weight_format=request.scheme.summary,
        lines=tuple(lines),
        shortage=None if lines else alone.fitting(gpus)[1],
        assumptions=(),
        warnings=(*of_lengths(request), *of_fit(request, job, hardware, lines)),
    )


def _line(search: Search, layout: Layout, batch_size: int, seq_len: int) -> FitLine | None:
    """None where not one sequence per data rank fits, or the engine refuses the layout."""
    job, hardware = search.job, search.hardware

    def held(batch: int, tokens: int) -> Ledger | None:
        found = job.ledger(layout, hardware, batch, Lengths.of(tokens))
        return found if isinstance(found, Ledger) and found.fits else None

    ledger = held(layout.data, seq_len)
    if ledger is None:
        return None
    context = job.spec.max_position_embeddings or MOST_TOKENS
    per_rank = longest_that_fits(lambda n: held(n * layout.data, seq_len) is not None, MOST_SEQUENCES)
    longest = longest_that_fits(lambda n: held(batch_size, n) is not None, context)
    capacity = job.capacity(layout, hardware, seq_len)
    return FitLine(
        label=layout.label,
        layout=layout,
        max_batch_size=per_rank * layout.data,
        max_seq_len=longest,
        tokens=capacity.tokens * layout.data if capacity else None,
        concurrency=float(capacity.concurrency) * layout.data if capacity else None,
        ledger=ledger,
        log_lines=capacity.log_lines if capacity else (),
    )
