"""What engines reserve, cause by cause, by hand: where an oracle has no case (replicas, stages, windows, states).

The rules stand, with the engines' files and lines, in the docstrings of kvcalc/engines and in docs/engines.md.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from engine_allocations import (
    CONV,
    DECODER,
    DENSE,
    HYBRID,
    REPLICAS,
    ROW,
    STATE,
    UNEVEN,
    WINDOWED,
    allocated,
    causes,
    shares,
)
from engine_factories import (
    compressed,
    full,
    mla,
    model,
    short_conv,
    sliding,
    sparse,
)

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
    # two windows: the larger decides; pages of 16: 4 of them for 50 tokens, 0.75 of 176 slots are 132, 8 pages
    two = model({"s": sliding(100), "t": sliding(300), "f": full()}, "stf")
    assert causes(allocated("sglang", two, 1000))["window slots kept until freed"] == (2 * 430 - 100 - 300) * ROW
    paged = allocated("sglang", WINDOWED, 50, 2, block_size=16, swa_full_tokens_ratio=Fraction(3, 4))
    assert causes(paged) == {"page rounding": 3 * 2 * 14 * ROW, "pools sized by their ratio": (176 - 128) * ROW}
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
    assert (answer.units, answer.unit_tokens) == (3 * 100, 1)
    assert shares(answer) == {UNEVEN: 3 * 100 * ROW}
    answer = allocated("sglang", WINDOWED, 50, 5, dp=2)
    # 3 sequences: ceil(150 / 0.8) = 188 slots, 150 of the window pool; 2: 125 and 100
    assert answer.allocated_bytes == (188 + 125 + 2 * (150 + 100)) * ROW
    assert answer.per_rank_bytes == (188 + 2 * 150) * ROW
    # 2, 1, 1 and 1
    assert shares(allocated("sglang", DENSE, 100, 5, dp=4)) == {UNEVEN: 3 * 3 * 100 * ROW}
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
    assert allocated("lmdeploy", DENSE, 64, pp=2).unit_bytes == 2 * 64 * ROW  # the fullest stage's


def test_lmdeploy_rounds_every_tensor_up_to_256_bytes() -> None:
    """A block of 1 token, 3 heads of 40: int8 K is 120 B and its scales 12 B, a tensor each, and so is V."""
    spec = model({"f": full(3, 40)}, "f")
    answer = allocated("lmdeploy", spec, 5, dtype="lmdeploy_int8", block_size=1)
    assert causes(answer) == {"tensors rounded up to 256 B": 5 * (4 * 256 - 2 * (120 + 12))}
    many = allocated("lmdeploy", spec, 5, 3, dtype="lmdeploy_int8", block_size=1)
    assert causes(many) == {"tensors rounded up to 256 B": 3 * 5 * (4 * 256 - 2 * (120 + 12))}
    # DeepSeek's packed rows are one tensor each: 656 B and 132 B
    packed = allocated("lmdeploy", model({"m": sparse()}, "m"), 5, dtype="fp8", block_size=1)
    assert packed.allocated_bytes == 5 * (768 + 256)
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
    assert allocated("tensorrt-llm", DENSE, 32, pp=2).unit_bytes == 2 * 32 * ROW
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
    assert allocated("tensorrt-llm", DENSE, 32).kv_cache_dtype == "bf16"


# --- all of them


@pytest.mark.parametrize("engine", ["ideal", "vllm", "sglang", "lmdeploy", "tensorrt-llm"])
def test_prediction_layers_take_part_only_where_tokens_are_speculated(engine: str) -> None:
    """Their formats are settled with the rest: a draft layer with an indexer or a convolution."""
    spec = model({"f": full()}, "ff", mtp="f")
    sizes = [allocated(engine, spec, 64, num_speculative_tokens=tokens).allocated_bytes for tokens in (0, 1)]
    assert sizes == [2 * 64 * ROW, 3 * 64 * ROW]
    units = [allocated(engine, spec, 64, num_speculative_tokens=tokens).unit_bytes for tokens in (0, 1)]
    assert 3 * units[0] == 2 * units[1]
    if engine in ("sglang", "lmdeploy"):
        drafts = model({"f": full(), "m": sparse()}, "ff", mtp="m")
        assert allocated(engine, drafts, 64).kv_cache_dtype == "bf16,index=fp8_ds_mla"
    if engine != "ideal":
        drafts = model({"f": full(), "a": short_conv()}, "ff", mtp="a")
        assert "conv=bf16" in allocated(engine, drafts, 64).kv_cache_dtype
