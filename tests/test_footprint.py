"""A model's bytes: sums over layers, their parts, and fixed + slope x tokens."""

from __future__ import annotations

import pytest
from factories import cross, full, gated_delta_net, logical, mamba2, mla, model, shared, size, sliding, sparse

from kvcalc.cache_dtypes import BF16, parse_kv_cache_dtype
from kvcalc.footprint import Growth, Workload, footprint, growth, sequence_bytes, workload_for
from kvcalc.formats import Role
from kvcalc.layout import CacheGroup
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import Layer, LayerEntry
from kvcalc.streams import Stream, Strided

ROW = 3 * 192 * 2
"""K and V of one token in one layer of the factories: 3 heads x (96 + 96) x 2 B."""


def test_layers_add_up() -> None:
    spec = model((5, sliding()), (2, full()))
    assert logical(spec, 63) == 7 * 63 * ROW
    assert logical(spec, 2000) == 5 * 100 * ROW + 2 * 2000 * ROW
    assert logical(spec, 2000, batch=8) == 8 * logical(spec, 2000)


def test_the_parts_add_up_to_the_whole() -> None:
    spec = model((2, full()), (3, sparse()), (2, mamba2()), cross())
    counted = size(spec, 63, batch=5, encoder=37)
    assert counted.logical_bytes == counted.kv_bytes + counted.state_bytes == sum(g.bytes for g in counted.groups)
    assert counted.state_bytes == 5 * 2 * (880 * 3 * 2 + 700 * 18 * 4)
    assert counted.index_bytes == 5 * 3 * 63 * 96 * 2
    assert counted.cross_bytes == 5 * 37 * ROW
    assert counted.kv_bytes == 5 * (2 * 63 * ROW + 3 * 63 * 288 * 2 + 37 * ROW)
    assert counted.bytes_per_sequence * 5 == counted.logical_bytes
    assert counted.kv_elements_per_sequence * 2 * 5 == counted.kv_bytes
    for group in counted.groups:
        assert group.bytes == 5 * len(group.layers) * group.bytes_per_layer
        assert group.bytes_per_layer == sum(stream.bytes for stream in group.streams)


def test_groups_name_their_layers_in_order() -> None:
    pattern = (Layer(count=2, attention="layer0"), Layer(attention="layer1"), Layer())
    spec = model(sliding(), full(), layers=(LayerEntry(count=2, pattern=pattern), LayerEntry(attention="layer0")))
    assert [group.layers for group in size(spec).groups] == [(0, 1, 4, 5, 8), (2, 6), (3, 7)]
    assert [group.bytes_per_layer for group in size(spec, 63).groups] == [63 * ROW, 63 * ROW, 0]


def test_a_layer_may_hold_two_caches_or_none() -> None:
    twice = model(mla(), layers=(LayerEntry(count=3, attention=("layer0", "layer0")), LayerEntry(count=4)))
    assert logical(twice, 63) == 3 * 2 * 63 * 192 * 2
    decoder = model(full(), cross(), layers=(LayerEntry(attention=("layer0", "layer1")),))
    assert logical(decoder, 63, encoder=37) == (63 + 37) * ROW


def test_a_layout_is_counted_as_its_spec_is() -> None:
    spec = model((5, sliding()), (2, full()), cross())
    workload, _ = workload_for(spec, batch_size=3, seq_len=63, encoder_len=5)
    assert footprint(spec.layout(), workload) == footprint(spec, workload)


def test_layers_that_share_a_cache_add_nothing() -> None:
    assert logical(model((4, full()), (9, shared())), 63) == 4 * 63 * ROW


def test_a_window_becomes_part_of_the_fixed_bytes() -> None:
    grown = size(model((5, sliding()), (2, full()))).growth
    assert (grown.fixed_bytes, grown.step_bytes, grown.step_tokens) == (5 * 100 * ROW, 2 * ROW, 1)
    assert grown.from_tokens == 100


def test_full_attention_grows_from_the_first_token_on() -> None:
    grown = size(model((2, full()))).growth
    assert (grown.fixed_bytes, grown.step_bytes, grown.from_tokens) == (0, 2 * ROW, 0)


def test_nothing_cached_grows_by_nothing() -> None:
    assert growth((), BF16) == Growth(fixed_bytes=0, step_bytes=0, step_tokens=1, from_tokens=0)


def test_no_encoder_tokens_unless_they_are_given() -> None:
    groups = model(cross()).layout().groups
    assert sequence_bytes(groups, 10, BF16) == growth(groups, BF16).fixed_bytes == 0


