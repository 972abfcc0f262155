"""KV5xx: bytes that a change may not exceed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.checks.rule import Hit, Rule, in_a_file
from kvcalc.checks.subject import ModelFile
from kvcalc.footprint import Footprint, footprint, growth, workload_for
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import Budget, BytesAt, FitsOn
from kvcalc.units import format_bytes

if TYPE_CHECKING:
    from kvcalc.plan.verdict import Verdict


def _sized(value: int) -> str:
    return f"{value:,} B" + (f" ({format_bytes(value)})" if value >= 1024 else "")


def _at(file: ModelFile, wanted: BytesAt) -> Footprint:
    """Our figures for a budget's workload."""
    workload, _ = workload_for(
        file.layout,
        batch_size=wanted.batch_size,
        seq_len=wanted.seq_len,
        encoder_len=wanted.encoder_len,
        formats=parse_kv_cache_dtype(wanted.kv_cache_dtype),
    )
    return footprint(file.layout, workload)


def _planned(file: ModelFile, fits: FitsOn) -> Verdict | None:
    """Why the planner finds no layout of these accelerators that holds the workload; None where it does.

    Raises:
        KvcalcError: an unknown name, no length, or weights of which too little is said.
    """
    # Few specs have such a budget, and the planner takes longer to import than a spec to check.
    from kvcalc.plan.planfile import PlanSpec
    from kvcalc.plan.resolving import answer
    from kvcalc.plan.verdict import verdicts

    if fits not in file.memo:
        asked = PlanSpec(
            model=file.spec.name, gpu=fits.gpu, gpus=fits.count, batch_size=fits.batch_size, seq_len=fits.seq_len,
            encoder_len=fits.encoder_len, kv_cache_dtype=fits.kv_cache_dtype, engine=fits.engine,
        )  # fmt: skip
        file.memo[fits] = next(verdicts(asked, answer(asked, model=file.spec)), None)
    found: Verdict | None = file.memo[fits]
    return found


def per_token(file: ModelFile) -> Iterator[Hit]:
    """The slope beyond every window."""
    budget = file.spec.budget
    if budget is None or budget.max_bytes_per_token is None:
        return
    try:
        grown = growth(file.layout.groups, parse_kv_cache_dtype(budget.kv_cache_dtype))
    except KvcalcError:
        return  # KV504 says so
    if grown.step_bytes > budget.max_bytes_per_token * grown.step_tokens:
        per = f"{grown.step_bytes:,} B per {'token' if grown.step_tokens == 1 else f'{grown.step_tokens:,} tokens'}"
        message = f"{per} in {budget.kv_cache_dtype}, budget {budget.max_bytes_per_token:,} B per token"
        hint = "`kvcalc explain` shows which layers take them"
        yield Hit(loc=("budget", "max_bytes_per_token"), message=message, help=hint)


def at_workload(file: ModelFile) -> Iterator[Hit]:
    """Logical bytes of a batch and length."""
    wanted = file.spec.budget.max_bytes_at if file.spec.budget else None
    if wanted is None:
        return
    try:
        counted = _at(file, wanted)
    except KvcalcError:
        return
    over = counted.logical_bytes - wanted.bytes
    if over > 0:
        message = (
            f"{_sized(counted.logical_bytes)} at {counted.batch_size:,} x {counted.seq_len:,} tokens in "
            f"{wanted.kv_cache_dtype}, budget {_sized(wanted.bytes)}: {_sized(over)} over"
        )
        each = f"{counted.batch_size:,} x {counted.bytes_per_sequence:,} B per sequence"
        yield Hit(loc=("budget", "max_bytes_at", "bytes"), message=message, help=each)


def on_gpus(file: ModelFile) -> Iterator[Hit]:
    """The planner's answer."""
    wanted = file.spec.budget.fits_on if file.spec.budget else None
    if wanted is None:
        return
    try:
        unmet = _planned(file, wanted)
    except KvcalcError:
        return
    if unmet is not None:
        yield Hit(loc=("budget", "fits_on"), key=True, message=unmet.message, help=unmet.help)


def not_computable(file: ModelFile) -> Iterator[Hit]:
    """A budget that nothing can be compared with."""
    budget = file.spec.budget
    if budget is None:
        return
    parts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("max_bytes_per_token", lambda: growth(file.layout.groups, parse_kv_cache_dtype(budget.kv_cache_dtype))),
        ("max_bytes_at", lambda: budget.max_bytes_at and _at(file, budget.max_bytes_at)),
        ("fits_on", lambda: budget.fits_on and _planned(file, budget.fits_on)),
    )
    for key, compute in parts:
        if getattr(budget, key) is None:
            continue
        try:
            compute()
        except KvcalcError as error:
            problem = error.problems[0]
            yield Hit(loc=("budget", key), key=True, message=f"{key}: {problem.message}", help=in_a_file(problem.help))


def empty(file: ModelFile) -> Iterator[Hit]:
    """A budget that bounds nothing."""
    budget = file.spec.budget
    if budget is not None and budget == Budget(kv_cache_dtype=budget.kv_cache_dtype):
        hint = "give max_bytes_per_token, max_bytes_at or fits_on"
        yield Hit(loc=("budget",), key=True, message="a budget that bounds nothing", help=hint)


RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV501",
        name="bytes-per-token",
        summary="more cache per token than the budget allows",
        why="`budget: {max_bytes_per_token: N}` bounds the slope: what one more token of one sequence adds "
        "once every window has filled, indexer keys included.",
        check=per_token,
    ),
    Rule(
        code="KV502",
        name="bytes-at",
        summary="more cache at a batch and length than the budget allows",
        why="`budget: {max_bytes_at: {batch_size: 8, seq_len: 32768, bytes: N}}` bounds the logical bytes of "
        "a workload, states included.",
        check=at_workload,
    ),
    Rule(
        code="KV503",
        name="does-not-fit",
        summary="weights and cache do not fit on the accelerators that the budget names",
        why="`budget: {fits_on: {gpu: h200, count: 8}}` asks the planner for a layout of at most 8 of them that holds "
        "one sequence of the whole context (unless a workload is given), with the rules and overheads of vLLM, "
        "or of `engine`. `engine: ideal` allows nothing for overheads. A plan file can ask for more; "
        "`kvcalc plan` shows the ledger.",
        check=on_gpus,
    ),
    Rule(
        code="KV504",
        name="budget-not-computable",
        summary="a budget that cannot be computed",
        why="An accelerator or format that does not exist, a length that nobody gave, weights of which too "
        "little is said: the budget would stand there unchecked.",
        check=not_computable,
    ),
    Rule(
        code="KV505",
        name="empty-budget",
        summary="a budget that bounds nothing",
        why="It looks like protection and is none.",
        check=empty,
    ),
)
