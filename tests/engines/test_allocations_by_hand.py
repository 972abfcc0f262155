"""What engines reserve, cause by cause, by hand: where an oracle has no case (replicas, stages, windows, states).

The rules stand, with the engines' files and lines, in the docstrings of kvcalc/engines and in docs/engines.md. A layer
of `full()` keeps 2 x 8 heads x 128 x 2 B = 4,096 B a token, and so does `sliding()` of each token in its window.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from engine_factories import (
    compressed,
    cross,
    full,
    gdn,
    mamba2,
    mla,
    model,
    parallel,
    short_conv,
    sliding,
    sparse,
    work,
)

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import find_engine
from kvcalc.engines.base import Allocation
from kvcalc.spec.model import ModelSpec

ROW = 4096
"""Bytes of one token in one layer of K and V."""
CONV, STATE = 8192 * 3 * 2, 32 * 128 * 128
"""gdn(): 2 x 16 x 128 + 32 x 128 channels x 3 columns x 2 B; elements of the recurrent state."""


def allocated(
    engine: str, spec: ModelSpec, tokens: int, batch: int = 1, *, dtype: str = "bf16", encoder: int = 0, **options: Any
) -> Allocation:
    ranks = {name: options.pop(name) for name in ("tp", "pp", "dp", "dcp") if name in options}
    found = find_engine(engine)
    asked = work(tokens, batch, parse_kv_cache_dtype(dtype), encoder)
    return found.allocate(spec, asked, found.configure(parallel=parallel(**ranks), **options))


def causes(answer: Allocation) -> dict[str, int]:
    return {item.cause: item.bytes for item in answer.waste}


def shares(answer: Allocation) -> dict[str, int]:
    return {item.cause: item.bytes for item in answer.sharding_waste}


REPLICAS, UNEVEN = "replicas over tensor-parallel ranks", "uneven ranks"
DENSE = model({"f": full()}, "f" * 3)
WINDOWED = model({"s": sliding(100), "f": full()}, "ssf")
HYBRID = model({"a": gdn(), "f": full()}, "aaf")
DECODER = model({"f": full(), "x": cross(8, 64)}, [("f", "x")] * 2, encoder=1500)
"""A layer's cross-attention keeps 2 x 8 x 64 x 2 = 2,048 B of each encoder token."""


# --- ideal: logical bytes, shared evenly


def test_ideal_shares_heads_tokens_and_layers() -> None:
    answer = allocated("ideal", DENSE, 1001, 3)
    assert answer.allocated_bytes == answer.logical_bytes == answer.per_rank_bytes == 3 * 1001 * 3 * ROW
    assert (answer.unit, answer.unit_tokens, answer.waste, answer.sharding_waste) == ("token", 1, (), ())
    # 8 heads on 3 ranks: 3 on the fullest; 3 layers on 2 stages: 2; 3 sequences on 2 replicas: 2
    answer = allocated("ideal", DENSE, 1001, 3, tp=3, pp=2, dp=2)
    head = 1001 * ROW // 8
    assert answer.per_stage_bytes == (2 * 2 * 3 * head, 2 * 1 * 3 * head)
    assert shares(answer) == {
        REPLICAS: 3 * 3 * (9 - 8) * head,
        UNEVEN: 12 * answer.per_rank_bytes - 3 * 3 * 9 * head,
    }
    # 2 groups of heads, each shared by 2 ranks that have every other token: 501 of 1,001
    answer = allocated("ideal", DENSE, 1001, tp=4, dcp=2)
    assert answer.per_rank_bytes == 3 * 501 * ROW // 2
    assert shares(answer) == {REPLICAS: 3 * (2 * 501 - 1001) * ROW}


def test_ideal_shares_neither_windows_nor_latents() -> None:
    answer = allocated("ideal", WINDOWED, 1000, tp=16, dcp=2)
    # the full layer's 8 heads on 8 groups, its tokens halved; windows have a head on every rank, 8 of them replicas
    assert answer.per_rank_bytes == (500 + 2 * 100) * ROW // 8
    latent = model({"m": mla()}, "mm", mtp="m")
    assert allocated("ideal", latent, 63, tp=8).per_rank_bytes == 2 * 63 * 576 * 2
    assert allocated("ideal", latent, 63, num_speculative_tokens=1).allocated_bytes == 3 * 63 * 576 * 2
    assert allocated("ideal", latent, 63, num_speculative_tokens=1, pp=2).per_stage_bytes == (
        63 * 576 * 2, 2 * 63 * 576 * 2,
    )  # fmt: skip


