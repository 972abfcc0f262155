"""Laws that hold for every geometry, length and format."""

from __future__ import annotations

from dataclasses import replace

from factories import FACTORIES, chunked, cross, full, logical, mla, model, shared, size, sliding, sparse
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.attention import Attention
from kvcalc.attention.whatif import with_kv_heads, with_latent, with_window
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import growth, sequence_bytes

lengths = st.integers(1, 5000)
sizes = st.integers(1, 300)
# Formats that any K, V and latent can be stored in.
formats = st.sampled_from(
    ["fp32", "bf16", "fp8", "fp8_per_token_head", "int4_per_token_head", "int2", "int3", "int7", "int4-g32",
     "int4-g33-zp", "int6-g64-fp32", "nvfp4", "mxfp8", "mxfp4"]
)  # fmt: skip
kinds = st.sampled_from(sorted(FACTORIES)).map(lambda name: FACTORIES[name]())


@given(heads=st.integers(1, 100), width=sizes, tokens=lengths, dtype=formats)
def test_mha_is_gqa_with_as_many_kv_heads_as_query_heads(heads: int, width: int, tokens: int, dtype: str) -> None:
    mha = full(num_attention_heads=heads, num_key_value_heads=heads, head_dim=width)
    gqa = full(num_attention_heads=heads, num_key_value_heads=1, head_dim=width)
    assert logical(with_kv_heads(gqa, None), tokens, dtype=dtype) == logical(mha, tokens, dtype=dtype)


@given(heads=st.integers(1, 100), width=sizes, tokens=lengths, dtype=formats)
def test_mqa_is_gqa_at_one_and_heads_divide_whole_byte_rows(heads: int, width: int, tokens: int, dtype: str) -> None:
    mha = full(num_attention_heads=heads, num_key_value_heads=heads, head_dim=width)
    one = logical(with_kv_heads(mha, 1), tokens, dtype=dtype)
    assert one == logical(full(num_attention_heads=heads, num_key_value_heads=1, head_dim=width), tokens, dtype=dtype)
    # Only the one ceiling per stream keeps MHA from being exactly `heads` times MQA.
    assert 0 <= heads * one - logical(mha, tokens, dtype=dtype) < 2 * heads


@given(tokens=lengths, more=st.integers(0, 5000), dtype=formats)
def test_a_window_that_is_not_reached_is_full_attention(tokens: int, more: int, dtype: str) -> None:
    whole = logical(full(), tokens, dtype=dtype)
    assert logical(sliding(sliding_window=tokens + more), tokens, dtype=dtype) == whole
    assert logical(chunked(attention_chunk_size=tokens + more), tokens, dtype=dtype) == whole


@given(tokens=lengths, window=lengths, dtype=formats)
def test_a_window_keeps_what_full_attention_keeps_of_its_size(tokens: int, window: int, dtype: str) -> None:
    assert logical(sliding(sliding_window=window), tokens, dtype=dtype) == logical(
        full(), min(tokens, window), dtype=dtype
    )


@given(kind=kinds, tokens=lengths, more=st.integers(0, 3000), dtype=formats)
def test_bytes_never_fall_with_the_length(kind: Attention, tokens: int, more: int, dtype: str) -> None:
    assert logical(kind, tokens, encoder=63, dtype=dtype) <= logical(kind, tokens + more, encoder=63, dtype=dtype)


@given(
    layers=st.lists(st.tuples(st.integers(1, 9), kinds), min_size=1, max_size=5), tokens=lengths,
    batch=st.integers(1, 100), dtype=formats,
)  # fmt: skip
def test_bytes_add_over_layers_and_sequences(
    layers: list[tuple[int, Attention]], tokens: int, batch: int, dtype: str
) -> None:
    first = (1, full())  # what shared layers read
    spec = model(first, *layers)
    alone = sum(count * logical(kind, tokens, encoder=63, dtype=dtype) for count, kind in [first, *layers])
    assert logical(spec, tokens, batch=batch, encoder=63, dtype=dtype) == batch * alone


