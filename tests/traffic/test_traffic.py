"""Bytes and FLOPs of a step, against arithmetic written out."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_models import gqa, mla, model, workload

from kvcalc.attention.block_sparse import BlockSparse
from kvcalc.attention.compressed import Compressed
from kvcalc.attention.cross import Cross
from kvcalc.attention.gated_delta_net import GatedDeltaNet
from kvcalc.attention.sliding import Sliding
from kvcalc.attention.sparse import Sparse
from kvcalc.footprint import footprint
from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc.steps import Convention, Heads, Latent, parse_convention
from kvcalc.traffic import Traffic, traffic
from kvcalc.weight_traffic import FIXED_POINT, Shards, missed
from kvcalc.weights.sharding import WeightSharding


def tp(ranks: int, context: int = 1, **others: object) -> Shards:
    return Shards(weights=WeightSharding(tensor=ranks, **others), decode_context=context)  # type: ignore[arg-type]


def flops(counted: Traffic, name: str) -> int:
    return sum(
        w.flops * g.layers * counted.rank_batch
        for g in counted.groups
        for k in g.kernels
        for w in k.work
        if w.name == name
    )


def test_qwen_72b_reads_its_whole_cache() -> None:
    """2 x 80 layers x 64 heads x 128 x 2 B x 32,768 tokens x 8 sequences; 4 FLOPs per element and query head."""
    counted = traffic(shipped_model("qwen-72b"), workload(32768, batch_size=8))
    assert counted.kv_read_bytes == 2 * 80 * 64 * 128 * 2 * 32768 * 8 == 687_194_767_360
    assert counted.attention_flops == 4 * 80 * 64 * 128 * 32768 * 8
    assert counted.written_bytes == 2 * 80 * 64 * 128 * 2 * 8


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith(("llama-2", "qwen3-32", "gemma-2"))])
@pytest.mark.parametrize("tokens", [1, 63, 5000])
def test_what_is_kept_is_what_is_read(name: str, tokens: int) -> None:
    """Without indexers, chunks and shared layers a decode step reads the logical bytes, all of them, once."""
    spec, asked = shipped_model(name), workload(tokens, batch_size=3)
    assert traffic(spec, asked).cache_read_bytes == footprint(spec, asked).logical_bytes


def test_expanded_heads_read_once_per_query_head() -> None:
    grouped = traffic(model((1, gqa(64, 8))), workload(1000))
    expanded = traffic(model((1, gqa(64, 8))), workload(1000), convention=Convention(heads=Heads.EXPANDED))
    assert expanded.kv_read_bytes == 8 * grouped.kv_read_bytes
    assert expanded.attention_flops == grouped.attention_flops
    assert expanded.written_bytes == grouped.written_bytes


def test_mla_absorbed_and_expanded() -> None:
    """Per head and row 2 x (576 + 512) absorbed; expanded 2 x (192 + 128), after 2 x 512 x (128 + 128) to make them."""
    absorbed = traffic(model((1, mla(128))), workload(1000))
    expanded = traffic(model((1, mla(128))), workload(1000), convention=Convention(latent=Latent.EXPANDED))
    assert absorbed.attention_flops == 128 * 1000 * 2 * (576 + 512)
    assert expanded.attention_flops == 128 * 1000 * (2 * (192 + 128) + 2 * 512 * 256)
    assert absorbed.kv_read_bytes == expanded.kv_read_bytes == 1000 * 576 * 2


def test_gla_intensity() -> None:
    """GLA (arXiv 2505.21487) prints about 2 h_q = 256 FLOP/B for MLA with 128 heads in bf16, exactly
    2 h_q (576 + 512) / (2 x 576) = 241.8; two latent heads of half the width each serve 64 query heads: half of it."""
    counted = traffic(model((1, mla(128))), workload(4096))
    assert round(counted.attention_flops / counted.kv_read_bytes, 1) == 241.8


def test_sparse_indexer_scans_all_and_reads_the_chosen() -> None:
    """DeepSeek-V3.2: 64 indexer heads over 128-wide keys of every token, 128 heads over 2,048 latents."""
    kind = Sparse(
        num_attention_heads=128, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
        index_head_dim=128, index_n_heads=64, index_topk=2048,
    )  # fmt: skip
    counted = traffic(model((61, kind)), workload(32768, "fp8_ds_mla"))
    assert counted.index_read_bytes == 61 * 32768 * 132
    assert counted.kv_read_bytes == 61 * 2048 * 656
    assert flops(counted, "index") == 61 * 32768 * 64 * 2 * 128
    assert flops(counted, "scores") == 61 * 2048 * 128 * 2 * 576
    short = traffic(model((61, kind)), workload(100))
    assert short.kv_read_bytes == 61 * 100 * 576 * 2


def test_block_sparse_scans_all_and_reads_whole_blocks() -> None:
    """MiniMax-M3: 4 indexer heads over 128-wide keys of every token, 16 blocks of 128 tokens for each of 4 KV heads."""
    kind = BlockSparse(
        num_attention_heads=64, num_key_value_heads=4, head_dim=128, index_head_dim=128, index_n_heads=4,
        index_block_size=128, index_topk_blocks=16,
    )  # fmt: skip
    counted = traffic(model((57, kind)), workload(32768))
    assert counted.index_read_bytes == 57 * 32768 * 128 * 2
    assert counted.kv_read_bytes == 57 * 2048 * 2 * 4 * 128 * 2
    assert flops(counted, "index") == 57 * 32768 * 4 * 2 * 128
    assert flops(counted, "scores") == 57 * 2048 * 64 * 2 * 128
    assert traffic(model((57, kind)), workload(100)).kv_read_bytes == 57 * 100 * 2 * 4 * 128 * 2


def test_compressed_reads_window_and_chosen_strides() -> None:
    """DeepSeek-V4, ratio 4: 128 raw rows, 512 chosen of 32,768 / 4 compressed ones, every indexer key."""
    kind = Compressed(
        num_attention_heads=64, head_dim=512, sliding_window=128, compress_ratio=4,
        index_head_dim=128, index_n_heads=64, index_topk=512,
    )  # fmt: skip
    counted = traffic(model((1, kind)), workload(32768))
    assert counted.kv_read_bytes == (128 + 512) * 512 * 2
    assert counted.index_read_bytes == 8192 * 128 * 2
    assert counted.attention_flops == 64 * (128 + 512) * 4 * 512 + 8192 * 64 * 2 * 128
    # A row of 512 bf16 each token; a compressed row and an indexer key every fourth.
    assert counted.written_bytes == 512 * 2 + Fraction(512 * 2 + 128 * 2, 4)


def test_windows_cross_and_states() -> None:
    window = Sliding(num_attention_heads=8, num_key_value_heads=4, head_dim=64, sliding_window=100)
    assert traffic(model((1, window)), workload(5000)).kv_read_bytes == 2 * 4 * 64 * 2 * 100
    cross = Cross(num_attention_heads=8, num_key_value_heads=8, head_dim=64)
    counted = traffic(model((1, cross)), workload(5, encoder_len=1500))
    assert (counted.cross_read_bytes, counted.kv_read_bytes, counted.written_bytes) == (2 * 8 * 64 * 2 * 1500, 0, 0)
    delta = GatedDeltaNet(
        linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
    )  # fmt: skip
    state, conv = 32 * 128 * 128 * 4, (2 * 16 * 128 + 32 * 128) * 3 * 2
    counted = traffic(model((1, delta)), workload(5000, batch_size=2))
    assert counted.state_read_bytes == counted.written_bytes == 2 * (state + conv)


def test_shared_layers_read_without_keeping() -> None:
    """Gemma-3n: 15 of 35 layers read an earlier layer's cache; they cost traffic and no memory."""
    spec, asked = shipped_model("gemma-3n-e4b"), workload(300)
    per_layer = 2 * 2 * 256 * 300 * 2
    assert footprint(spec, asked).logical_bytes == 20 * per_layer
    assert traffic(spec, asked).kv_read_bytes == 35 * per_layer


