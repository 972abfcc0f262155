"""vLLM's groups by hand, where the oracle has no case.

Rules: vLLM 0.33.0 v1/core/kv_cache_planning.py (groups 427-556, packing 897-1060, promotion 740-860, one page size
330-425).
"""

from __future__ import annotations

import pytest
from engine_factories import (
    chunked,
    compressed,
    full,
    gdn,
    kda,
    mamba,
    mla,
    model,
    short_conv,
    sliding,
)
from vllm_pools import PAGE, ROW, WINDOWED, allocated, bytes_by, pool, shape

from kvcalc.attention.mla import Mla
from kvcalc.engines.vllm.groups import _approximate_gcd
from kvcalc.problems import KvcalcError


def test_a_larger_block_or_padding_brings_pages_to_one_size() -> None:
    half = model({"s": sliding(100, 4), "f": full()}, "sf")
    assert shape(pool(half)) == [(1, 32, PAGE), (1, 16, PAGE)]
    third = model({"s": sliding(100, 3), "f": full()}, "sf")
    answer = allocated(third, 96)
    assert shape(pool(third)) == [(1, 16, PAGE), (1, 16, PAGE)]
    assert bytes_by(answer.waste) == {"page alignment": 6 * 5 * PAGE // 8}
    states = model({"a": gdn(), "f": full()}, "af")
    assert {page.page_bytes for group in pool(states).groups for page in group.pages} == {272 * ROW}


def wide(rank: int, window: int | None = None) -> Mla:
    return Mla(num_attention_heads=8, kv_lora_rank=rank, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
               sliding_window=window)  # fmt: skip


def test_latents_that_do_not_divide_are_charged_in_full_or_refused() -> None:
    """Pages of 576 and 512 elements: a window may be padded, a full latent not (its rows are indexed whole)."""
    window = model({"a": wide(512), "w": wide(448, 100)}, "aw")
    assert shape(pool(window)) == [(1, 64, 64 * 1152), (1, 64, 64 * 1152)]
    # a window of keys and values beside a latent: 64 x 4,096 B is no multiple of 64 x 1,152
    beside = model({"a": mla(), "s": sliding(100)}, "as")
    shared = pool(beside)
    assert [[page.keep.value for page in group.pages] for group in shared.groups] == [["full", "full"]]
    assert shared.block_bytes == 64 * (1152 + ROW)
    # not so where states, chunks or windows of latents are among them (_try_get_full_allocation_fallback_groups)
    for order, kinds in (
        ("kab", {"k": kda(), "a": wide(512), "b": wide(448)}),
        ("ac", {"a": mla(), "c": chunked(96)}),
        ("abw", {"a": wide(512), "b": wide(448), "w": wide(512, 100)}),
        ("abws", {"a": wide(512), "b": wide(448), "w": wide(512, 100), "s": sliding(100)}),
        ("kas", {"k": kda(), "a": mla(), "s": sliding(100)}),
    ):
        with pytest.raises(KvcalcError) as caught:
            pool(model(kinds, order, model_type="kimi_linear"))
        assert (caught.value.problems[0].message, caught.value.problems[0].help) == (
            "vLLM cannot bring this model's pages to one size",
            "another --block-size may make them divide",
        )


def test_without_the_hybrid_manager_windows_are_charged_in_full() -> None:
    for options in ({"hybrid_kv_cache_manager": False}, {"version": "0.9.2"}):
        answer = allocated(WINDOWED, 1000, **options)
        assert bytes_by(answer.waste) == {"windows kept in full": 2 * 908 * ROW, "block rounding": 8 * ROW}
        assert answer.allocated_bytes == 63 * 3 * PAGE
    chunks = model({"c": chunked(96), "f": full()}, "cf")
    assert shape(pool(chunks, hybrid_kv_cache_manager=False)) == [(2, 16, PAGE)]
    # half as wide: one group all the same, and no padding
    half = model({"s": sliding(100, 4), "f": full()}, "sf")
    shared = pool(half, hybrid_kv_cache_manager=False)
    assert (shape(shared), shared.block_bytes) == ([(2, 16, PAGE // 2)], PAGE + PAGE // 2)
    # nothing to stand beside: windows stay windows
    lone = model({"s": sliding(100), "t": sliding(50)}, "st")
    kept = pool(lone, hybrid_kv_cache_manager=False)
    assert [group.first.keep.value for group in kept.groups] == ["window", "window"]


def test_pages_side_by_side_in_a_block() -> None:
    """BLHNC: pages keep their sizes, and windows recycle blocks of the widest group's bytes."""
    spec = model({"s": sliding(100, 4), "f": full()}, "sssff")
    shared = pool(spec, kv_cache_layout="BLHNC")
    # the full layers' group is 2 pages of 65,536 B wide; a group of windows of 32,768 B may have 4: one of 3
    assert shape(shared) == [(3, 16, PAGE // 2), (2, 16, PAGE)]
    assert shared.stage_block_bytes == (2 * PAGE,)
    assert [len(group.pages) for group in pool(spec, kv_cache_layout="LBNHC").groups] == [2, 1, 2]
    many = model({"s": sliding(100, 4), "f": full()}, "s" * 9 + "ff")
    assert shape(pool(many, kv_cache_layout="BLNHC")) == [(3, 16, PAGE // 2)] * 3 + [(2, 16, PAGE)]
    uneven = model({"s": sliding(100, 4), "t": sliding(100), "f": full(16)}, "s" * 9 + "ttf")
    with pytest.raises(KvcalcError, match="several page sizes over the blocks of this layout"):
        pool(uneven, kv_cache_layout="BLHNC")
    # equal pages need no packing
    assert shape(pool(WINDOWED, kv_cache_layout="BLHNC")) == shape(pool(WINDOWED))


def test_a_pool_without_padding_layers_says_so() -> None:
    for spec, options in (
        (model({"f": full()}, [""]), {}),
        (model({"f": full()}, "ff"), {}),
        (model({"a": mla(), "s": sliding(100)}, "as"), {}),
        (model({"s": sliding(100, 4), "f": full()}, "sf"), {"kv_cache_layout": "BLHNC"}),
    ):
        assert pool(spec, **options).padding_layers == 0


def test_equal_pages_are_dealt_out_in_any_layout() -> None:
    """Packed, the four full layers would share one group."""
    spec = model({"s": sliding(100), "f": full()}, "ssffff")
    for layout in (None, "BLHNC"):
        assert [len(group.pages) for group in pool(spec, kv_cache_layout=layout).groups] == [2, 2, 2]


def test_latents_and_keys_with_pages_of_one_size_stay_apart() -> None:
    """2 x 9 heads x 32 x 2 B are the 1,152 B of a latent of 512 + 64; vLLM compares whole specs of caches."""
    spec = model({"m": mla(), "f": full(9, 32), "s": sliding(100, 9, 32)}, "mfss")
    assert [len(group.pages) for group in pool(spec).groups] == [1, 1, 1, 1]


def test_states_apart_full_attention_that_was_a_window_merges_with_the_rest() -> None:
    """Three states and three full layers make two groups of three (_get_kv_cache_groups_uniform_page_size)."""
    spec = model({"a": gdn(), "s": sliding(100), "f": full()}, "aaasff")
    assert [len(group.pages) for group in pool(spec, version="0.9.2").groups] == [3, 3]


def test_windows_of_compressed_attention_charged_in_full_have_the_full_layers_blocks() -> None:
    shared = pool(model({"c": compressed(4, 128)}, "c"), hybrid_kv_cache_manager=False)
    (group,) = shared.groups
    assert [(page.keep.value, page.block_size) for page in group.pages] == [("full", 256)] * 5


def test_patterns_of_two_page_sizes_set_the_repeats() -> None:
    """Full layers in two pairs, windows in four: groups of four repeats at least; so is one of the windows' alone."""
    kinds = {"a": full(8), "b": full(4), "s": sliding(100, 8), "t": sliding(100, 4)}
    shared = pool(model(kinds, "abab" + "st" * 4), kv_cache_layout="BLHNC")
    assert [len(group.pages) for group in shared.groups] == [4, 8]
    # eight layers of one size are split towards the pairs of two: 8 = 4 x 2
    kinds = {"a": full(8), "b": full(4), "s": sliding(100, 8)}
    shared = pool(model(kinds, "abab" + "s" * 8), kv_cache_layout="BLHNC")
    assert [len(group.pages) for group in shared.groups] == [4, 2, 2, 2, 2]
    # states go by the block that the others need: 1.5 pages of 272 tokens hold one state of a page
    states = model({"a": gdn(), "f": full(8), "g": full(4)}, "aaaaffgg")
    shared = pool(states, kv_cache_layout="BLHNC")
    assert shared.block_bytes == 2 * (272 + 136) * ROW
    assert [len(group.pages) for group in shared.groups] == [2, 2, 4]


@pytest.mark.parametrize(
    ("values", "floor", "size"),
    # by hand: the least padding, the largest of equals
    [([4, 6], 1, 2), ([4, 8], 3, 4), ([5, 7], 2, 7), ([21, 20, 43], 20, 22), ([5], 1, 5), ([5], 5, 5), ([3, 3], 2, 3)],
)
def test_the_size_of_least_padding(values: list[int], floor: int, size: int) -> None:
    assert _approximate_gcd(values, floor) == size


def test_a_state_without_bytes_has_no_page() -> None:
    kinds = {"a": short_conv(64, 1), "b": mamba(64, 16, 4)}
    shared = pool(model(kinds, "aabb"), kv_cache_layout="BLHNC")
    assert [len(group.pages) for group in shared.groups] == [2]
    assert pool(model({"a": short_conv(64, 1)}, "aa")).groups == ()
