"""Laws that hold for every engine, whatever the model: hypothesis picks models, lengths, batches and ranks."""

from __future__ import annotations

from typing import Any

import pytest
from engine_factories import (
    chunked,
    compressed,
    cross,
    full,
    gdn,
    kda,
    mamba2,
    mla,
    model,
    parallel,
    short_conv,
    sliding,
    sparse,
    work,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import NAMES, find_engine
from kvcalc.engines.base import Allocation
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "dense": model({"f": full(8)}, "f" * 10),
    "one-head": model({"f": full(1, 64)}, "f" * 7),
    "uneven-widths": model({"f": full(4, 192, 128)}, "f" * 5),
    "gemma-like": model({"s": sliding(100, 4), "f": full(4)}, "sssssf" * 3 + "s"),
    "all-windows": model({"s": sliding(63, 8)}, "s" * 6),
    "two-widths": model({"s": sliding(1024, 8, 256), "f": full(2, 512)}, "sssssf" * 2),
    "chunks": model({"c": chunked(96), "f": full()}, "cccf" * 3),
    "latent": model({"m": mla()}, "m" * 9),
    "indexer": model({"m": sparse()}, "m" * 5),
    "hybrid": model({"a": gdn(), "f": full(2, 256)}, "aaaf" * 3),
    "hybrid-latent": model({"a": kda(), "m": mla()}, "aaam" * 2, model_type="kimi_linear"),
    "states": model({"a": mamba2()}, "a" * 4),
    "short": model({"a": short_conv(), "f": full(8, 64)}, "aafaafaaf"),
    "cross": model({"f": full(20, 64), "x": cross(20)}, [("f", "x")] * 4, encoder=1500),
    "compressed": model({"c": compressed(4, 128), "h": compressed(128), "w": compressed(0)}, "wchchw"),
    "drafts": model({"m": mla()}, "m" * 6, mtp="m"),
}
RANKS = [(1, 1, 1, 1), (2, 1, 1, 1), (4, 2, 1, 1), (8, 1, 1, 2), (1, 3, 2, 1), (16, 1, 3, 1)]


def allocated(
    engine: str, spec: ModelSpec, tokens: int, batch: int, ranks: tuple[int, ...], **options: Any
) -> Allocation:
    """The engine's answer; a test is skipped where the engine refuses the combination."""
    found = find_engine(engine)
    tp, pp, dp, dcp = ranks
    formats = parse_kv_cache_dtype(options.pop("formats", "bf16"))
    configured = found.configure(parallel=parallel(tp, pp, dp, dcp), **options)
    return found.allocate(spec, work(tokens, batch, formats, encoder=77), configured)


def answer_or_none(*arguments: Any, **options: Any) -> Allocation | None:
    try:
        return allocated(*arguments, **options)
    except KvcalcError:
        return None  # refused with a reason: nothing is claimed


@settings(max_examples=400, deadline=None)
@given(
    engine=st.sampled_from(NAMES),
    name=st.sampled_from(sorted(MODELS)),
    tokens=st.integers(1, 5000),
    batch=st.integers(1, 7),
    ranks=st.sampled_from(RANKS),
)
def test_nothing_is_reserved_for_less_than_its_values(
    engine: str, name: str, tokens: int, batch: int, ranks: tuple[int, ...]
) -> None:
    answer = answer_or_none(engine, MODELS[name], tokens, batch, ranks)
    if answer is None:
        return
    assert answer.allocated_bytes >= answer.logical_bytes
    assert all(item.bytes > 0 for item in answer.waste)
    assert answer.allocated_bytes - answer.logical_bytes == sum(item.bytes for item in answer.waste)


@settings(max_examples=400, deadline=None)
@given(
    engine=st.sampled_from(NAMES),
    name=st.sampled_from(sorted(MODELS)),
    tokens=st.integers(1, 5000),
    batch=st.integers(1, 7),
    ranks=st.sampled_from(RANKS),
)
def test_all_ranks_together_hold_at_least_one_copy(
    engine: str, name: str, tokens: int, batch: int, ranks: tuple[int, ...]
) -> None:
    answer = answer_or_none(engine, MODELS[name], tokens, batch, ranks)
    if answer is None:
        return
    held = answer.per_rank_bytes * answer.ranks
    assert held >= answer.allocated_bytes
    assert (held == answer.allocated_bytes) == (not answer.sharding_waste)
    assert all(item.bytes > 0 for item in answer.sharding_waste)
    assert max(answer.per_stage_bytes) == answer.per_rank_bytes