def test_kivi_writes_its_mean() -> None:
    """2 bits a value, 32 bits a group of 32: three bits an element in the mean, once a tail has been coded."""
    counted = traffic(model((1, gqa(32, 8))), workload(4096, "kivi2"))
    assert counted.written_bytes == Fraction(2 * 8 * 128 * 3, 8)


@given(tokens=st.integers(1, 10**6), batch=st.integers(1, 10**4))
@settings(max_examples=30)
def test_prefill_counts_every_pair(tokens: int, batch: int) -> None:
    counted = traffic(model((3, gqa(32, 8))), workload(tokens, batch_size=batch), phase="prefill")
    assert counted.attention_flops == batch * 3 * 32 * 4 * 128 * tokens * (tokens + 1) // 2
    assert counted.written_bytes == batch * 3 * 2 * 8 * 128 * 2 * tokens


def test_tensor_parallel_splits_heads_and_not_latents() -> None:
    grouped = model((1, gqa(64, 8)))
    one, eight, sixteen = (traffic(grouped, workload(1000), shards=tp(n)) for n in (1, 8, 16))
    assert one.kv_read_bytes == 8 * eight.kv_read_bytes == 8 * sixteen.kv_read_bytes
    assert one.attention_flops == 8 * eight.attention_flops == 16 * sixteen.attention_flops
    whole, shared = (traffic(model((1, mla(128))), workload(1000), shards=tp(n)) for n in (1, 8))
    assert whole.kv_read_bytes == shared.kv_read_bytes
    assert whole.attention_flops == 8 * shared.attention_flops
    context = traffic(model((1, mla(128))), workload(1000), shards=tp(8, 8))
    assert whole.kv_read_bytes == 8 * context.kv_read_bytes
    assert whole.attention_flops == 8 * context.attention_flops