def test_ideal_keeps_encoders_and_states_whole() -> None:
    answer = allocated("ideal", DECODER, 10, encoder=1500)
    assert answer.allocated_bytes == 2 * (10 * ROW + 1500 * 2048)
    # nor are a compressor's waiting inputs cache: a window of 128 rows and 250 strides of 512 elements
    assert allocated("ideal", model({"c": compressed(4)}, "c"), 1000).allocated_bytes == (128 + 250) * 1024
    answer = allocated("ideal", HYBRID, 10, tp=8, dcp=8)
    assert answer.per_rank_bytes == 2 * (CONV + STATE * 4) // 8 + 2 * ROW  # ceil(10 tokens / 8) = 2


# --- SGLang


def test_sglang_sizes_window_pools_by_their_ratio() -> None:
    """A window of 100 ties up 100 + 128 (freed in steps) + 2 slots a sequence; 0.8 window slots for each full one."""
    answer = allocated("sglang", WINDOWED, 1000, 2)
    assert causes(answer) == {
        "window slots kept until freed": 2 * (460 - 200) * ROW,
        "pools sized by their ratio": 2 * (1600 - 460) * ROW,
    }
    assert answer.allocated_bytes == (2000 + 2 * 1600) * ROW
    # 50 tokens: two windows need 100 slots, so the full pool has 125
    answer = allocated("sglang", WINDOWED, 50, 2)
    assert causes(answer) == {"pools sized by their ratio": (125 - 100) * ROW}
    assert {item.cause: item.bytes for item in answer.reserve} == {"padding page": 3 * ROW}
    assert (answer.unit_bytes, answer.units) == (ROW, 100)
    # a ratio of 0.2: the full pool grows until 0.2 of it are the 460 slots of the windows
    answer = allocated("sglang", WINDOWED, 1000, 2, swa_full_tokens_ratio=Fraction(1, 5))
    assert causes(answer)["pools sized by their ratio"] == (2300 - 2000) * ROW


def test_sglang_windows_without_full_layers_have_the_pool_to_themselves() -> None:
    lone = model({"s": sliding(100)}, "ss")
    answer = allocated("sglang", lone, 1000, 2)
    assert causes(answer) == {"window slots kept until freed": 2 * (460 - 200) * ROW}
    assert answer.unit_bytes == 0
    kept = allocated("sglang", lone, 1000, 2, hybrid_swa=False)
    assert causes(kept) == {"windows kept in full": 2 * 2 * 900 * ROW}
    # pages of 16: 63 of them; 1,008 slots, a window ties up ceil((100 + 128 + 32) / 16) = 17 pages
    answer = allocated("sglang", lone, 1000, block_size=16)
    assert causes(answer) == {"page rounding": 2 * 12 * ROW, "window slots kept until freed": 2 * (272 - 112) * ROW}


def test_sglang_states_take_a_slot_and_the_pool_one_more() -> None:
    answer = allocated("sglang", HYBRID, 100, 3)
    assert answer.allocated_bytes == answer.logical_bytes == 3 * (2 * (CONV + STATE * 4) + 100 * ROW)
    assert {item.cause: item.bytes for item in answer.reserve} == {
        "padding page": ROW, "padding state slot": 2 * (CONV + STATE * 4),
    }  # fmt: skip
    assert answer.kv_cache_dtype == "bf16,conv=bf16,state=fp32"
    assert answer.notes == ("SGLang stores bf16,conv=bf16,state=fp32 where bf16 is asked for",)
    assert allocated("sglang", DENSE, 1).notes == ()