@given(
    layers=st.lists(st.tuples(st.integers(1, 9), kinds), min_size=1, max_size=5), times=st.integers(0, 50),
    dtype=st.one_of(formats, st.just("key=kivi2,value=kivi4-g16-r48"), st.just("key=q8_0,value=q4_0")),
)  # fmt: skip
def test_fixed_and_slope_agree_with_the_direct_sum_beyond_saturation(
    layers: list[tuple[int, Attention]], times: int, dtype: str
) -> None:
    spec = model((1, full()), *layers)
    grown = size(spec, encoder=63, dtype=dtype).growth
    first = -(-grown.from_tokens // grown.step_tokens)
    tokens = max(1, first + times) * grown.step_tokens
    told = grown.fixed_bytes + grown.step_bytes * (tokens // grown.step_tokens)
    assert told == logical(spec, tokens, encoder=63, dtype=dtype)


@given(kind=kinds, dtype=formats)
def test_the_growth_of_groups_adds_up(kind: Attention, dtype: str) -> None:
    spec = model((1, full()), (3, kind), (2, sliding()))
    counted = size(spec, dtype=dtype)
    tokens = counted.growth.step_tokens * -(-2000 // counted.growth.step_tokens)
    parts = [g.growth.fixed_bytes + g.growth.step_bytes * tokens // g.growth.step_tokens for g in counted.groups]
    whole = counted.growth.fixed_bytes + counted.growth.step_bytes * tokens // counted.growth.step_tokens
    assert sum(parts) == whole


@given(kind=kinds, tokens=lengths, wide=st.sampled_from(["fp32", "bf16"]), narrow=formats)
def test_no_format_takes_less_than_two_bits_or_more_than_its_wider_cousin(
    kind: Attention, tokens: int, wide: str, narrow: str
) -> None:
    plain = size(kind, tokens, encoder=63, dtype=wide)
    bits = {"fp32": 32, "bf16": 16}[wide]
    assert plain.kv_bytes * 8 == plain.kv_elements_per_sequence * bits
    assert size(kind, tokens, encoder=63, dtype=narrow).kv_bytes * 8 >= plain.kv_elements_per_sequence * 2


@given(tokens=lengths, rank=sizes, rope=st.integers(0, 100), heads=st.integers(1, 64))
def test_a_latent_never_depends_on_the_heads_it_stands_for(tokens: int, rank: int, rope: int, heads: int) -> None:
    one = logical(mla(kv_lora_rank=rank, qk_rope_head_dim=rope), tokens)
    assert one == logical(mla(kv_lora_rank=rank, qk_rope_head_dim=rope, num_attention_heads=heads), tokens)
    assert one == logical(with_latent(full(), rank, rope), tokens)
    assert logical(sparse(kv_lora_rank=rank, qk_rope_head_dim=rope), tokens) == one + tokens * 96 * 2


@given(tokens=lengths, encoder=st.integers(0, 3000), dtype=formats)
def test_cross_attention_is_full_attention_over_the_encoder(tokens: int, encoder: int, dtype: str) -> None:
    assert logical(cross(), tokens, encoder=encoder, dtype=dtype) == (
        logical(full(), encoder, dtype=dtype) if encoder else 0
    )


@given(kind=kinds, count=st.integers(1, 99), tokens=lengths)
def test_readers_of_a_cache_are_free(kind: Attention, count: int, tokens: int) -> None:
    assert logical(model(kind, (count, shared())), tokens) == logical(kind, tokens)


@given(kind=kinds, window=st.integers(1, 3000), tokens=lengths)
def test_a_what_if_window_never_adds_bytes(kind: Attention, window: int, tokens: int) -> None:
    assert logical(with_window(kind, window), tokens) <= logical(kind, tokens)


@given(tokens=st.integers(1, 10**9), dtype=formats)
def test_lists_of_groups_answer_as_the_footprint_does(tokens: int, dtype: str) -> None:
    spec = model((3, full()), (2, sliding()), mla())
    groups, choice = spec.layout().groups, parse_kv_cache_dtype(dtype)
    assert sequence_bytes(groups, tokens, choice) == logical(spec, tokens, dtype=dtype)
    assert growth(groups, choice) == size(spec, dtype=dtype).growth


def test_names_of_entries_do_not_matter() -> None:
    spec = model((2, full()), sliding())
    renamed = replace(
        spec,
        attention={"zz": spec.attention["layer0"], "aa": spec.attention["layer1"]},
        layers=tuple(
            replace(entry, attention={"layer0": "zz", "layer1": "aa"}[str(entry.attention)]) for entry in spec.layers
        ),
    )
    assert logical(renamed) == logical(spec)
