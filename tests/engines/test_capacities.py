"""What a budget yields in every engine, by hand; vLLM's and SGLang's logs stand in files of their own."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from engine_factories import compressed, cross, full, gdn, kda, mamba2, mla, model, parallel, sliding, sparse

from kvcalc.cache_dtypes import BF16, parse_kv_cache_dtype
from kvcalc.engines import find_engine, sglang
from kvcalc.engines.base import Capacity
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec

ROW = 4096
"""Bytes of one token in one layer: 2 x 8 heads x 128 x 2 B."""
STATE = 2 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
"""Two layers of gdn() as SGLang keeps them: 3 columns of convolution in bf16, the state in fp32."""
DENSE = model({"f": full()}, "fff", context=1000)
WINDOWED = model({"s": sliding(100), "f": full()}, "ssf", context=1000)
HYBRID = model({"a": gdn(), "f": full()}, "aaf", context=1000)


def capacity(
    engine: str, spec: ModelSpec, budget: int | tuple[int, ...], dtype: str = "bf16", **options: Any
) -> Capacity:
    ranks = {name: options.pop(name) for name in ("tp", "pp", "dp", "dcp") if name in options}
    found = find_engine(engine)
    assert found.capacity is not None
    return found.capacity(
        spec, budget, found.configure(parallel=parallel(**ranks), **options), parse_kv_cache_dtype(dtype)
    )


def counts(found: Capacity) -> tuple[int, int, int, int]:
    assert found.usable_units == found.units
    return found.unit_bytes, found.units, found.tokens, found.max_tokens_per_request


def test_ideal_ends_where_the_bytes_end() -> None:
    """Two windows of 100 tokens and then a row for each token; at 1,000 tokens 1,200 rows."""
    found = capacity("ideal", WINDOWED, 700 * ROW + ROW // 2)
    assert counts(found) == (0, 583, 583, 500)
    assert (found.concurrency, found.max_model_len, found.units_per_request) == (Fraction(1401, 2400), 1000, 1000)
    assert (found.unit, found.unit_tokens, found.budget_bytes) == ("token", 1, 700 * ROW + ROW // 2)
    assert capacity("ideal", WINDOWED, 700 * ROW, tp=2).max_tokens_per_request == 1000
    replicas = capacity("ideal", WINDOWED, 1800 * ROW, dp=2)
    assert (replicas.concurrency, replicas.units) == (3, 1500)
    # the stage that ends first counts: two layers of three on the first, so 250 tokens there and 400 on the second
    staged = capacity("ideal", DENSE, (500 * ROW, 400 * ROW), pp=2)
    assert (staged.max_tokens_per_request, staged.concurrency, staged.budget_bytes) == (250, Fraction(1, 4), 500 * ROW)
    staged = capacity("ideal", DENSE, (500 * ROW, 200 * ROW), pp=2)
    assert (staged.max_tokens_per_request, staged.concurrency, staged.budget_bytes) == (200, Fraction(1, 5), 200 * ROW)
    nothing = capacity("ideal", model({"f": full()}, [""], context=7), 100)
    assert (nothing.concurrency, nothing.max_tokens_per_request, nothing.budget_bytes) == (0, 7, 100)
    nothing = capacity("ideal", model({"f": full()}, ["", ""], context=7), (300, 100), pp=2)
    assert (nothing.concurrency, nothing.budget_bytes) == (0, 100)


def test_ideal_pays_for_the_encoders_tokens() -> None:
    """A row for each of 1,500 encoder tokens before the first of the decoder, of 448."""
    spec = model({"f": full(), "x": cross(8, 128)}, [("f", "x")], context=448, encoder=1500)
    assert capacity("ideal", spec, 1499 * ROW).max_tokens_per_request == 0
    assert capacity("ideal", spec, 1600 * ROW).max_tokens_per_request == 100
    assert capacity("ideal", spec, 2 * 1948 * ROW).concurrency == 2
    unstated = model({"f": full(), "x": cross(8, 128)}, [("f", "x")], context=448)
    assert capacity("ideal", unstated, 100 * ROW).max_tokens_per_request == 100


@pytest.mark.parametrize(("engine", "block"), [("lmdeploy", 64), ("tensorrt-llm", 32)])
def test_blocks_of_a_budget(engine: str, block: int) -> None:
    size = 3 * block * ROW
    found = capacity(engine, DENSE, 10 * size + size - 1)
    assert counts(found) == (size, 10, 10 * block, 10 * block)
    assert found.units_per_request == -(-1000 // block)
    assert found.concurrency == Fraction(10, -(-1000 // block))
    assert (found.unit, found.unit_tokens, found.budget_bytes) == ("block", block, 11 * size - 1)
    assert capacity(engine, DENSE, 100 * size, max_model_len=64).max_tokens_per_request == 64
    # two layers on the first stage, one on the second; each has its own budget, and the fewest blocks decide
    staged = capacity(engine, DENSE, (10 * size, 4 * size), pp=2)
    assert (staged.units, staged.unit_bytes, staged.budget_bytes) == (12, size // 3, 4 * size)
    # a stage without tokens to keep does not; states are paid for apart
    lone = model({"a": mamba2(), "f": full()}, "af", context=1000)
    assert capacity(engine, lone, (1, 10 * size), pp=2).units == 30
    with pytest.raises(KvcalcError, match=f"keeps no tokens: the state cache of {engine} is not budgeted here"):
        capacity(engine, model({"a": mamba2()}, "a", context=1000), 10**9)
    drafts = model({"f": full()}, "ff", mtp="f", context=1000)
    assert capacity(engine, drafts, size, num_speculative_tokens=1).unit_bytes == size


def test_blocks_hold_what_the_engine_stores() -> None:
    packed = capacity("lmdeploy", model({"m": sparse()}, "m", context=64), 10**6, "fp8")
    # 64 x 656 = 41,984 is a multiple of 256 and so is 64 x 132 = 8,448
    assert packed.unit_bytes == 64 * (656 + 132)
    assert capacity("tensorrt-llm", DENSE, 10**7, tp=3).unit_bytes == 3 * 32 * 3 * ROW // 8
    found = capacity("tensorrt-llm", DENSE, 2**30)
    assert found.log_lines == ("[MemUsageChange] Allocated 1.00 GiB for max tokens in paged KV cache (87360).",)
    assert 2730 * 3 * 32 * ROW / 2**30 > 0.999


# --- SGLang


def test_sglang_slots_of_full_layers() -> None:
    found = capacity("sglang", DENSE, 500 * 3 * ROW + 7)
    assert counts(found) == (3 * ROW, 500, 500, 500)
    assert (found.units_per_request, found.concurrency) == (1000, Fraction(1, 2))
    # 501 slots with the padding page: 2 x 8 x 128 x 3 layers x 501 B a side
    assert found.log_lines == ("KV Cache is allocated. #tokens: 500, K size: 0.00 GB, V size: 0.00 GB",)
    assert found.notes == ()
    large = capacity("sglang", model({"f": full(8, 128, 64)}, "fff"), 2**33)
    slots = 2**33 // (3 * 8 * 192 * 2)
    assert large.units == slots
    key = 3 * 8 * 128 * 2 * (slots + 1) / 2**30
    assert large.log_lines == (
        f"KV Cache is allocated. #tokens: {slots}, K size: {key:.2f} GB, V size: {key / 2:.2f} GB",
    )
    assert capacity("sglang", DENSE, (9000 * ROW, 8000 * ROW), pp=2).units == 4000
    paged = capacity("sglang", DENSE, 500 * 3 * ROW, block_size=64)
    assert (counts(paged), paged.unit_tokens) == ((3 * ROW, 448, 448, 448), 1)
    assert (paged.units_per_request, paged.concurrency) == (1024, Fraction(448, 1024))
    # a padding page of 65,536 slots is seen in two decimals: 6,144 B a slot and side
    large = capacity("sglang", DENSE, 2**33, block_size=2**16)
    side = (large.tokens + 2**16) * 3 * 2048 / 2**30
    assert large.log_lines == (
        f"KV Cache is allocated. #tokens: {large.tokens}, K size: {side:.2f} GB, V size: {side:.2f} GB",
    )
    assert capacity("sglang", DENSE, 1).log_lines == ()
    shared = capacity("sglang", DENSE, 500 * 3 * ROW, tp=16, dcp=2)
    assert (shared.tokens, shared.concurrency) == (8 * 500 * 2, 8)
    # 500 slots of 4 heads on each of two context-parallel ranks: together the 1,000 tokens of one request
    shared = capacity("sglang", DENSE, 500 * 3 * ROW // 2, tp=4, dcp=2)
    assert (shared.units, shared.concurrency, shared.max_tokens_per_request) == (500, 1, 1000)
    assert capacity("sglang", DENSE, 500 * 3 * ROW, tp=4, dcp=2).tokens == 2 * 500 * 2  # 4 heads on a rank


def test_sglang_slots_of_latents() -> None:
    """Pages of 64 beside an indexer, whose keys have pages of their own, one more than the slots need."""
    found = capacity("sglang", model({"m": sparse()}, "mm", context=640), 1000 * 2 * 788, "fp8")
    assert counts(found) == (2 * 788, 960, 960, 640)
    assert found.log_lines == ("KV Cache is allocated. #tokens: 960, KV size: 0.00 GB",)
    found = capacity("sglang", model({"m": mla()}, "mm"), 2**32)
    slots = 2**32 // 2304
    assert found.log_lines == (
        f"KV Cache is allocated. #tokens: {slots}, KV size: {(slots + 1) * 2304 / 2**30:.2f} GB",
    )


def test_sglang_pools_of_windows() -> None:
    """A full slot is paid with 0.8 of a window slot: 1 + 0.8 x 2 rows."""
    found = capacity("sglang", WINDOWED, 1000 * ROW)
    assert counts(found) == (2 * ROW + ROW * 6 // 10, 384, 384, 384)
    assert found.log_lines == ("SWAKVPool mem usage: 0.00 GB, swa size: 307, full size: 384",)
    paged = capacity("sglang", WINDOWED, 1000 * ROW, block_size=64)
    assert paged.log_lines == ("SWAKVPool mem usage: 0.00 GB, swa size: 256, full size: 384",)
    lone = capacity("sglang", model({"s": sliding(100)}, "ss", context=1000), 1000 * ROW)
    assert counts(lone) == (2 * ROW, 500, 500, 500)
    assert lone.log_lines == ("SWAKVPool mem usage: 0.00 GB, swa size: 500, full size: 500",)
    large = capacity("sglang", WINDOWED, 2**33)
    slots = int(2**33 / (2.6 * ROW))
    size = ((slots + 1) + (int(slots * 0.8) + 1) * 2) * ROW / 2**30
    assert large.log_lines == (f"SWAKVPool mem usage: {size:.2f} GB, swa size: {int(slots * 0.8)}, full size: {slots}",)
    assert capacity("sglang", WINDOWED, 999 * ROW, hybrid_swa=False).units == 333


def test_sglang_buffers_hold_a_page_or_a_slot_more() -> None:
    """memory_pool.py:2580 and 4856; indexer keys in (size + page + 1) // page pages of their own."""
    cells = sglang.Pools(full=100, window=7, state=11, index=10)
    assert sglang.pool_bytes(cells, 64, tokens=127) == 191 * 90 + 3 * 64 * 10
    assert sglang.pool_bytes(cells, 64, tokens=126) == 190 * 90 + 2 * 64 * 10
    assert sglang.pool_bytes(cells, 2, window_tokens=5) == 7 * 7
    assert sglang.pool_bytes(cells, 2, states=5) == 6 * 11
    assert sglang.pool_bytes(cells, 2) == 0