def test_sglang_replicas_hold_uneven_batches() -> None:
    """5 sequences on 2 replicas: 3 and 2; a window pool of each is sized by its own batch."""
    answer = allocated("sglang", DENSE, 100, 5, dp=2, tp=2)
    assert answer.per_rank_bytes == 3 * 3 * 100 * ROW // 2
    assert answer.units == 3 * 100
    assert shares(answer) == {UNEVEN: 3 * 100 * ROW}
    answer = allocated("sglang", WINDOWED, 50, 5, dp=2)
    # 3 sequences: ceil(150 / 0.8) = 188 slots, 150 of the window pool; 2: 125 and 100
    assert answer.allocated_bytes == (188 + 125 + 2 * (150 + 100)) * ROW
    assert answer.per_rank_bytes == (188 + 2 * 150) * ROW
    answer = allocated("sglang", HYBRID, 100, 5, dp=2)
    assert answer.per_rank_bytes == 3 * (2 * (CONV + STATE * 4) + 100 * ROW)


def test_sglang_context_ranks_share_slots_but_not_indexer_keys() -> None:
    """Pages of 64 beside an indexer: 1,000 tokens are 1,024 slots, 512 on each of 2 ranks."""
    spec = model({"m": sparse()}, "mm")
    answer = allocated("sglang", spec, 1000, tp=2, dcp=2, dtype="fp8")
    assert causes(answer) == {"page rounding": 2 * 24 * (656 + 132)}
    assert answer.per_rank_bytes == 2 * 512 * (656 + 2 * 132)
    assert (answer.unit_bytes, answer.units) == (2 * (656 + 2 * 132), 512)
    assert [(f.name, f.units, f.bytes) for f in answer.figures] == [("sequence", 1024, 512 * 2 * (656 + 2 * 132))]
    assert answer.kv_cache_dtype == "fp8_ds_mla,index=fp8_ds_mla"
    # an explicit --page-size wins
    assert causes(allocated("sglang", spec, 1000, dtype="fp8", block_size=1)) == {}
    # bf16 latents keep packed keys all the same
    assert allocated("sglang", spec, 64).allocated_bytes == 2 * 64 * (1152 + 132)


def test_sglang_keeps_whole_pages_of_an_encoders_tokens() -> None:
    answer = allocated("sglang", DECODER, 10, 2, encoder=1500, block_size=16)
    assert causes(answer) == {"page rounding": 2 * 2 * (6 * ROW + 4 * 2048)}


def test_sglang_prediction_layers_share_the_pool() -> None:
    spec = model({"m": mla()}, "mm", mtp="m")
    assert allocated("sglang", spec, 10).allocated_bytes == 2 * 10 * 1152
    assert allocated("sglang", spec, 10, num_speculative_tokens=1).allocated_bytes == 3 * 10 * 1152


# --- LMDeploy


