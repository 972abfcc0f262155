"""vLLM's start-up lines against the pool that would be planned for the memory they print."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines.checks import context_limit
from kvcalc.engines.vllm import planned
from kvcalc.engines.vllm.capacity import tokens_and_concurrency
from kvcalc.engines.vllm.groups import Pool
from kvcalc.engines.vllm.pages import Keep
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import FIRST_V1, Settings
from kvcalc.problems import usage_error
from kvcalc.reconcile.logs import VLLM, Fact, Log
from kvcalc.reconcile.report import Comparison
from kvcalc.reconcile.trial import Trial
from kvcalc.spec.model import ModelSpec
from kvcalc.units import GIB

MAX_CANDIDATES = 20_000
ALTERNATIVES = {
    "dtype": ("bf16", "fp8", "fp8_ds_mla", "fp32"),
    "tensor": (1, 2, 4, 8, 16),
    "hybrid_kv_cache_manager": (False, True),
    "block_size": (16, 32, 64, 128, 256),
    "max_num_batched_tokens": (1024, 2048, 4096, 8192, 16384, 32768),
    "version": ("0.20.0", "0.21.0", "0.26.0", "0.33.0"),
    "enable_prefix_caching": (False, True),
    "num_speculative_tokens": (0, 1),
    "pipeline": (1, 2, 4),
    "decode_context": (1, 2, 4, 8),
}
"""Settings that a mismatch may come from, and values worth trying."""


def compare(log: Log, spec: ModelSpec, trial: Trial) -> Sequence[Comparison]:
    """Every figure of the log that the plan predicts.

    Raises:
        KvcalcError: a set-up that vLLM refuses.
    """
    settings = Settings(version=trial.version, parallel=trial.parallel, **trial.options)
    formats = parse_kv_cache_dtype(trial.dtype)
    shared = planned(spec, formats, settings)
    found = list(_plan_lines(log, shared))
    found += _capacity_lines(log, spec, shared, settings)
    return found


def _row(fact: Fact, name: str, predicted: str, unit: str, note: str = "") -> Comparison:
    return Comparison(name=name, predicted=predicted, printed=fact.text, unit=unit, line=fact.line, note=note,
                      agrees=predicted == fact.text)  # fmt: skip


def _plan_lines(log: Log, shared: Pool) -> list[Comparison]:
    """Lines about the plan itself: exact."""
    rows: list[Comparison] = []
    attention = [g.first for g in shared.groups if g.first.keep is not Keep.STATE]
    if (fact := log.last(VLLM, "hybrid_block")) and attention:
        rows.append(_row(fact, "attention block", str(attention[0].block_size), "tokens"))
    states = [p for g in shared.groups for p in g.pages if p.keep is Keep.STATE]
    if (fact := log.last(VLLM, "state_padding")) and states:
        page = states[0]
        padding = Fraction(100 * (page.page_bytes - page.rank_bytes), page.rank_bytes)
        rows.append(_row(fact, "state page padding", f"{float(padding):.{fact.digits}f}", "%"))
    if facts := log.all(VLLM, "padding_layers"):
        printed = sum(f.integer for f in {f.text: f for f in facts}.values())
        rows.append(
            Comparison(name="padding layers", predicted=str(shared.padding_layers), printed=str(printed), unit="layers",
                       line=facts[0].line, agrees=shared.padding_layers == printed)
        )  # fmt: skip
    return rows


def _candidates(log: Log, shared: Pool, settings: Settings) -> tuple[Sequence[int], Fact | None, str]:
    """Numbers of blocks that the log allows, the figure that says so, and what bounds them."""
    if fact := log.last(VLLM, "blocks"):
        return [fact.integer], fact, ""
    memory = log.all(VLLM, "gib")
    if memory and shared.block_bytes:
        fact = min(memory, key=lambda f: f.decimal)  # of all ranks, the least decides
        half = Decimal(1).scaleb(-fact.digits) / 2
        low, high = (int((fact.decimal + sign * half) * GIB) // shared.block_bytes for sign in (-1, 1))
        if high - low > MAX_CANDIDATES:
            raise usage_error(f"line {fact.line}: {fact.text} GiB is too coarse to compare")
        note = f"{fact.digits} decimals of GiB allow {low:,} to {high:,} blocks"
        return range(max(0, low), high + 1), fact, note
    if (fact := log.last(VLLM, "tokens")) and not settings.tokens_by_concurrency:
        share = settings.parallel.decode_context
        block = shared.smallest_block(settings.max_model_len or 1) * share
        groups = len(shared.groups)
        first = fact.integer // block * groups
        return range(first, first + groups), fact, "no memory is printed: the tokens stand for the blocks"
    return [], None, ""


def _capacity_lines(log: Log, spec: ModelSpec, shared: Pool, settings: Settings) -> list[Comparison]:
    candidates, source, note = _candidates(log, shared, settings)
    tokens, times = log.last(VLLM, "tokens"), log.last(VLLM, "concurrency")
    if source is None or not candidates or (tokens is None and times is None and source.name != "blocks"):
        return []
    limit = context_limit(spec, settings.max_model_len)
    counter = Counter(settings=settings, max_model_len=limit, encoder_len=spec.max_source_positions or 0)
    per_request = counter.admission_of(shared)

    def counted(blocks: int) -> _Counted:
        return _Counted(blocks, *tokens_and_concurrency(shared, blocks, per_request, settings, limit))

    best = counted(_nearest(candidates, counted, tokens, times))
    rows: list[Comparison] = []
    memory = log.all(VLLM, "gib")
    if source.name == "blocks" and memory:
        fact = min(memory, key=lambda f: f.decimal)
        low, high = (_gib(blocks * shared.block_bytes, fact) for blocks in (best.blocks, best.blocks + 1))
        agrees = Decimal(low) <= fact.decimal <= Decimal(high)
        rows.append(
            Comparison(name="memory of the blocks", predicted=low, printed=fact.text, unit="GiB", line=fact.line,
                       agrees=agrees, note=f"{best.blocks:,} blocks of {shared.block_bytes:,} B; the rest is no block")
        )  # fmt: skip
    if tokens is not None:
        rows.append(_row(_plain(tokens), "KV cache size", str(best.tokens), "tokens", note))
    if times is not None:
        rows.append(_row(times, "concurrency", _times(best, times), f"x of {limit:,} tokens", note))
    return rows


class _Counted(NamedTuple):
    blocks: int
    tokens: int
    concurrency: Fraction


def _nearest(
    candidates: Sequence[int], counted: Callable[[int], _Counted], tokens: Fact | None, times: Fact | None
) -> int:
    """The blocks that meet the printed tokens, or else concurrency, or both; in the middle of `candidates` if it can.

    More blocks never make fewer tokens, so those that meet a figure are neighbours.
    """
    low, high = 0, len(candidates)
    figures: list[tuple[Any, Callable[[int], Any]]] = []
    if tokens is not None:
        figures.append((tokens.integer, lambda blocks: counted(blocks).tokens))
    if times is not None:
        figures.append((times.decimal, lambda blocks: Decimal(_times(counted(blocks), times))))
    for printed, figure in figures:
        first, last = (side(candidates, printed, low, high, key=figure) for side in (bisect_left, bisect_right))
        if first < last:
            low, high = first, last
    middle = len(candidates) // 2
    return candidates[middle if low <= middle < high else low]


def _gib(size: int, fact: Fact) -> str:
    return f"{size / GIB:.{fact.digits}f}"


def _times(found: _Counted, fact: Fact) -> str:
    return f"{float(found.concurrency):.{fact.digits}f}"


def _plain(fact: Fact) -> Fact:
    return Fact(engine=fact.engine, name=fact.name, text=fact.text.replace(",", ""), line=fact.line)


def options_of(log: Log) -> dict[str, object]:
    """Settings that the log states."""
    found: dict[str, object] = {}
    for name in ("max_num_batched_tokens", "block_size"):
        if fact := log.last(VLLM, name):
            found[name] = fact.integer
    limit = log.last(VLLM, "request") or log.last(VLLM, "max_model_len")
    if limit:
        found["max_model_len"] = limit.integer
    if log.first(VLLM, "hybrid_off"):
        found["hybrid_kv_cache_manager"] = False
    return found


def guessed_version(log: Log) -> str | None:
    """Logs of the V0 engine name no version, but count GPU blocks and no tokens."""
    if log.first(VLLM, "version") is None and log.first(VLLM, "tokens") is None and log.first(VLLM, "blocks"):
        return ".".join(map(str, (FIRST_V1[0], FIRST_V1[1] - 1, 0)))
    return None
