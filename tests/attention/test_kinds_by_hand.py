"""Each kind's bytes, by arithmetic written out; figures of real models stand in tests/golden."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import (
    FACTORIES,
    block_sparse,
    chunked,
    compressed,
    cross,
    full,
    gated_delta_net,
    kda,
    lightning,
    logical,
    mamba,
    mamba2,
    mla,
    model,
    shared,
    short_conv,
    size,
    sliding,
    sparse,
)

from kvcalc.attention import KINDS, Attention
from kvcalc.attention.whatif import with_kv_heads, with_latent, with_window
from kvcalc.formats import Role
from kvcalc.problems import KvcalcError
from kvcalc.streams import Sharding


def test_every_kind_has_a_factory() -> None:
    assert set(FACTORIES) == set(KINDS)
    for name, make in FACTORIES.items():
        assert type(make()) is KINDS[name]


# --- K and V per head


def test_full_keeps_k_and_v_of_every_token() -> None:
    # 3 KV heads x (96 + 96) elements x 2 B
    assert logical(full(), 63) == 63 * 3 * 192 * 2
    assert logical(full(), 2000, batch=7) == 7 * 2000 * 3 * 192 * 2


def test_v_may_be_narrower_than_k() -> None:
    # MiMo-V2: K 192, V 128
    assert logical(full(head_dim=192, v_head_dim=128), 63) == 63 * 3 * (192 + 128) * 2


def test_mha_mqa_and_gqa_differ_in_kv_heads_alone() -> None:
    heads = {n: logical(full(num_key_value_heads=n), 100) for n in (1, 3, 12)}
    assert heads[1] == 100 * 1 * 192 * 2
    assert heads[12] == 12 * heads[1]
    assert heads[3] == 3 * heads[1]
    labels = [full(num_key_value_heads=n).label for n in (1, 3, 12)]
    assert [label.split()[0] for label in labels] == ["MQA", "GQA", "MHA"]


@pytest.mark.parametrize("make", [sliding, chunked])
def test_a_window_or_chunk_keeps_at_most_its_size(make: type[Attention]) -> None:
    row = 3 * 192 * 2
    assert [logical(make(), tokens) for tokens in (1, 63, 100, 101, 2000)] == [row, 63 * row, *[100 * row] * 3]


def test_cross_attention_keeps_the_encoders_tokens_whatever_the_decoders_length() -> None:
    assert logical(cross(), 1, encoder=1500) == logical(cross(), 2000, encoder=1500) == 1500 * 3 * 192 * 2
    assert logical(cross(), 2000) == 0
    assert size(cross(), encoder=63).cross_bytes == 63 * 3 * 192 * 2
    assert size(full(), encoder=63).cross_bytes == 0


def test_a_shared_layer_keeps_nothing() -> None:
    assert logical(model(full(), (9, shared())), 63) == logical(model(full()), 63)
    assert shared().streams() == ()


# --- latents


def test_mla_keeps_one_latent_and_one_rotary_key_without_a_factor_two() -> None:
    assert logical(mla(), 63) == 63 * (160 + 32) * 2
    (latent,) = mla().streams()
    assert (latent.role, latent.heads, latent.sharding) == (Role.LATENT, 1, Sharding.REPLICATED)


def test_mla_without_a_rotary_part() -> None:
    assert logical(mla(qk_rope_head_dim=0), 63) == 63 * 160 * 2


def test_the_number_of_heads_never_enters_mla() -> None:
    assert logical(mla(num_attention_heads=128)) == logical(mla(num_attention_heads=1))


def test_a_sparse_indexer_adds_one_key_per_token() -> None:
    counted = size(sparse(), 63)
    assert counted.logical_bytes == 63 * (160 + 32 + 96) * 2
    assert counted.index_bytes == 63 * 96 * 2
    assert logical(sparse(index_n_heads=64, index_topk=1), 63) == counted.logical_bytes


def test_a_layer_that_shares_an_index_keeps_the_latent_alone() -> None:
    assert logical(sparse(index_cache="shared"), 63) == logical(mla(), 63)


def test_a_block_sparse_indexer_adds_one_key_per_token_to_all_keys_and_values() -> None:
    counted = size(block_sparse(), 63)
    assert counted.logical_bytes == 63 * (2 * 3 * 96 + 40) * 2
    assert counted.index_bytes == 63 * 40 * 2
    assert logical(block_sparse(index_topk_blocks=1, index_block_size=7), 63) == counted.logical_bytes


def test_minimax_m3_by_hand() -> None:
    """MiniMax-M3: 60 layers of 4 KV heads x 128, an indexer key of 128 in 57 of them."""
    assert 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2 == 137_472
    layers = (3, full(num_attention_heads=64, num_key_value_heads=4, head_dim=128))
    sparse_layers = (57, block_sparse(num_attention_heads=64, num_key_value_heads=4, head_dim=128, index_head_dim=128))
    assert logical(model(layers, sparse_layers), 1000) == 137_472_000


def test_compressed_keeps_a_window_and_one_vector_per_complete_stride() -> None:
    # window of 100, K = V of 160 elements, one more per 4 tokens
    assert logical(compressed(), 63) == (63 + 15) * 160 * 2
    assert logical(compressed(), 2003) == (100 + 500) * 160 * 2
    assert logical(compressed(compress_ratio=128), 2003) == (100 + 15) * 160 * 2
    assert logical(compressed(compress_ratio=0), 2003) == 100 * 160 * 2


def test_compressed_with_an_indexer_keeps_a_small_key_per_stride() -> None:
    counted = size(compressed(index_head_dim=24, index_n_heads=5, index_topk=63), 2003)
    assert counted.index_bytes == 500 * 24 * 2
    assert counted.logical_bytes == (100 + 500) * 160 * 2 + 500 * 24 * 2


def test_a_compressors_waiting_inputs_are_no_cache() -> None:
    buffers = [s for s in compressed().streams() if s.role is Role.BUFFER]
    assert buffers
    assert all(stream.name not in ("window", "compressed") for stream in buffers)
    assert "buffer" not in {s.role for s in size(compressed()).groups[0].streams}


# --- states: convolution in bf16 (K - 1 columns), recurrent part in fp32, whatever the length

STATES = [
    # Mamba-1: 700 channels x 3 x 2 B; 700 x 18 x 4 B
    (mamba(), 700 * 3 * 2, 700 * 18 * 4),
    # Mamba-2: (10 x 70 + 2 x 5 groups x 18) x 3 x 2 B; 10 x 70 x 18 x 4 B
    (mamba2(), (700 + 180) * 3 * 2, 10 * 70 * 18 * 4),
    # gated delta net: (2 x 5 x 24 + 10 x 36) x 3 x 2 B; 10 x 24 x 36 x 4 B
    (gated_delta_net(), (240 + 360) * 3 * 2, 10 * 24 * 36 * 4),
    # KDA: 3 x 10 x 24 x 3 x 2 B; 10 x 24 x 24 x 4 B
    (kda(), 720 * 3 * 2, 10 * 24 * 24 * 4),
    (lightning(), 0, 10 * 24 * 24 * 4),
    # short convolution: 700 x (3 - 1) x 2 B
    (short_conv(), 700 * 2 * 2, 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "convolution", "recurrent"), STATES, ids=lambda value: getattr(value, "kind", None))
def test_a_state_is_constant_in_the_length(kind: Attention, convolution: int, recurrent: int) -> None:
    for tokens in (1, 63, 2000, 10**9):
        counted = size(kind, tokens)
        assert counted.state_bytes == counted.logical_bytes == convolution + recurrent
        assert counted.kv_bytes == 0
    assert counted.growth.step_bytes == 0


@pytest.mark.parametrize(("kind", "convolution", "recurrent"), STATES, ids=lambda value: getattr(value, "kind", None))
def test_both_parts_of_a_state_have_their_own_dtype(kind: Attention, convolution: int, recurrent: int) -> None:
    assert logical(kind, dtype="fp8") == convolution + recurrent
    assert logical(kind, dtype="bf16,state=bf16") == convolution + recurrent // 2
    assert logical(kind, dtype="bf16,conv=fp32") == 2 * convolution + recurrent


def test_a_spec_may_fix_both_dtypes_of_a_state() -> None:
    assert logical(mamba2(conv_dtype="fp32", state_dtype="bf16")) == 880 * 3 * 4 + 10 * 70 * 18 * 2


def test_a_convolution_of_one_column_keeps_nothing() -> None:
    assert logical(short_conv(conv_L_cache=1)) == 0


# --- what if


def test_what_ifs_change_the_kind_and_nothing_else() -> None:
    assert logical(with_kv_heads(full(), None), 63) == 63 * 12 * 192 * 2
    assert logical(with_kv_heads(full(), 1), 63) == 63 * 192 * 2
    assert logical(with_latent(full(), 512, 64), 63) == 63 * 576 * 2
    assert logical(with_window(full(), 32), 63) == 32 * 3 * 192 * 2
    assert logical(with_window(full(v_head_dim=80), 32), 63) == 32 * 3 * (96 + 80) * 2


def test_a_window_stays_a_window_when_its_heads_or_latent_change() -> None:
    assert logical(with_kv_heads(sliding(), 1), 2000) == 100 * 192 * 2
    assert logical(with_latent(sliding(), 160, 32), 2000) == 100 * 192 * 2
    assert logical(with_latent(chunked(), 160, 32), 2000) == 100 * 192 * 2
    assert with_window(sliding(), 4096) == sliding()


def test_cross_attention_keeps_the_encoders_length_under_every_what_if() -> None:
    assert logical(with_kv_heads(cross(), 1), 5, encoder=63) == 63 * 192 * 2
    assert with_latent(cross(), 160, 32) == cross()
    assert with_latent(sliding(sliding_window=1), 160, 32) != sliding(sliding_window=1)
    assert with_window(cross(), 7) == cross()


def test_a_latent_in_place_of_heads_keeps_their_widths() -> None:
    """K of 96 becomes a rotary part of 64 and 32 without; V stays 80, and a rotary part as wide as K leaves one."""
    latent = mla(kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=32)
    assert with_latent(full(v_head_dim=80), 512, 64) == latent
    assert with_latent(sliding(v_head_dim=80), 512, 64) == replace(latent, sliding_window=100)
    widths = [getattr(with_latent(full(), 512, rope), "qk_nope_head_dim", None) for rope in (94, 95, 96, 128)]
    assert widths == [2, 1, 1, 1]


def test_an_expanded_latent_holds_k_and_v_of_every_head() -> None:
    # K: nope 96 + rope 32; V: 80
    assert logical(with_kv_heads(mla(), None), 63) == 63 * 12 * (96 + 32 + 80) * 2
    assert logical(with_latent(mla(), 64, 16), 63) == 63 * 80 * 2
    assert logical(with_window(mla(), 32), 63) == 32 * 192 * 2
    assert logical(with_window(sparse(), 32), 63) == 32 * 288 * 2


@pytest.mark.parametrize("kind", [kind for kind, _, _ in STATES], ids=lambda kind: kind.kind)
def test_what_ifs_leave_a_state_alone(kind: Attention) -> None:
    assert with_kv_heads(kind, 1) == with_latent(kind, 512, 64) == with_window(kind, 7) == kind


def test_kv_heads_that_do_not_divide_the_query_heads_are_refused() -> None:
    with pytest.raises(KvcalcError, match="12 query heads cannot be shared by 5"):
        with_kv_heads(full(), 5)
    with pytest.raises(KvcalcError):
        with_kv_heads(full(), 24)


TOGETHER = "index_head_dim, index_n_heads and index_topk belong together"
CONTRADICTORY = [
    (full(num_key_value_heads=5), "num_key_value_heads", "12 query heads cannot be shared by 5 KV heads"),
    (sliding(num_key_value_heads=24), "num_key_value_heads", "12 query heads cannot be shared by 24 KV heads"),
    (block_sparse(index_n_heads=2), "index_n_heads", "3 KV heads cannot share the choices of 2 indexer heads"),
    (
        gated_delta_net(linear_num_value_heads=7),
        "linear_num_value_heads",
        "7 value heads cannot share 5 key heads",
    ),
    (mamba2(n_groups=3), "n_groups", "10 heads cannot be split into 3 groups"),
    (
        compressed(compress_ratio=0, index_head_dim=24, index_n_heads=5, index_topk=5),
        "index_head_dim",
        "a window-only layer (compress_ratio 0) has nothing to index",
    ),
    (compressed(index_head_dim=24, index_n_heads=5), "index_topk", TOGETHER),
    (compressed(index_head_dim=24, index_topk=5), "index_n_heads", TOGETHER),
    (compressed(index_topk=5), "index_head_dim", TOGETHER),
    (compressed(o_groups=5), "o_groups", "12 heads cannot be split into 5 groups"),
]


@pytest.mark.parametrize(("kind", "field", "message"), CONTRADICTORY, ids=[field for _, field, _ in CONTRADICTORY])
def test_contradictions_name_their_field(kind: Attention, field: str, message: str) -> None:
    assert list(kind.contradictions()) == [(field, message)]


def test_figures_that_go_together_are_no_contradiction() -> None:
    for kind in (
        full(num_key_value_heads=12), block_sparse(index_n_heads=1), gated_delta_net(linear_num_key_heads=10),
        mamba2(n_groups=1), compressed(o_groups=4), compressed(index_head_dim=24, index_n_heads=1, index_topk=5),
    ):  # fmt: skip
        assert list(kind.contradictions()) == []


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_the_default_figures_of_every_kind_hold(make: type[Attention]) -> None:
    assert list(make().contradictions()) == []
    assert make().label