@settings(max_examples=400, deadline=None)
@given(
    engine=st.sampled_from(NAMES),
    name=st.sampled_from(sorted(MODELS)),
    tokens=st.integers(1, 4000),
    longer=st.integers(1, 300),
    ranks=st.sampled_from(RANKS),
)
def test_a_longer_sequence_never_allocates_less(
    engine: str, name: str, tokens: int, longer: int, ranks: tuple[int, ...]
) -> None:
    short, long = (answer_or_none(engine, MODELS[name], n, 2, ranks) for n in (tokens, tokens + longer))
    if short is None or long is None:
        return
    assert long.allocated_bytes >= short.allocated_bytes
    assert long.per_rank_bytes >= short.per_rank_bytes
    peaks = [{f.name: f.bytes for f in answer.figures} for answer in (short, long)]
    for figure in ("prefill_peak", "admission", "sequence"):
        assert peaks[1].get(figure, 0) >= peaks[0].get(figure, 0)


@settings(max_examples=150, deadline=None)
@given(
    engine=st.sampled_from([n for n in NAMES if n not in ("llama.cpp", "ideal")]),
    name=st.sampled_from(["dense", "one-head", "latent", "uneven-widths"]),
    tokens=st.integers(1, 5000),
    batch=st.integers(1, 5),
    ranks=st.sampled_from([(1, 1, 1, 1), (2, 1, 1, 1), (4, 1, 1, 1)]),
)
def test_blocks_of_one_token_are_ideal(engine: str, name: str, tokens: int, batch: int, ranks: tuple[int, ...]) -> None:
    """Without windows, states and tensors rounded up, an engine with blocks of one token wastes nothing."""
    extra: dict[str, Any] = {} if engine == "transformers" else {"block_size": 1}
    if engine == "lmdeploy":
        extra["backend"] = "turbomind"
    answer = answer_or_none(engine, MODELS[name], tokens, batch, ranks, **extra)
    perfect = answer_or_none("ideal", MODELS[name], tokens, batch, ranks)
    if answer is None or perfect is None:
        return
    assert (answer.allocated_bytes, answer.per_rank_bytes) == (perfect.allocated_bytes, perfect.per_rank_bytes)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_heads_that_divide_are_not_replicated(tp: int) -> None:
    answer = allocated("vllm", MODELS["dense"], 1000, 1, (tp, 1, 1, 1))
    assert answer.per_rank_bytes * tp == answer.allocated_bytes


def test_ranks_beyond_the_heads_hold_replicas() -> None:
    """8 heads on 16 ranks: every head twice."""
    answer = allocated("vllm", MODELS["dense"], 1000, 1, (16, 1, 1, 1))
    assert answer.per_rank_bytes * 16 == 2 * answer.allocated_bytes
    assert [item.cause for item in answer.sharding_waste] == ["replicas over tensor-parallel ranks"]


def test_a_latent_is_replicated_over_tensor_and_divided_by_context_parallel_ranks() -> None:
    spec = MODELS["latent"]
    replicated = allocated("vllm", spec, 64 * 64, 1, (8, 1, 1, 1))
    assert replicated.per_rank_bytes == replicated.allocated_bytes
    shared = allocated("vllm", spec, 64 * 64, 1, (8, 1, 1, 8))
    assert shared.per_rank_bytes * 8 == shared.allocated_bytes == replicated.allocated_bytes


def test_heads_that_do_not_divide_are_refused_or_rounded_up() -> None:
    spec = model({"f": full(6)}, "ffff")
    for engine in ("vllm", "sglang", "lmdeploy"):
        with pytest.raises(KvcalcError, match="6"):
            allocated(engine, spec, 100, 1, (4, 1, 1, 1))
    answer = allocated("tensorrt-llm", spec, 128, 1, (4, 1, 1, 1))
    assert answer.per_rank_bytes * 4 * 6 == answer.allocated_bytes * 8


def test_uneven_stages_and_replicas_count_the_fullest() -> None:
    """7 layers over 3 stages: 2, 3, 2; 3 sequences on 2 replicas: 2 on the fuller."""
    answer = allocated("vllm", MODELS["one-head"], 160, 3, (1, 3, 2, 1))
    layer = 10 * 16 * 2 * 64 * 2
    assert answer.per_stage_bytes == (2 * 2 * layer, 2 * 3 * layer, 2 * 2 * layer)
    assert answer.per_rank_bytes == 6 * layer
    assert answer.allocated_bytes == 3 * 7 * layer


def test_the_hybrid_manager_saves_the_windows() -> None:
    spec = MODELS["gemma-like"]
    on = allocated("vllm", spec, 4000, 1, (1, 1, 1, 1))
    off = allocated("vllm", spec, 4000, 1, (1, 1, 1, 1), hybrid_kv_cache_manager=False)
    assert off.allocated_bytes == 250 * 16 * 19 * 2 * 4 * 128 * 2
    assert on.allocated_bytes < off.allocated_bytes
    assert "windows kept in full" in {item.cause for item in off.waste}
