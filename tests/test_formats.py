"""Every byte of every format, by hand, and the printed formula against the code."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.cache_dtypes import ALIASES, CACHE_DTYPES, FormatChoice, cache_dtype, parse_kv_cache_dtype
from kvcalc.formats import Format, Role, RowFormat, Segment, bytes_of, round_up
from kvcalc.problems import KvcalcError


def stored(name: str, rows: int, heads: int, width: int, role: Role = Role.KEY) -> int:
    """Bytes of `rows` rows of one stream."""
    return bytes_of(cache_dtype(name).format(role, width).bits(rows, heads, width))


K, V, LATENT, INDEX = Role.KEY, Role.VALUE, Role.LATENT, Role.INDEX

BY_HAND = [
    # (format, role, rows, heads, width, bytes written out)
    ("fp32", K, 63, 3, 100, 63 * 3 * 100 * 4),
    ("bf16", K, 63, 3, 100, 63 * 3 * 100 * 2),
    ("fp16", V, 63, 3, 100, 63 * 3 * 100 * 2),
    ("fp8", K, 63, 3, 100, 63 * 3 * 100),
    # one fp32 scale for each K and V head of each token (vLLM 0.33 triton_attn.py:308)
    ("fp8_per_token_head", K, 63, 3, 100, 63 * 3 * (100 + 4)),
    ("int8_per_token_head", V, 63, 3, 100, 63 * 3 * (100 + 4)),
    ("int4_per_token_head", K, 63, 3, 100, 63 * 3 * (50 + 4)),
    # an MLA row has two scales (vLLM 0.33 mla_attention.py:1600: 576 + 8, 288 + 8)
    ("int8_per_token_head", LATENT, 63, 1, 576, 63 * (576 + 8)),
    ("fp8_per_token_head", LATENT, 63, 1, 576, 63 * (576 + 8)),
    ("int4_per_token_head", LATENT, 63, 1, 576, 63 * (288 + 8)),
    # plain N-bit, no metadata: one ceiling for the whole stream, 1 row x 3 x 5 bits = 15 bits -> 2 B
    ("int2", K, 63, 1, 100, 63 * 25),
    ("int5", K, 1, 1, 3, 2),
    ("int6", LATENT, 1, 1, 576, 432),
    ("int3", K, 7, 1, 1, 3),  # 21 bits
    # groups along the head: 100 = 3 groups of 32 and one started
    ("int4-g32", K, 63, 3, 100, 63 * 3 * (50 + 4 * 2)),
    ("int4-g32-zp", K, 63, 3, 100, 63 * 3 * (50 + 4 * 4)),
    ("int4-g32-fp32", K, 63, 3, 100, 63 * 3 * (50 + 4 * 4)),
    ("int4-g32-fp32-zp", K, 63, 3, 100, 63 * 3 * (50 + 4 * 8)),
    ("int8-g64-fp8", V, 63, 3, 128, 63 * 3 * (128 + 2)),
    ("int2-g128-bf16", K, 63, 3, 128, 63 * 3 * (32 + 2)),
    # ggml-common.h: bytes per block of 32
    ("q8_0", K, 63, 3, 96, 63 * 3 * 3 * 34),
    ("q5_1", K, 63, 3, 96, 63 * 3 * 3 * 24),
    ("q5_0", K, 63, 3, 96, 63 * 3 * 3 * 22),
    ("q4_1", K, 63, 3, 96, 63 * 3 * 3 * 20),
    ("q4_0", K, 63, 3, 96, 63 * 3 * 3 * 18),
    ("iq4_nl", K, 63, 3, 96, 63 * 3 * 3 * 18),
    # 4-bit + one byte per 16 / 32; OCP MX v1.0
    ("nvfp4", K, 63, 3, 128, 63 * 3 * (64 + 8)),
    ("mxfp4", K, 63, 3, 128, 63 * 3 * (64 + 4)),
    ("mxfp8", K, 63, 3, 128, 63 * 3 * (128 + 4)),
    # FlashMLA's rows: 512 fp8 + 4 fp32 + 64 bf16; indexer: 128 fp8 + 4 B; V4: 448 + 7 + 1 + 128
    ("fp8_ds_mla", LATENT, 63, 1, 576, 63 * (512 + 16 + 128)),
    ("fp8_ds_mla", LATENT, 63, 1, 512, 63 * (448 + 7 + 1 + 128)),
    ("fp8_ds_mla", INDEX, 63, 1, 128, 63 * (128 + 4)),
    ("nvfp4_ds_mla", LATENT, 63, 1, 576, 63 * (256 + 32 + 64)),
    ("mxfp8_ds_mla", LATENT, 63, 1, 512, 63 * (512 + 16)),
    # vLLM 0.33 turboquant/config.py:118-175: K + V slots at d = 128 are 196, 134, 118, 102 B
    ("turboquant_k8v4", K, 1, 1, 128, 128), ("turboquant_k8v4", V, 1, 1, 128, 68),
    ("turboquant_4bit_nc", K, 1, 1, 128, 66), ("turboquant_4bit_nc", V, 1, 1, 128, 68),
    ("turboquant_k3v4_nc", K, 1, 1, 128, 50), ("turboquant_k3v4_nc", V, 1, 1, 128, 68),
    ("turboquant_3bit_nc", K, 1, 1, 128, 50), ("turboquant_3bit_nc", V, 1, 1, 128, 52),
    # vLLM 0.33 ops/rocm_octave.py: 4-bit rotary and 3-bit other codes, an fp16 scale per 64 of K and one for V
    # (120 B a slot of k3v3 at d = 128: 118 and the engine's padding to 8)
    ("octave_k3v3", K, 1, 1, 128, 64 + 4), ("octave_k3v3", V, 1, 1, 128, 48 + 2),
    ("octave_k3v4-r64", K, 1, 1, 128, 32 + 24 + 4), ("octave_k3v4-r64", V, 1, 1, 128, 64 + 2),
    ("octave_k3v3_compact", K, 1, 1, 128, 48 + 2),
    # the rotary part alone, the whole head, and the widest; of k3v3 the values have 3 bits
    ("octave_k3v4-r64", K, 63, 1, 64, 63 * (32 + 2)), ("octave_k3v4-r256", K, 63, 1, 256, 63 * (128 + 8)),
    ("octave_k3v4-r64", K, 63, 1, 512, 63 * (32 + 2 + 168 + 14)), ("octave_k3v3-r64", V, 8, 1, 128, 8 * (48 + 2)),
    # LMDeploy 0.18: int8 d + 4 B, int4 d/2 + 4 B; turbo K d/2 + 4, V d/4 + 2
    ("lmdeploy_int8", K, 63, 3, 80, 63 * 3 * (80 + 4)),
    ("lmdeploy_int4", V, 63, 3, 80, 63 * 3 * (40 + 4)),
    ("lmdeploy_turbo_quant", K, 63, 3, 80, 63 * 3 * (40 + 4)),
    ("lmdeploy_turbo_quant", V, 63, 3, 80, 63 * 3 * (20 + 2)),
]  # fmt: skip


def test_a_multiple_from_a_number_on() -> None:
    assert [round_up(a, 6) for a in (0, 1, 6, 7, 12, 13)] == [0, 6, 6, 12, 12, 18]


@pytest.mark.parametrize(("name", "role", "rows", "heads", "width", "expected"), BY_HAND)
def test_bytes_by_hand(name: str, role: Role, rows: int, heads: int, width: int, expected: int) -> None:
    assert stored(name, rows, heads, width, role) == expected


def kivi_by_hand(rows: int, heads: int, width: int, role: Role, bits: int, group: int, residual: int) -> int:
    """Token by token: which rows are codes, and which groups have a scale and a minimum of 2 B each."""
    whole = rows - rows % residual if role is K else max(0, rows - residual)
    total_bits = 0
    for _head in range(heads):
        for _channel in range(width):
            total_bits += whole * bits + (rows - whole) * 16
            if role is K:
                total_bits += len(range(0, whole, group)) * 32
    if role is V:
        total_bits += whole * heads * len(range(0, width, group)) * 32
    return -(-total_bits // 8)


@pytest.mark.parametrize("rows", [0, 1, 63, 127, 128, 129, 255, 256, 1000, 2000])
@pytest.mark.parametrize("role", [K, V])
def test_kivi_counts_whole_residuals_of_keys_and_the_newest_values_in_full(rows: int, role: Role) -> None:
    assert stored("kivi2", rows, 3, 100, role) == kivi_by_hand(rows, 3, 100, role, 2, 32, 128)
    assert stored("kivi4-g16-r48", rows, 3, 100, role) == kivi_by_hand(rows, 3, 100, role, 4, 16, 48)


def test_kivi_by_hand_at_129_tokens() -> None:
    # K: 128 rows x 8 x 128 x 2 bits + 4 groups x 1,024 channels x 4 B, 1 row x 2,048 B in full
    assert stored("kivi2", 129, 8, 128, K) == 32_768 + 16_384 + 2_048
    # V: 1 row x 1,024 x 2 bits + 8 heads x 4 groups x 4 B, 128 rows x 2,048 B in full
    assert stored("kivi2", 129, 8, 128, V) == 256 + 128 + 262_144


LEAST_BITS = {
    "fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "fp8_per_token_head": 8, "int8_per_token_head": 8,
    "int4_per_token_head": 4, "kivi2": 2, "kivi4": 4, "q8_0": 8, "q5_1": 5, "q5_0": 5, "q4_1": 4, "q4_0": 4,
    "iq4_nl": 4, "nvfp4": 4, "mxfp8": 8, "mxfp4": 4, "fp8_ds_mla": 8, "turboquant_k8v4": 4, "turboquant_4bit_nc": 4,
    "turboquant_k3v4_nc": 3, "turboquant_3bit_nc": 3, "ultraquant_4bit": 4, "octave_k3v4": 3, "octave_k3v3": 3,
    "octave_k3v3_compact": 3, "nvfp4_ds_mla": 4, "mxfp8_ds_mla": 8, "lmdeploy_int8": 8, "lmdeploy_int4": 4,
    "lmdeploy_turbo_quant": 2,
}  # fmt: skip
"""Bits of an element, by the format's own name."""

