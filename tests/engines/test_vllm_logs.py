"""vLLM: figures that real servers printed, exactly.

Sources are beside each test: issue or repository, or the id of a stored copy of the log.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from engine_factories import full, gdn, mla, model, parallel, sliding

from kvcalc.cache_dtypes import BF16, parse_kv_cache_dtype
from kvcalc.engines.base import Capacity
from kvcalc.engines.vllm import capacity, planned
from kvcalc.engines.vllm.capacity import capacity_of_blocks
from kvcalc.engines.vllm.settings import Settings

GIB = 2**30


def shown(found: Capacity) -> str:
    return f"{float(found.concurrency):.2f}"


def test_gemma3_27b_on_rocm() -> None:
    """Log of a server on an MI300X-class GPU (stored copy 9297248278): 89,994 blocks, 205,696 tokens, 50.05x."""
    kinds = {"f": full(16), "s": sliding(1024, 16)}
    order = "".join("f" if i % 6 == 5 else "s" for i in range(62))
    spec, settings = model(kinds, order), Settings(version="0.13.0", max_model_len=4096)
    shared = planned(spec, BF16, settings)
    assert [len(g.pages) for g in shared.groups] == [9, 9, 9, 9, 8, 8, 10]
    assert (shared.block_bytes, shared.padding_layers) == (10 * 131_072, 8)
    found = capacity_of_blocks(spec, shared, 89_994, settings, 4096, 0)
    assert (found.tokens, shown(found)) == (205_696, "50.05")


def qwen3_next(version: str, limit: int) -> tuple[object, Settings]:
    spec = model({"a": gdn(), "f": full(2, 256)}, "aaaf" * 12, model_type="qwen3_next")
    return spec, Settings(version=version, parallel=parallel(tp=2), max_model_len=limit)


def test_qwen3_next_tp2() -> None:
    """Log of 2 x H200 (stored copy 7292846353): 47,878,721,024 B of cache, 7,162 blocks, 973,760 tokens, 14.77x."""
    spec, settings = qwen3_next("0.10.2", 262_144)
    found = capacity(spec, 47_878_721_024, settings, BF16)  # type: ignore[arg-type]
    assert (found.unit_tokens, found.units, found.tokens, shown(found)) == (544, 7_162, 973_760, "14.77")


def test_qwen3_next_tp2_fp8() -> None:
    """Log of 2 x L40S (stored copy 33676930891): 17.58 GiB, blocks of 1,072, 767,552 tokens, 84.29x.

    17.58 GiB are two decimals of N = 2,865 or 2,866 blocks; the tokens are the same for both.
    """
    spec, settings = qwen3_next("0.13.0", 32_768)
    found = capacity(spec, int(17.58 * GIB), settings, parse_kv_cache_dtype("fp8"))  # type: ignore[arg-type]
    assert (found.unit_tokens, found.unit_bytes, found.tokens) == (1_072, 12 * 548_864, 767_552)
    shared = planned(spec, parse_kv_cache_dtype("fp8"), settings)  # type: ignore[arg-type]
    exact = capacity_of_blocks(spec, shared, 2_866, settings, 32_768, 0)  # type: ignore[arg-type]
    assert (exact.tokens, shown(exact)) == (767_552, "84.29")
    assert abs(2_866 * 12 * 548_864 - 17.58 * GIB) < 0.005 * GIB


def test_gemma3_1b_geometry() -> None:
    """Log of version 0.13 or 0.14 (stored copy 45665312624): 25.39 GiB, 950,864 tokens, 461.21x at 2,048.

    The printed GiB are rounded: within 0.005 GiB stands a block count that gives both printed figures.
    """
    kinds = {"f": full(1, 256), "s": sliding(512, 1, 256)}
    order = "".join("f" if i % 6 == 5 else "s" for i in range(26))
    spec, settings = model(kinds, order), Settings(version="0.13.0", max_model_len=2048)
    shared = planned(spec, BF16, settings)
    assert (shared.block_bytes, len(shared.groups), shared.padding_layers) == (4 * 16_384, 7, 2)
    around = range(int(25.385 * GIB) // shared.block_bytes, int(25.395 * GIB) // shared.block_bytes + 1)
    agreeing = [
        n
        for n in around
        if (found := capacity_of_blocks(spec, shared, n, settings, 2048, 0)).tokens == 950_864
        and shown(found) == "461.21"
    ]
    assert agreeing


DENSE = [
    # (layers, kv heads, head dim, tp, block, version, GiB, tokens, max_model_len, concurrency, source)
    (32, 8, 128, 1, 16, "0.6.4", 3.81, 31_232, 20_000, "1.56", "vllm issue 10517"),
    (80, 8, 128, 4, 16, "0.11.2", 106.17, 1_391_552, 8_192, "169.87", "ashishkamra/vllm-memory-estimator @7ab974c"),
    (28, 4, 128, 2, 16, "0.9.0", 10.04, 375_968, 8_192, "45.89", "stored copy 71589812318"),
    (30, 16, 64, 1, 16, "0.9.0", 11.78, 102_880, 1_200, "85.73", "stored copy 19121599416"),
    (28, 4, 128, 2, 16, "0.10.0", 11.15, 417_520, 16_384, "25.48", "stored copy 48549636448"),
]


@pytest.mark.parametrize("row", DENSE, ids=[str(r[-1]) for r in DENSE])
def test_dense_models(row: tuple[int, int, int, int, int, str, float, int, int, str, str]) -> None:
    layers, heads, dim, tp, block, version, gib, tokens, limit, concurrency, _ = row
    spec = model({"f": full(heads, dim)}, "f" * layers)
    settings = Settings(version=version, parallel=parallel(tp=tp), block_size=block, max_model_len=limit)
    size = planned(spec, BF16, settings).block_bytes
    blocks, rest = divmod(tokens, block)
    assert rest == 0
    found = capacity_of_blocks(spec, planned(spec, BF16, settings), blocks, settings, limit, 0)
    assert (found.tokens, shown(found)) == (tokens, concurrency)
    # The printed budget, give or take its rounding, holds exactly these blocks.
    assert (gib - 0.005) * GIB < (blocks + 1) * size
    assert blocks * size <= (gib + 0.005) * GIB


def test_exaone4_with_windows() -> None:
    """Log of version 0.11.0 on an L40S (stored copy 67319049985): 10.31 GiB, 42,224 tokens, 10.28x at 4,096.

    Three of four layers have a window of 4,096: 3 groups of windows, 1 of full attention, 16 layers each. The tokens
    alone look as if every layer were counted in full; the concurrency (10.31x then) shows that it is not so.
    """
    spec = model({"s": sliding(4096), "f": full()}, "sssf" * 16)
    settings = Settings(version="0.11.0", max_model_len=4096)
    found = capacity(spec, int(10.31 * GIB), settings, BF16)
    assert (found.unit_bytes, found.tokens, shown(found)) == (16 * 65_536, 42_224, "10.28")


def test_gemma4_26b_with_two_page_sizes() -> None:
    """Log of version 0.19 (stored copy 52050704548): 9.08 GiB, 79,344 tokens, 5.0x at 98,304, fp8 cache.

    25 windows (8 x 256) and 5 full layers (2 x 512) have pages of 2:1, so full layers get blocks of 32 tokens.
    """
    kinds = {"s": sliding(1024, 8, 256), "f": full(2, 512)}
    spec = model(kinds, "sssssf" * 5)
    settings = Settings(version="0.19.0", max_model_len=98_304)
    shared = planned(spec, parse_kv_cache_dtype("fp8"), settings)
    assert [g.first.block_size for g in shared.groups] == [16] * 5 + [32]
    around = range(int(9.075 * GIB) // shared.block_bytes, int(9.085 * GIB) // shared.block_bytes + 1)
    counted = [capacity_of_blocks(spec, shared, n, settings, 98_304, 0) for n in around]
    assert any((found.tokens, shown(found)) == (79_344, "5.00") for found in counted)


def test_qwen25_on_ascend_to_the_byte() -> None:
    """vllm-ascend 0.10.2 (stored copy 55763524705): 40,178,937,036 B, blocks of 128, 3,269,760 tokens, 99.79x."""
    spec = model({"f": full(2, 64)}, "f" * 24)
    settings = Settings(version="0.10.2", block_size=128, max_model_len=32_768)
    found = capacity(spec, 40_178_937_036, settings, BF16)
    assert (found.tokens, shown(found)) == (3_269_760, "99.79")


def test_kimi_k2_with_context_parallel_ranks() -> None:
    """vllm-project/recipes moonshotai/Kimi-K2-Think.md: DCP 8 on 8 x H200, 46.8 GiB, 5,721,088 tokens."""
    spec = model({"m": mla()}, "m" * 61)
    settings = Settings(version="0.11.1", parallel=parallel(tp=8, dcp=8), max_model_len=262_144)
    shared = planned(spec, BF16, settings)
    blocks = Fraction(5_721_088, shared.groups[0].first.block_size * 8)
    assert blocks.denominator == 1
    found = capacity_of_blocks(spec, shared, int(blocks), settings, 262_144, 0)
    assert found.tokens == 5_721_088
    assert abs(int(blocks) * shared.block_bytes / GIB - 46.8) < 0.05