def test_data_parallel_splits_the_batch() -> None:
    counted = traffic(model((1, gqa(64, 8))), workload(1000, batch_size=9), shards=tp(1, data=4))
    assert counted.rank_batch == 3
    assert counted.kv_read_bytes == 3 * 2 * 8 * 128 * 2 * 1000


def test_expected_experts() -> None:
    """Mixtral: 2 of 8. One token meets 2; two meet 8 (1 - (6/8)^2) = 3.5; many meet all."""
    shares = [1 - Fraction(missed(2, 8, tokens), 2**FIXED_POINT) for tokens in (1, 2, 10**18)]
    assert [8 * share for share in shares[:2]] == [2, Fraction(7, 2)]
    assert abs(8 * shares[2] - 8) < Fraction(1, 10**30)


def test_mixtral_weights() -> None:
    """32 layers x 3 matrices of 4096 x 14336 in bf16 per expert; FLOPs of two experts per token."""
    spec = shipped_model("mixtral-8x7b")
    each = 32 * 3 * 4096 * 14336
    for batch, experts in ((1, Fraction(2)), (2, Fraction(7, 2))):
        parts = {part.component: part for part in traffic(spec, workload(100, batch_size=batch)).weights}
        assert parts["routed_experts"].read_bytes == experts * each * 2
        assert parts["routed_experts"].flops == batch * 2 * each * 2
        assert parts["embedding"].read_bytes == batch * 4096 * 2
        assert parts["head"].flops == batch * 2 * 4096 * 32000
    assert traffic(spec, workload(100), shards=tp(8)).weight_read_bytes < 2 * 2 * each / 8 * 2


def test_expert_parallel_holds_whole_experts() -> None:
    """64 tokens meet nearly all of 8 experts; of 8 ranks each holds one, read whole, and an eighth of the FLOPs."""
    spec = shipped_model("mixtral-8x7b")
    each = 3 * 4096 * 14336
    counted = traffic(spec, workload(100, batch_size=64), shards=tp(8, expert_parallel=True))
    routed = next(part for part in counted.weights if part.component == "routed_experts")
    share = 1 - Fraction(6, 8) ** 64
    assert abs(routed.read_bytes - 32 * each * 2 * share) <= 32
    assert routed.flops == 64 * 2 * 2 * each * 32 // 8


def test_a_tied_head_is_read_whole() -> None:
    spec = shipped_model("gemma-2-9b")
    parts = {part.component: part for part in traffic(spec, workload(100)).weights}
    assert parts["head"].read_bytes == 256000 * 3584 * 2
    assert parts["embedding"].read_bytes == 3584 * 2


def test_cross_attention_projects_its_rows_once() -> None:
    """Whisper: a decode step never reads the K and V projections of the encoder's output."""
    spec, asked = shipped_model("whisper-large-v2"), workload(100, encoder_len=1500)
    decode, prefill = (
        {part.component: part.read_bytes for part in traffic(spec, asked, phase=phase).weights}
        for phase in ("decode", "prefill")
    )
    assert prefill["attention"] - decode["attention"] == 32 * (2 * 1280 * 1280 + 1280) * 2


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_model_has_traffic(name: str) -> None:
    spec = shipped_model(name)
    for tokens in (1, 1000):
        counted = traffic(spec, workload(tokens, batch_size=2, encoder_len=10))
        kept = footprint(spec, workload(tokens, batch_size=2, encoder_len=10)).logical_bytes
        assert counted.cache_read_bytes > 0
        assert counted.cache_read_bytes <= kept or any("shares" in g.label for g in counted.groups)
        parts = ("kv_read_bytes", "index_read_bytes", "cross_read_bytes", "state_read_bytes")
        assert counted.cache_read_bytes == sum(getattr(counted, part) for part in parts)
        prefill = traffic(spec, workload(tokens, batch_size=2, encoder_len=10), phase="prefill")
        assert prefill.written_bytes == kept
        assert counted.bytes == counted.cache_read_bytes + counted.written_bytes + counted.weight_read_bytes


def test_conventions_are_words() -> None:
    assert parse_convention("expanded,mla-expanded") == Convention(heads=Heads.EXPANDED, latent=Latent.EXPANDED)
    assert parse_convention("absorbed") == Convention()
    for wrong in ("", "absorbd", "grouped,expanded"):
        with pytest.raises(KvcalcError):
            parse_convention(wrong)


def test_context_ranks_come_from_the_tensor_ranks() -> None:
    with pytest.raises(KvcalcError, match="does not divide"):
        tp(8, 3)