NAMES = [
    *CACHE_DTYPES,
    "int2",
    "int6",
    "int4-g32",
    "int3-g20-zp",
    "int8-g64-fp32-zp",
    "kivi3-g16-r48",
    "octave_k3v4-r64",
]


def layouts(name: str) -> list[tuple[Role, int, Format]]:
    """Each (role, width, format) that the name can store, at the widths it is made for and some odd ones."""
    found = []
    for role in (K, V, LATENT, INDEX):
        for width in (63, 64, 96, 100, 128, 192, 512, 576):
            try:
                found.append((role, width, cache_dtype(name).format(role, width)))
            except KvcalcError:
                continue
    assert found, name
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_format_takes_less_than_its_bits(name: str) -> None:
    least = LEAST_BITS[name] if name in CACHE_DTYPES else int(name.lstrip("intkvoca_e")[0])
    for _, width, layout in layouts(name):
        for rows in (0, 1, 63, 128, 2000):
            for heads in (1, 3, 8):
                assert bytes_of(layout.bits(rows, heads, width)) * 8 >= rows * heads * width * least


def evaluate(formula: str, **values: int) -> Fraction:
    """A printed formula, in exact arithmetic."""
    names = {"ceil": math.ceil, "floor": math.floor, "min": min, "max": max, "__builtins__": {}}
    return Fraction(eval(formula, names, {name: Fraction(value) for name, value in values.items()}))