def test_growth_of_states_and_encoders_is_fixed() -> None:
    grown = size(model(gated_delta_net(), cross()), encoder=63).growth
    assert grown.step_bytes == 0
    assert grown.fixed_bytes == logical(model(gated_delta_net(), cross()), 1, encoder=63)


def test_growth_of_strided_rows_is_told_per_stride() -> None:
    from factories import compressed

    grown = size(model(compressed(), compressed(compress_ratio=6))).growth
    assert grown.step_tokens == 12
    assert grown.step_bytes == (3 + 2) * 160 * 2
    assert grown.fixed_bytes == 2 * 100 * 160 * 2


def test_sub_byte_rows_have_an_exact_slope_over_several_tokens() -> None:
    # 1 head x 3 elements x 5 bits = 15 bits a row, K and V: 8 rows are 15 B each
    grown = size(full(num_attention_heads=1, num_key_value_heads=1, head_dim=3), dtype="int5").growth
    assert (grown.step_tokens, grown.step_bytes) == (8, 30)


def test_kivi_growth_counts_the_full_precision_tail_as_fixed() -> None:
    grown = size(full(), dtype="kivi2").growth
    # at whole residuals the keys have no tail, the newest 128 values stay in 16 bits
    codes = 3 * 96 * 2 // 8 + 3 * 3 * 4  # a row of V: 2 bits an element, 4 B for each of 3 groups in 3 heads
    assert grown.fixed_bytes == 128 * (3 * 96 * 2 - codes)
    assert grown.from_tokens == 128


def test_a_tail_of_strided_rows_is_as_many_strides_long() -> None:
    """One row of V for 4 tokens: the newest 128 rows, which stay in 16 bits, are those of 512 tokens."""
    values = Stream(role=Role.VALUE, heads=3, width=96, extent=Strided(4))
    group = CacheGroup(names=("v",), label="", source="", streams=(values,), indices=(0,))
    assert growth((group,), parse_kv_cache_dtype("kivi2")).from_tokens == 4 * 128


def test_k_and_v_may_be_stored_in_different_formats() -> None:
    assert logical(full(), 63, dtype="key=q8_0,value=q4_0") == 63 * 3 * 3 * (34 + 18)


def test_a_format_that_does_not_fit_is_refused() -> None:
    with pytest.raises(KvcalcError, match="no multiple"):
        size(full(head_dim=80), dtype="q8_0")


def test_huge_figures_stay_exact() -> None:
    width = 2**40
    counted = size(
        model((10_000, full(num_attention_heads=1, num_key_value_heads=1, head_dim=width))), 2**60, batch=2**60
    )
    assert counted.logical_bytes == 2**60 * 10_000 * 2**60 * 2 * width * 2


# --- what a workload assumes


def test_length_defaults_to_the_context_and_beyond_it_is_answered_with_a_warning() -> None:
    workload, warnings = workload_for(model(full()))
    assert (workload.batch_size, workload.seq_len, warnings) == (1, 2000, ())
    assert workload_for(model(full()), seq_len=2000)[1] == ()
    workload, warnings = workload_for(model(full()), seq_len=2001)
    assert workload.seq_len == 2001
    assert len(warnings) == 1
    assert "2,001" in warnings[0]
    assert "2,000" in warnings[0]


def test_without_a_context_a_length_must_be_given() -> None:
    for kinds in ((full(),), (gated_delta_net(), full()), (sliding(),)):
        spec = model(*kinds, max_position_embeddings=None)
        with pytest.raises(KvcalcError, match="context") as caught:
            workload_for(spec)
        assert "--seq-len" in str(caught.value.problems[0].help)
        assert workload_for(spec, seq_len=63)[1] == ()


def test_a_state_needs_no_length() -> None:
    workload, warnings = workload_for(model(gated_delta_net(), max_position_embeddings=None))
    assert (workload.seq_len, warnings) == (1, ())


def test_the_encoders_length_defaults_to_the_models_own_else_to_zero_with_a_warning() -> None:
    fixed, warnings = workload_for(model(cross(), max_source_positions=1500))
    assert (fixed.encoder_len, warnings) == (1500, ())
    unknown, warnings = workload_for(model(cross()))
    assert unknown.encoder_len == 0
    assert len(warnings) == 1
    assert "--encoder-len" in warnings[0]
    assert workload_for(model(cross()), encoder_len=63)[0].encoder_len == 63
    assert workload_for(model(full()))[0].encoder_len == Workload(batch_size=1, seq_len=1).encoder_len == 0
    layouts = [model(*kinds).layout() for kinds in ((full(), cross()), (cross(),), (full(), sliding()))]
    assert [layout.has_encoder for layout in layouts] == [True, True, False]
