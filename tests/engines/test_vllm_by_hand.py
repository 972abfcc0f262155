"""vLLM's pages, groups and blocks by hand, where the oracle has no case.

Rules: vLLM 0.33.0 v1/core/kv_cache_planning.py (groups 427-556, packing 897-1060, promotion 740-860, one page size
330-425), platforms/interface.py:940-1105 (states), engine/arg_utils.py:2333 (layers left in the model's dtype).
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
    kda,
    mla,
    model,
    short_conv,
    sliding,
    sparse,
)
from vllm_pools import GDN_STATE, PAGE, ROW, WINDOWED, allocated, bytes_by, pool, settings, shape

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines.vllm.pages import engine_formats, model_pages
from kvcalc.engines.vllm.settings import Settings
from kvcalc.spec.model import ModelSpec

# --- what a sequence holds, and why it is more than its values


def test_a_window_straddles_blocks_and_full_layers_round_up() -> None:
    """1,000 tokens are 63 blocks; a window of 100 is 7 blocks, or 8 where it begins inside one (T = 113: 8 - 0)."""
    answer = allocated(WINDOWED, 1000, 3)
    assert answer.allocated_bytes == 3 * (63 + 2 * 8) * PAGE
    assert bytes_by(answer.waste) == {
        "block rounding": 3 * (8 + 2 * 12) * ROW,
        "blocks that straddle the window": 3 * 2 * 16 * ROW,
    }
    assert bytes_by(answer.reserve) == {"null block": PAGE}
    assert (answer.unit, answer.unit_tokens, answer.unit_bytes, answer.units) == ("block", 16, PAGE, 3 * 79)
    assert answer.notes == (
        "2 groups of 1 x window: blocks of 16 tokens, pages of 65,536 B together on a rank",
        "1 group of 1 x full: blocks of 16 tokens, pages of 65,536 B together on a rank",
    )
    assert [(figure.name, figure.meaning) for figure in answer.figures] == [
        ("steady", "while the next token is computed"),
        ("prefill_peak", "highest while prefilled in steps of 8,192 tokens"),
        ("admission", "charged for a request of 131,072 tokens; the log's concurrency divides by it"),
    ]
    assert [figure.units for figure in answer.figures] == [63 + 2 * 7, 3 * 63, 8192 + 2 * (-(-(99 + 16_384) // 16) + 1)]
    assert [figure.bytes for figure in answer.figures] == [figure.units * PAGE for figure in answer.figures]
    assert allocated(WINDOWED, 1000, version="0.7.9").reserve == ()
    assert bytes_by(allocated(WINDOWED, 1000, version="0.8.0").reserve) == {"null block": 3 * PAGE}


def test_short_groups_pay_for_the_widest() -> None:
    """Five windows beside two full layers: groups of 2, 2 and 1 windows and one of 2 full layers."""
    answer = allocated(model({"s": sliding(100), "f": full()}, "sssssff"), 96)
    assert answer.allocated_bytes == 4 * 6 * 2 * PAGE
    assert bytes_by(answer.waste) == {"blocks of short groups": 6 * PAGE}
    assert answer.notes[0] == "groups are filled up with 1 padding layers"
    # 4 against 3 is below 1.5 times: groups as large as the larger kind
    assert shape(pool(model({"s": sliding(100), "f": full()}, "ssssfff"))) == [(4, 16, PAGE), (3, 16, PAGE)]
    assert pool(model({"s": sliding(100), "f": full()}, "ssssfff")).padding_layers == 1
    # 3 against 2 is not
    assert shape(pool(model({"s": sliding(100), "f": full()}, "sssff"))) == [
        (2, 16, PAGE),
        (1, 16, PAGE),
        (2, 16, PAGE),
    ]


def test_stages_and_replicas_of_a_pool() -> None:
    """A block costs each stage what its layers of the widest group cost; 8 heads on 16 ranks are there twice."""
    spec = model({"s": sliding(100), "f": full()}, "ssff")
    answer = allocated(spec, 96, 3, pp=2, dp=2)
    # two groups of 2, each wholly on one stage
    assert answer.per_stage_bytes == (2 * 12 * 2 * PAGE, 2 * 12 * 2 * PAGE)
    assert bytes_by(answer.waste) == {"blocks of short groups": 3 * 12 * 2 * PAGE}
    assert bytes_by(answer.sharding_waste) == {"uneven ranks": 12 * 2 * 2 * PAGE}
    answer = allocated(spec, 96, tp=16)
    assert bytes_by(answer.sharding_waste) == {"replicas over tensor-parallel ranks": 12 * 2 * PAGE}
    assert answer.allocated_bytes == 12 * 2 * PAGE
    # both copies of a head may hold every other block
    answer = allocated(model({"f": full()}, "f"), 96, tp=16, dcp=2)
    assert (answer.allocated_bytes, answer.per_rank_bytes, answer.sharding_waste) == (6 * PAGE, 3 * PAGE // 8, ())


def test_an_encoders_tokens_have_blocks_of_their_own() -> None:
    """Pages of 16 x 2,048 B become 32 tokens long; 1,500 tokens are 47 of them."""
    spec = model({"f": full(), "x": cross(8, 64)}, [("f", "x")] * 2, encoder=1500)
    answer = allocated(spec, 10, encoder=1500)
    assert shape(pool(spec)) == [(2, 16, PAGE), (2, 32, PAGE)]
    assert answer.allocated_bytes == (1 + 47) * 2 * PAGE
    assert bytes_by(answer.waste) == {"block rounding": 2 * (6 * ROW + 4 * 2048)}
    assert (answer.unit_tokens, answer.notes[1]) == (
        0, "1 group of 2 x encoder: blocks of 32 tokens, pages of 131,072 B together on a rank",
    )  # fmt: skip


def test_states_enlarge_the_blocks_and_are_padded_to_them() -> None:
    """1,097,728 B take 17 x 16 tokens of 4,096 B; prefix caching keeps a state per block of that grid."""
    spec = model({"a": gdn(), "f": full()}, "aaf", model_type="qwen3_next")
    answer = allocated(spec, 1000, 2)
    assert shape(pool(spec)) == [(1, 272, 272 * ROW), (1, 272, 272 * ROW), (1, 272, 272 * ROW)]
    assert answer.allocated_bytes == 2 * (2 + 4) * 272 * ROW
    assert bytes_by(answer.waste) == {
        "state pages padded to attention pages": 2 * 2 * (272 * ROW - GDN_STATE),
        "block rounding": 2 * 88 * ROW,
    }
    assert answer.kv_cache_dtype == "bf16,conv=bf16,state=bf16"
    assert answer.notes[0] == "vLLM stores bf16,conv=bf16,state=bf16 where bf16 is asked for"
    plain = allocated(spec, 1000, enable_prefix_caching=False)
    assert plain.notes[1].startswith("2 groups of 1 x state: one block per request, pages of 1,114,112 B")
    # two speculative tokens: two more columns of the convolution, and two more states
    answer = allocated(spec, 1000, num_speculative_tokens=2)
    wider = GDN_STATE + 8192 * 2 * 2
    block = 16 * -(-wider // (16 * ROW))
    assert bytes_by(answer.waste) == {
        "states of speculative tokens": 2 * (3 * wider - GDN_STATE),
        "state pages padded to attention pages": 2 * 3 * (block * ROW - wider),
        "block rounding": (-(-1000 // block) * block - 1000) * ROW,
    }


@pytest.mark.parametrize(
    ("spec", "options", "block"),
    [
        # a latent of 1,152 B a token beside a KDA state in fp32: steps of 128 tokens
        (model({"a": kda(), "m": mla()}, "am", model_type="kimi_linear"), {}, 128 * -(-2_170_880 // (128 * 1152))),
        (model({"a": gdn(), "f": full()}, "af"), {"block_size": 48}, 48 * -(-GDN_STATE // (48 * ROW))),
        (model({"a": gdn(), "f": full()}, "af"), {"block_size": 512}, 512),
        # 2,048 channels x 2 columns x 2 B fit into one block of 16 as it is
        (model({"a": short_conv(), "f": full()}, "af"), {}, 16),
    ],
)  # fmt: skip
def test_blocks_beside_states(spec: ModelSpec, options: dict[str, Any], block: int) -> None:
    assert 32 * 128 * 128 * 4 + 3 * 32 * 128 * 3 * 2 == 2_170_880
    pages = model_pages(spec, parse_kv_cache_dtype("bf16"), settings(**options))
    assert [page.block_size for page in pages] == [block, block]
    assert len({page.page_bytes for page in pages}) == 1


# --- formats and layers left out of them


@pytest.mark.parametrize(
    ("spec", "asked", "stored"),
    [
        (model({"m": sparse()}, "m"), "fp8", "fp8_ds_mla,index=fp8_ds_mla"),
        (model({"m": sparse()}, "m"), "bf16", "bf16,index=fp8_ds_mla"),
        (model({"m": sparse(index_cache="shared")}, "m"), "fp8", "fp8"),
        (model({"m": sparse()}, "m"), "bf16,index=bf16", "bf16,index=bf16"),
        (model({"m": mla()}, "m"), "fp8", "fp8"),
        (model({"c": compressed(128)}, "c"), "bf16", "fp8_ds_mla"),
        (model({"c": compressed(128)}, "c"), "fp8", "fp8_ds_mla"),
        (model({"c": compressed(128)}, "c"), "mxfp8_ds_mla", "mxfp8_ds_mla"),
        (model({"f": full(), "m": mla()}, "f", mtp="m"), "fp8", "fp8"),
        # states are bf16, but for the models whose own dtype is fp32 (models/config.py:808-966)
        (model({"a": gdn()}, "a"), "bf16", "bf16,conv=bf16,state=bf16"),
        (model({"a": gdn()}, "a", model_type="qwen3_5"), "fp8", "fp8,conv=bf16,state=fp32"),
        (model({"a": short_conv()}, "a", model_type="nemotron_h"), "bf16", "bf16,conv=bf16,state=bf16"),
    ],
)  # fmt: skip
def test_what_is_stored_for_what_is_asked(spec: ModelSpec, asked: str, stored: str) -> None:
    assert engine_formats(spec, parse_kv_cache_dtype(asked), Settings()).name == stored


def test_a_states_dtype_may_be_given() -> None:
    spec = model({"a": gdn()}, "a")
    given = Settings(mamba_ssm_cache_dtype="fp32")
    assert engine_formats(spec, parse_kv_cache_dtype("bf16"), given).name == "bf16,conv=bf16,state=fp32"


def test_some_formats_leave_the_ends_of_a_dense_model_alone() -> None:
    """TurboQuant k8v4: 196 B for 128 elements of K and V; blocks grow until 16 tokens of bf16 (4,096 B) fit."""
    spec = model({"f": full()}, "f" * 6)
    pages = model_pages(spec, parse_kv_cache_dtype("turboquant_k8v4"), Settings())
    # 8 heads x 196 B = 1,568 B a token: 4,096 x 16 / (1,568 x 16), rounded up, 3 x 16 tokens
    assert [page.block_size for page in pages] == [48] * 6
    assert [page.page_bytes for page in pages] == [48 * ROW] * 2 + [48 * 1568] * 2 + [48 * ROW] * 2
    assert [page.formats.default.name for page in pages] == ["bf16"] * 2 + ["turboquant_k8v4"] * 2 + ["bf16"] * 2

    def plain(order: str, kinds: Any = None, dtype: str = "turboquant_k8v4", **options: Any) -> list[int]:
        found = model_pages(model(kinds or {"f": full()}, order), parse_kv_cache_dtype(dtype), settings(**options))
        return [page.layer for page in found if page.formats.default.name == "bf16"]

    # of 3 layers one at each end, of one none; draft layers are no end of the model
    assert (plain("fff"), plain("f"), plain("fffff")) == ([0, 2], [], [0, 1, 3, 4])
    assert plain("fffff", dtype="ultraquant_4bit") == [0, 1, 3, 4]
    assert plain("fffff", dtype="fp8") == []
    assert plain("fffff", skip_layers=()) == []
    assert plain("fffff", skip_layers=(2,), dtype="fp8") == [2]
    assert plain("fffaaff", {"f": full(), "a": gdn()}) == []  # hybrids have no ends
    drafts = model({"f": full()}, "f" * 5, mtp="f")
    found = model_pages(drafts, parse_kv_cache_dtype("turboquant_k8v4"), Settings(num_speculative_tokens=1))
    assert [page.layer for page in found if page.formats.default.name == "bf16"] == [0, 1, 3, 4]


def test_layers_left_alone_share_blocks_that_cover_both_formats() -> None:
    def blocks(dtype: str, skip: tuple[int, ...], **options: Any) -> list[int]:
        spec = model({"f": full()}, "fff")
        pages = model_pages(spec, parse_kv_cache_dtype(dtype), settings(skip_layers=skip, **options))
        return [page.block_size for page in pages]

    assert blocks("fp8", (1,)) == [32] * 3  # 4,096 / 2,048 B a token
    assert blocks("fp8", (1,), block_size=64) == [64] * 3
    assert blocks("fp8", (1,), block_size=24) == [48] * 3  # in steps of the block, once more than 16
    assert blocks("bf16", (1,)) == [16] * 3
    assert blocks("fp32", (1,)) == [16] * 3
    assert blocks("fp8", (0, 1, 2)) == [16] * 3
    # a token of octave_k3v3_compact: K 50 and V 50 B of each head, rounded up to 4: 800 B against 4,096
    assert blocks("octave_k3v3_compact", (0,)) == [96] * 3
    mixed = model({"a": gdn(), "f": full()}, "aff")
    pages = model_pages(mixed, parse_kv_cache_dtype("fp8"), settings(skip_layers=(1,), enable_prefix_caching=False))
    assert [page.block_size for page in pages][1:] == [32, 32]
    assert pages[0].block_size == 0


@pytest.mark.parametrize(
    ("dtype", "width", "slot"),
    # K and V of one head and token together: TurboQuant to 2 B, Octave to 8, its compact form to 4
    [("turboquant_3bit_nc", 128, 50 + 52), ("turboquant_k3v4_nc", 128, 50 + 68), ("octave_k3v3", 128, 120),
     ("octave_k3v3_compact", 128, 100), ("octave_k3v4", 128, 136),
     ("turboquant_k3v4_nc", 72, 27 + 2 + 36 + 4 + 1), ("octave_k3v3_compact", 64, 2 * (24 + 2))],
)  # fmt: skip
def test_slots_are_rounded_up(dtype: str, width: int, slot: int) -> None:
    spec, formats = model({"f": full(8, width)}, "f"), parse_kv_cache_dtype(dtype)
    (page,) = model_pages(spec, formats, settings(skip_layers=()))
    assert page.page_bytes == 16 * 8 * slot
    (page,) = model_pages(spec, formats, settings(skip_layers=(), tp=4))
    assert page.page_bytes == 16 * 2 * slot


def test_blocks_by_kind() -> None:
    """16 tokens; 64 with a latent; 256 with compressed attention, whose windows have 64."""

    def blocks(spec: ModelSpec, **options: Any) -> list[int]:
        return [page.block_size for page in model_pages(spec, parse_kv_cache_dtype("bf16"), settings(**options))]

    assert blocks(model({"f": full()}, "f")) == [16]
    assert blocks(model({"f": full(), "m": mla()}, "fm")) == [64, 64]
    assert blocks(model({"m": mla()}, "m"), block_size=32) == [32]
    assert blocks(model({"c": compressed(4, 128)}, "c")) == [64, 256, 4, 256, 4]
    assert blocks(model({"h": compressed(128)}, "h"), block_size=512) == [64, 512, 8]
    # pages of compressed attention are rounded up to 576 B under the packed row, else to 512
    spec = model({"h": compressed(128)}, "h")
    sizes = {dtype: [page.page_bytes for page in model_pages(spec, parse_kv_cache_dtype(dtype), Settings())]
             for dtype in ("bf16", "mxfp8_ds_mla")}  # fmt: skip
    assert sizes["bf16"] == [65 * 576, 3 * 576, 57 * 576]  # 64 x 584; 2 x 584 = 1,168; 8 x 4,096
    assert sizes["mxfp8_ds_mla"] == [66 * 512, 3 * 512, 64 * 512]  # 64 x 528; 2 x 528 = 1,056; 8 x 4,096


def test_speculative_tokens_add_layers_and_keep_windows_longer() -> None:
    spec = model({"s": sliding(100)}, "ss", mtp="s")
    assert len(pool(spec).groups[0].pages) == 2
    drafts = allocated(spec, 1000, num_speculative_tokens=3)
    # W + 2: at T = 113 + 2 still 8 blocks; two more tokens below the window
    assert drafts.allocated_bytes == 3 * 8 * PAGE
    assert [figure.units for figure in drafts.figures][2] == -(-(99 + 2 + 16_384) // 16) + 1
    assert Fraction(drafts.units) == 8


def test_the_first_attention_layer_and_the_largest_state_settle_the_block() -> None:
    """The heads of config.json are the first layer's; gdn() in fp32 is larger than kda() in fp32."""

    def blocks(kinds: Any, order: str) -> list[int]:
        spec = model(kinds, order, model_type="kimi_linear")
        return [page.block_size for page in model_pages(spec, parse_kv_cache_dtype("bf16"), Settings())]

    largest = 8192 * 3 * 2 + 32 * 128 * 128 * 4
    assert blocks({"a": gdn(), "k": kda(16), "f": full()}, "akf") == [16 * -(-largest // PAGE)] * 3
    assert blocks({"k": kda(), "f": full(), "g": full(4)}, "kfg") == [16 * -(-2_170_880 // PAGE)] * 3
    assert blocks({"k": kda(), "f": full(), "g": full(4)}, "kgf") == [16 * -(-2_170_880 // (PAGE // 2))] * 3


def test_odd_rows_are_not_rounded() -> None:
    (page,) = model_pages(model({"f": full(8, 63, 64)}, "f"), parse_kv_cache_dtype("fp8"), Settings())
    assert page.page_bytes == 16 * 8 * 127


def test_padded_slots_keep_their_padding_in_larger_blocks() -> None:
    """Octave's slots of 118 B are padded to 120: 8 heads, 960 B against 4,096 of bf16; 5 x 16 tokens."""
    pages = model_pages(model({"f": full()}, "ff"), parse_kv_cache_dtype("octave_k3v3"), settings(skip_layers=(0,)))
    assert [(page.block_size, page.page_bytes, page.rank_bytes) for page in pages] == [
        (80, 80 * ROW, 80 * ROW), (80, 80 * 960, 80 * 8 * 118),
    ]  # fmt: skip
    equal = model_pages(
        model({"f": full()}, "ff"), parse_kv_cache_dtype("bf16"), settings(skip_layers=(0,), block_size=8)
    )
    assert [page.block_size for page in equal] == [8, 8]