@pytest.mark.parametrize("name", NAMES)
@given(rows=st.integers(0, 10_000), heads=st.integers(1, 200), data=st.data())
def test_the_printed_formula_is_what_the_code_counts(name: str, rows: int, heads: int, data: st.DataObject) -> None:
    _, width, layout = data.draw(st.sampled_from(layouts(name)))
    printed = evaluate(layout.formula(width), rows=rows, heads=heads, width=width)
    assert printed == bytes_of(layout.bits(rows, heads, width))


@pytest.mark.parametrize("name", NAMES)
@given(rows=st.integers(0, 2_000), times=st.integers(1, 5), heads=st.integers(1, 20), data=st.data())
def test_bytes_grow_evenly_over_periods_beyond_saturation(
    name: str, rows: int, times: int, heads: int, data: st.DataObject
) -> None:
    _, width, layout = data.draw(st.sampled_from(layouts(name)))
    period = layout.period(heads, width)
    start = max(rows, layout.saturation) // period * period + period

    def taken(count: int) -> int:
        return bytes_of(layout.bits(count, heads, width))

    assert taken(start + times * period) - taken(start) == times * (taken(start + period) - taken(start))


@pytest.mark.parametrize("name", NAMES)
def test_bytes_never_fall_as_rows_are_added(name: str) -> None:
    for _, width, layout in layouts(name):
        if name.startswith("kivi"):  # its full-precision tail falls when a residual of keys is quantised
            continue
        sizes = [bytes_of(layout.bits(rows, 3, width)) for rows in range(300)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 0


def test_every_shipped_format_says_what_it_is_and_where_that_is_written() -> None:
    for name, dtype in CACHE_DTYPES.items():
        assert name == dtype.name
        assert dtype.summary
        assert dtype.source
        for layout in dtype.formats():
            assert layout.summary
            assert layout.source
            assert layout.name in CACHE_DTYPES


def test_a_row_of_several_plain_parts_is_printed_with_all_of_them() -> None:
    parts = (Segment(width=64, bits=8), Segment(width=32, bits=16))
    row = RowFormat(name="two", segments=parts, summary="s", source="s")
    assert row.formula(96) == "ceil(rows * heads * (64 * 8 + 32 * 16) / 8)"
    wide = RowFormat(name="wide", segments=(Segment(bits=64),), summary="s", source="s")
    assert wide.formula(96) == "rows * heads * width * 8"
    padded = RowFormat(name="padded", segments=(Segment(bits=8),), summary="s", source="s", pad_bits=8)
    assert padded.formula(96) == "ceil(rows * heads * (width * 8 + 8) / 8)"


@pytest.mark.parametrize(
    ("name", "role", "heads", "width", "period", "saturation"),
    [
        # 15 bits a row are whole bytes every 8 rows, 12 bits every 2, 100 bits every 2
        ("bf16", K, 1, 96, 1, 0), ("int5", K, 1, 3, 8, 0), ("int4", K, 1, 3, 2, 0), ("int2", K, 2, 25, 2, 0),
        ("q8_0", K, 3, 96, 1, 0), ("kivi2", K, 1, 96, 1024, 128), ("kivi4-g16-r48", V, 3, 96, 384, 48),
    ],
)  # fmt: skip
def test_bytes_repeat_their_step_after_this_many_rows(
    name: str, role: Role, heads: int, width: int, period: int, saturation: int
) -> None:
    layout = cache_dtype(name).format(role, width)
    assert (layout.period(heads, width), layout.saturation) == (period, saturation)


def test_a_name_with_figures_says_them() -> None:
    ggml = {name: cache_dtype(name).summary for name in ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")}
    # ggml-common.h: sizes of the blocks
    assert ggml == {
        name: f"GGML {name}: {size} B per block of 32 elements"
        for name, size in zip(ggml, (34, 24, 22, 20, 18, 18), strict=True)
    }
    assert cache_dtype("int4-g32").summary == "4-bit elements, one fp16 scale per 32"
    assert cache_dtype("int4-g32-fp8-zp").summary == "4-bit elements, one fp8 scale and fp8 zero point per 32"
    assert cache_dtype("int6").summary == "plain 6-bit elements, no metadata"
    octave = cache_dtype("octave_k3v3-r64")
    assert (octave.name, octave.summary) == (
        "octave_k3v3-r64", "Octave: 3/4-bit K, 3-bit V, fp16 scales (vLLM on ROCm only)",
    )  # fmt: skip
    assert (cache_dtype("kivi2-g32-r128").name, cache_dtype("kivi2-g32-r64").name) == ("kivi2", "kivi2-g32-r64")


def test_formats_made_of_blocks_refuse_what_is_no_multiple_and_others_do_not() -> None:
    for name in ("q8_0", "iq4_nl", "ultraquant_4bit"):
        assert (
            cache_dtype(name).format(K, 32).misfit(63)
            == f"{name} stores blocks of 32 elements; a width of 63 is no multiple"
        )
    for name in ("nvfp4", "mxfp8", "int4-g32", "bf16"):
        assert cache_dtype(name).format(K, 63).misfit(63) is None


def test_aliases_lead_to_formats() -> None:
    for alias, name in ALIASES.items():
        assert cache_dtype(alias) is CACHE_DTYPES[name]
    assert cache_dtype("FP8_E4M3").name == "fp8"


@pytest.mark.parametrize(
    "name",
    ["", "bf17", "int1", "int9", "int4-g0", "int4-g-32", "int04", "q8", "kivi2-g32-r100", "kivi9", "int4-g9999999",
     "int4-g32-zp-zp", "x" * 5000, "int٤", "octave_k3v4-r100"],
)  # fmt: skip
def test_unknown_formats_are_refused_with_help(name: str) -> None:
    with pytest.raises(KvcalcError) as caught:
        cache_dtype(name)
    (problem,) = caught.value.problems
    assert problem.help
    assert len(problem.message) < 200


@pytest.mark.parametrize(
    ("name", "role", "width", "says"),
    [
        ("q8_0", K, 80, "no multiple"), ("fp8_ds_mla", K, 128, "key"), ("fp8_ds_mla", LATENT, 288, "latent"),
        ("kivi2", LATENT, 576, "latent"), ("lmdeploy_int8", LATENT, 576, "latent"),
    ],
)  # fmt: skip
def test_a_stream_that_does_not_fit_a_format_is_refused(name: str, role: Role, width: int, says: str) -> None:
    with pytest.raises(KvcalcError, match=says) as caught:
        cache_dtype(name).format(role, width)
    assert caught.value.problems[0].help


def test_a_row_of_fixed_parts_fits_its_own_width_alone() -> None:
    row = cache_dtype("fp8_ds_mla").format(LATENT, 576)
    assert row.misfit(576) is None
    assert row.misfit(575) == "fp8_ds_mla stores rows of 512 + 64 elements, this stream has 575"


def test_each_stream_may_have_its_own_format() -> None:
    choice = parse_kv_cache_dtype("k=q8_0, value=q4_0")
    assert choice.format(K, 96, None).name == "q8_0"
    assert choice.format(V, 96, None).name == "q4_0"
    assert choice.format(LATENT, 576, None).name == "bf16"
    assert choice.format(Role.STATE, 100, "fp32").name == "fp32"
    assert parse_kv_cache_dtype("fp8,state=bf16").format(Role.STATE, 100, "fp32").name == "bf16"


def test_a_state_keeps_its_own_dtype_whatever_the_cache_is_stored_in() -> None:
    assert parse_kv_cache_dtype("fp8").format(Role.STATE, 100, "fp32").name == "fp32"


@pytest.mark.parametrize("text", ["", ",", "bf16,fp8", "key=", "=bf16", "key=bf16,k=fp8", "keys=bf16", "key=bf16=fp8"])
def test_a_wrong_choice_of_formats_is_refused(text: str) -> None:
    with pytest.raises(KvcalcError):
        parse_kv_cache_dtype(text)


LONG = "bf16,value=int4-g32,index=fp8_ds_mla,state=fp32,conv=fp32,key=q8_0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 61, f"unknown KV cache format '{'x' * 60}'"),
        (f"{LONG},fp8", f"two default formats in '{f'{LONG},fp8'[:60]}'"),
        (f"{LONG},k=fp8", f"the key stream is given twice in '{LONG[:60]}'"),
        ("y" * 41 + "=bf16", f"unknown stream '{'y' * 40}'"),
        ("kivi2-g32-r100", "kivi2-g32-r100: the residual must be a multiple of the group"),
    ],
    ids=["format", "two defaults", "twice", "stream", "residual"],
)
def test_a_refusal_repeats_no_more_than_a_line_of_what_was_given(text: str, message: str) -> None:
    with pytest.raises(KvcalcError) as caught:
        parse_kv_cache_dtype(text)
    assert caught.value.problems[0].message == message


def test_a_stream_that_a_format_leaves_out_is_told_which_it_has() -> None:
    with pytest.raises(KvcalcError) as caught:
        cache_dtype("kivi2").format(LATENT, 576)
    (problem,) = caught.value.problems
    assert problem.message == "kivi2 does not store latent rows of 576 elements (only key and value)"
    assert problem.help == "give the latent stream its own format, as in latent=bf16"


def test_a_choice_names_itself_as_a_user_would_write_it() -> None:
    for text in ("bf16", "fp8,state=bf16", "bf16,index=fp8_ds_mla"):
        choice = parse_kv_cache_dtype(text)
        assert choice.name == text
        assert parse_kv_cache_dtype(choice.name) == choice
    assert isinstance(choice, FormatChoice)