def test_lmdeploy_keeps_windows_and_rounds_blocks() -> None:
    """16 blocks of 64 for 1,000 tokens; bf16 blocks of 131,072 B need no rounding up to 256."""
    answer = allocated("lmdeploy", WINDOWED, 1000, 3, tp=2, dp=2)
    assert causes(answer) == {"windows kept in full": 3 * 2 * 924 * ROW, "block rounding": 3 * 24 * ROW}
    assert answer.per_rank_bytes == 2 * 3 * 1024 * ROW // 2
    assert (answer.unit_bytes, answer.units, answer.unit_tokens) == (3 * 64 * ROW // 2, 2 * 16, 64)
    assert [(f.name, f.units, f.bytes) for f in answer.figures] == [("sequence", 16, 16 * 3 * 32 * ROW)]


def test_lmdeploy_rounds_every_tensor_up_to_256_bytes() -> None:
    """A block of 1 token, 3 heads of 40: int8 K is 120 B and its scales 12 B, a tensor each, and so is V."""
    spec = model({"f": full(3, 40)}, "f")
    answer = allocated("lmdeploy", spec, 5, dtype="lmdeploy_int8", block_size=1)
    assert causes(answer) == {"tensors rounded up to 256 B": 5 * (4 * 256 - 2 * (120 + 12))}
    assert allocated("lmdeploy", spec, 5, dtype="int8", block_size=1).kv_cache_dtype == "lmdeploy_int8"
    assert causes(allocated("lmdeploy", spec, 5, dtype="lmdeploy_int8", block_size=1, backend="turbomind")) == {}
    # bf16: one tensor of 240 B each for K and V
    assert causes(allocated("lmdeploy", spec, 5, block_size=1)) == {"tensors rounded up to 256 B": 5 * 2 * 16}
    # 3 ranks have a head each: 80 B a side become 256 on every one
    answer = allocated("lmdeploy", spec, 5, block_size=1, tp=3)
    assert causes(answer) == {"tensors rounded up to 256 B": 5 * 3 * 2 * (256 - 80)}
    assert answer.per_rank_bytes == 5 * 512


def test_lmdeploy_states_and_encoders() -> None:
    answer = allocated("lmdeploy", HYBRID, 64, 3, dp=2, tp=2)
    assert answer.allocated_bytes == answer.logical_bytes == 3 * (2 * (CONV + STATE * 4) + 64 * ROW)
    assert answer.per_rank_bytes == 2 * (2 * (CONV + STATE * 4) + 64 * ROW) // 2
    assert answer.kv_cache_dtype == "bf16,conv=bf16"
    answer = allocated("lmdeploy", DECODER, 10, encoder=1500)
    assert causes(answer) == {"block rounding": 2 * (54 * ROW + (24 * 64 - 1500) * 2048)}
    spec = model({"m": mla()}, "mm", mtp="m")
    assert allocated("lmdeploy", spec, 64, num_speculative_tokens=1).allocated_bytes == 3 * 64 * 1152
    # an indexer's keys are packed, and fp8 beside them is DeepSeek's row
    packed = allocated("lmdeploy", model({"m": sparse()}, "m"), 64, dtype="fp8")
    assert (packed.kv_cache_dtype, packed.allocated_bytes) == ("fp8_ds_mla,index=fp8_ds_mla", 64 * (656 + 132))
    assert allocated("lmdeploy", model({"m": mla()}, "m"), 64, dtype="fp8").kv_cache_dtype == "fp8"
    assert allocated("lmdeploy", model({"m": sparse()}, "m"), 64).kv_cache_dtype == "bf16,index=fp8_ds_mla"
    assert causes(allocated("lmdeploy", model({"m": sparse()}, "mm"), 63, pp=2))["block rounding"] == 2 * (1152 + 132)


# --- TensorRT-LLM


def test_tensorrt_llm_rounds_heads_up_and_keeps_windows_unless_told() -> None:
    """8 heads on 3 ranks: 3 on each; 32 blocks of 32 for 1,000 tokens."""
    answer = allocated("tensorrt-llm", WINDOWED, 1000, 3, tp=3, dp=2)
    assert causes(answer) == {"windows kept in full": 3 * 2 * 924 * ROW, "block rounding": 3 * 24 * ROW}
    assert answer.per_rank_bytes == 2 * 3 * 1024 * ROW * 3 // 8
    assert shares(answer)[REPLICAS] == 3 * 3 * 1024 * ROW // 8
    assert (answer.unit_bytes, answer.units) == (3 * 32 * ROW * 3 // 8, 2 * 32)
    assert [(f.name, f.units, f.bytes) for f in answer.figures] == [("sequence", 32, 3 * 1024 * ROW * 3 // 8)]
    # 100 tokens are 4 blocks; a window that has moved straddles a fifth
    for tokens, blocks in ((100, 4), (101, 5), (1000, 5), (96, 3)):
        held = allocated("tensorrt-llm", WINDOWED, tokens, window_blocks=True)
        assert held.allocated_bytes == (2 * blocks + -(-tokens // 32)) * 32 * ROW
        assert set(causes(held)) <= {"block rounding"}


def test_tensorrt_llm_states_encoders_and_latents() -> None:
    answer = allocated("tensorrt-llm", HYBRID, 32, 3, tp=2, dp=2)
    assert answer.allocated_bytes == answer.logical_bytes == 3 * (2 * (CONV + STATE * 4) + 32 * ROW)
    assert answer.per_rank_bytes == 2 * (2 * (CONV + STATE * 4) + 32 * ROW) // 2
    assert (answer.unit_bytes, answer.kv_cache_dtype) == (32 * ROW // 2, "bf16,conv=bf16")
    answer = allocated("tensorrt-llm", DECODER, 10, encoder=1500)
    assert causes(answer) == {"block rounding": 2 * (22 * ROW + (47 * 32 - 1500) * 2048)}
    spec = model({"m": mla()}, "mm", mtp="m")
    assert allocated("tensorrt-llm", spec, 32, num_speculative_tokens=1, tp=4).per_rank_bytes == 3 * 32 * 1152
    drafted = model({"f": full(), "a": short_conv()}, "ff", mtp="a")
    assert allocated("tensorrt-llm", drafted, 32, num_speculative_tokens=1).kv_cache_dtype == "bf16,conv=bf16"


# --- transformers


def test_transformers_windows_and_states_are_shared_by_heads_and_layers() -> None:
    """A window holds W tokens while it decodes; a convolution one column more; states are fp32."""
    answer = allocated("transformers", WINDOWED, 1000, 3, tp=2, pp=3, dp=2)
    assert answer.allocated_bytes == answer.logical_bytes == 3 * (2 * 100 + 1000) * ROW
    assert answer.per_stage_bytes == (2 * 100 * ROW // 2, 2 * 100 * ROW // 2, 2 * 1000 * ROW // 2)
    assert (answer.unit, answer.unit_tokens, answer.units) == ("token", 1, 1000)
    answer = allocated("transformers", HYBRID, 10, 2)
    assert causes(answer) == {"one more column of the convolution": 2 * 2 * CONV // 3}
    assert answer.kv_cache_dtype == "bf16,conv=bf16,state=fp32"
    assert [f.units for f in answer.figures] == [10, 10, 11, 11]


def test_transformers_static_caches_are_as_long_as_they_are_given() -> None:
    answer = allocated("transformers", WINDOWED, 50, cache="static", max_cache_len=200)
    assert causes(answer) == {"allocated up to max_cache_len": (2 * (100 - 50) + 150) * ROW}
    assert causes(allocated("transformers", WINDOWED, 50, cache="static")) == {}
    assert allocated("transformers", WINDOWED, 50, cache="static", max_cache_len=70).allocated_bytes == 3 * 70 * ROW
    encoder = allocated("transformers", DECODER, 10, encoder=1500, cache="static", max_cache_len=30)
    assert encoder.allocated_bytes == 2 * (30 * ROW + 1500 * 2048)
    assert [f.units for f in answer.figures] == [50, 50, 50, 50]


def test_transformers_quantised_caches_have_a_tail() -> None:
    """int4 codes with 4 B for each 64: 72 B for 128 elements; the whole cache is coded anew when a tail reaches 128."""
    coded, plain = 2 * 8 * 72, ROW

    def held(tokens: int, prompt: int | None = 100, window: bool = False) -> Allocation:
        spec = model({"s": sliding(150)} if window else {"f": full()}, "s" if window else "f")
        return allocated("transformers", spec, tokens, cache="quantized", prompt_len=prompt)

    # the prompt is coded at once
    assert held(100).allocated_bytes == held(77, None).allocated_bytes * 100 // 77 == 100 * coded
    assert held(90).allocated_bytes == 90 * coded
    # 27 tokens on, they are a tail; the most so far is now
    assert held(127).allocated_bytes == held(127).logical_bytes == 100 * coded + 27 * plain
    # the 128th codes all of it: 228 coded, but 127 in full were there before
    answer = held(228)
    assert (answer.logical_bytes, answer.allocated_bytes) == (228 * coded, 100 * coded + 127 * plain)
    assert causes(answer) == {"tail before it is quantised": 127 * plain - 128 * coded}
    # a window is kept in full
    answer = held(400, None, window=True)
    assert (answer.logical_bytes, answer.allocated_bytes) == (150 * coded, 400 * coded)
    assert causes(answer) == {"windows kept in full": 250 * coded}
    assert held(120, None, window=True).waste == ()


# --- llama.cpp


def test_llamacpp_allocates_every_cell_of_its_context() -> None:
    """1,000 tokens are padded to 1,024 cells a sequence; windows take pad256(100 + 512) = 768."""
    answer = allocated("llama.cpp", WINDOWED, 1000, 3, pp=2)
    assert answer.per_stage_bytes == (3 * 2 * 768 * ROW, 3 * 1024 * ROW)
    assert causes(answer) == {
        "window cells beyond the window (micro-batch, padding)": 3 * 2 * 668 * ROW,
        "padding and unused cells of the context": 3 * 24 * ROW,
    }
    assert (answer.unit, answer.unit_tokens, answer.units) == ("cell", 1, 3 * 1024)
    assert [(f.name, f.meaning, f.units, f.bytes) for f in answer.figures] == [
        ("cells", "cells per stream of sequences", 1024, 0),
        ("swa_cells", "cells for a window of 100", 768, 0),
    ]
    assert allocated("llama.cpp", DENSE, 1000, pp=2).per_stage_bytes == (2 * 1024 * ROW, 1024 * ROW)
    assert allocated("llama.cpp", model({"f": full()}, "f" * 8), 1, pp=3).per_stage_bytes == (
        3 * 256 * ROW, 3 * 256 * ROW, 2 * 256 * ROW,
    )  # fmt: skip
    assert allocated("llama.cpp", DENSE, 1000, pp=3).per_rank_bytes == 1024 * ROW


@pytest.mark.parametrize(
    ("options", "batch", "cells", "window_cells", "streams"),
    [
        # unified: one stream of pad256(3 x 1,000) cells; windows 3 x 100 + 512 -> 1,024
        ({"kv_unified": True}, 3, 3072, 1024, 1),
        ({"kv_unified": True, "n_seq_max": 7}, 3, 7168, 1280, 1),
        ({"swa_full": True}, 3, 1024, 1024, 3),
        ({"n_ctx": 5000, "n_seq_max": 4}, 3, 1280, 768, 4),
        ({"n_ubatch": 100}, 1, 1024, 256, 1),
        ({"n_batch": 100}, 1, 1024, 256, 1),
        ({"n_ubatch": 5000}, 1, 1024, 1024, 1),
        # the context holds fewer tokens than a micro-batch
        ({"n_ctx": 1001}, 1, 1024, 768, 1),
    ],
)
def test_llamacpp_cells(options: dict[str, Any], batch: int, cells: int, window_cells: int, streams: int) -> None:
    answer = allocated("llama.cpp", WINDOWED, 1000, batch, **options)
    assert answer.allocated_bytes == streams * (cells + 2 * window_cells) * ROW
    assert [figure.units for figure in answer.figures] == [cells, window_cells]


def test_llamacpp_states_and_encoders_are_one_a_sequence() -> None:
    answer = allocated("llama.cpp", HYBRID, 256, 2, n_seq_max=5)
    states = 2 * (CONV * 2 + STATE * 4)  # both parts in fp32
    assert causes(answer) == {
        "states of unused sequences": 3 * states, "padding and unused cells of the context": 3 * 256 * ROW,
    }  # fmt: skip
    assert answer.kv_cache_dtype == "bf16,conv=fp32,state=fp32"
    answer = allocated("llama.cpp", DECODER, 256, 2, encoder=1500, n_seq_max=3)
    assert answer.allocated_bytes == 3 * 2 * (256 * ROW + 1500 * 2048)


def test_llamacpp_prints_a_line_for_each_cache() -> None:
    """2 MiB of keys and 2 of values in the full layer of 1,024 cells; windows in a cache of their own."""
    answer = allocated("llama.cpp", WINDOWED, 1000)
    assert answer.notes == (
        "llama_kv_cache: size =    4.00 MiB (  1024 cells,   1 layers,  1/1 seqs), K:    2.00 MiB, V:    2.00 MiB",
        "llama_kv_cache: size =    6.00 MiB (   768 cells,   2 layers,  1/1 seqs), K:    3.00 MiB, V:    3.00 MiB",
    )
    assert allocated("llama.cpp", model({"a": mamba2()}, "aa"), 10).notes == ()
    (line,) = allocated("llama.cpp", model({"m": mla()}, "mm"), 10, 3, n_seq_max=3).notes
    assert "(   256 cells,   2 layers,  3/3 seqs), K:    1.69 MiB, V:    0.00 MiB" in line