def test_sglang_sides_are_the_fullest_stages() -> None:
    """Keys of 128 and values of 64 elements; windows and states live elsewhere; latents count as keys."""
    one = sglang.Settings()

    def sides(spec: ModelSpec, settings: sglang.Settings = one) -> tuple[int, int]:
        return sglang.side_bytes(spec, sglang.engine_formats(spec, BF16), settings, 10)

    assert sides(model({"f": full(8, 128, 64)}, "fff")) == (10 * 3 * 2048, 10 * 3 * 1024)
    assert sides(model({"f": full()}, "fff"), sglang.Settings(parallel=parallel(pp=2))) == (
        10 * 2 * 2048,
        10 * 2 * 2048,
    )
    assert sides(WINDOWED) == sides(HYBRID) == (10 * 2048, 10 * 2048)
    assert sides(model({"m": sparse()}, "m")) == (10 * (1152 + 132), 0)


def test_sglang_states_take_nine_tenths_as_much_as_tokens() -> None:
    """9/19 of the budget, one slot of it for padding."""
    found = capacity("sglang", HYBRID, 19 * 10 * STATE)
    assert found.notes == ("89 state slots",)
    tokens = (19 * 10 - 90) * STATE // ROW
    assert counts(found)[:3] == (ROW, tokens, tokens)
    assert found.log_lines[1:] == ("Mamba Cache is allocated. max_mamba_cache_size: 89",)
    even = capacity("sglang", HYBRID, 10 * STATE, mamba_full_memory_ratio=Fraction(1))
    assert (even.notes, even.tokens) == (("4 state slots",), 5 * STATE // ROW)
    poor = capacity("sglang", HYBRID, STATE)
    assert (poor.notes, poor.tokens, poor.log_lines) == ((), 0, ())
    states = capacity("sglang", model({"a": gdn()}, "aa", context=1000), 19 * 10 * STATE)
    assert (states.tokens, states.notes, states.concurrency) == (0, ("89 state slots",), 0)
    assert states.log_lines == ("Mamba Cache is allocated. max_mamba_cache_size: 89",)
    with pytest.raises(KvcalcError, match="compressed attention"):
        capacity("sglang", model({"c": compressed(4, 128)}, "c", context=9), 10**9)


# --- vLLM


def test_vllm_blocks_of_a_budget() -> None:
    size = 3 * 16 * ROW
    found = capacity("vllm", DENSE, 101 * size - 1)
    assert (found.units, found.usable_units, found.unit_bytes, found.unit_tokens) == (100, 99, size, 16)
    # 63 blocks a request; the log's tokens are concurrency x length
    assert (found.units_per_request, found.concurrency, found.tokens) == (63, Fraction(100, 63), 1587)
    assert (found.max_tokens_per_request, found.notes) == (1000, ())
    assert found.log_lines == (
        "Available KV cache memory: 0.02 GiB",
        "GPU KV cache size: 1,587 tokens, Maximum concurrency for 1,000 tokens per request: 1.59x",
    )
    tight = capacity("vllm", DENSE, 63 * size)
    assert tight.max_tokens_per_request == 62 * 16
    assert tight.notes == ("a request of 1,000 tokens needs 63 blocks: vLLM refuses to start",)
    assert capacity("vllm", DENSE, 64 * size).notes == ()
    assert (capacity("vllm", DENSE, 1).usable_units, capacity("vllm", DENSE, 1).concurrency) == (0, 0)
    # V0 had no null block
    first = capacity("vllm", DENSE, 63 * size, version="0.7.9")
    assert (first.usable_units, first.tokens, first.notes) == (63, 63 * 16, ())
    assert first.log_lines == ("# GPU blocks: 63", "Maximum concurrency for 1000 tokens per request: 1.00x")
    second = capacity("vllm", DENSE, 64 * size, version="0.8.0")
    assert (second.usable_units, second.log_lines[0]) == (63, "Available KV cache memory: 0.01 GiB")


def test_vllms_tightest_stage_decides() -> None:
    found = capacity("vllm", DENSE, (10 * 16 * ROW, 40 * 16 * ROW), pp=2)
    assert (found.units, found.budget_bytes, found.unit_bytes) == (20 // 2 // 2, 10 * 16 * ROW, 2 * 16 * ROW)
    # a stage of layers without a cache has no say
    bare = capacity("vllm", model({"f": full()}, ["", "f"], context=1000), (0, 10 * 16 * ROW), pp=2)
    assert (bare.units, bare.budget_bytes) == (10, 10 * 16 * ROW)
    bare = model({"f": full()}, ["", ""], context=77)
    assert capacity("vllm", bare, (5, 7), pp=2).budget_bytes == 5
    assert capacity("vllm", bare, 5, version="0.20.0").tokens == 0
    nothing = capacity("vllm", bare, 5)
    assert (nothing.units, nothing.units_per_request, nothing.concurrency, nothing.unit_tokens) == (0, 0, 0, 77)


def test_vllm_counts_an_encoders_blocks_and_lone_states() -> None:
    """Whisper's 1,500 tokens are 94 blocks of cross-attention beside 28 of 448 tokens."""
    spec = model({"f": full(20, 64), "x": cross(20)}, [("f", "x")] * 2, encoder=1500, context=448)
    assert capacity("vllm", spec, 10**9).units_per_request == 28 + 94
    unknown = model({"f": full(), "x": cross(8)}, [("f", "x")], context=448)
    assert capacity("vllm", unknown, 10**9).units_per_request == 28
    alike = model({"f": full(), "x": cross(8, 128)}, [("f", "x")], context=448)
    assert capacity("vllm", alike, 10**9, block_size=1).units_per_request == 448
    # a model of states alone: one block a request, as long as the context
    states = model({"a": kda()}, "aa", context=1000, model_type="kimi_linear")
    found = capacity("vllm", states, 10**9, version="0.20.0")
    assert (found.units_per_request, found.unit_tokens) == (1, 1000)
    assert found.tokens == found.units * 1000
