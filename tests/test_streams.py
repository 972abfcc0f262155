"""Extents, elements and bytes of a single stream."""

from __future__ import annotations

import math
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.cache_dtypes import BF16, parse_kv_cache_dtype
from kvcalc.formats import Role, bytes_of, ceil_div, lesser, round_up
from kvcalc.streams import Encoder, Extent, Fixed, Full, Sharding, Stream, Strided, Window

EXTENTS: tuple[Extent, ...] = (
    Full(), Window(100), Window(100, chunked=True), Fixed(), Fixed(3), Fixed(0), Encoder(), Strided(4), Strided(128),
)  # fmt: skip


@pytest.mark.parametrize(
    ("extent", "rows"),
    [
        # rows at 0, 1, 63, 100, 101, 2000 tokens, with 37 encoder tokens
        (Full(), (0, 1, 63, 100, 101, 2000)),
        (Window(100), (0, 1, 63, 100, 100, 100)),
        (Window(100, chunked=True), (0, 1, 63, 100, 100, 100)),
        (Fixed(3), (3, 3, 3, 3, 3, 3)),
        (Encoder(), (37, 37, 37, 37, 37, 37)),
        (Strided(4), (0, 0, 15, 25, 25, 500)),
        (Strided(128), (0, 0, 0, 0, 0, 15)),
    ],
)
def test_rows_by_hand(extent: Extent, rows: tuple[int, ...]) -> None:
    assert tuple(extent.rows(tokens, 37) for tokens in (0, 1, 63, 100, 101, 2000)) == rows


@pytest.mark.parametrize(
    ("extent", "own_figures", "saturation", "period", "grows", "formula"),
    [
        (Full(), 0, 0, 1, True, "S"),
        (Window(100), 2, 100, 1, False, "min(S, 100)"),
        (Window(100, chunked=True), 2, 100, 1, False, "min(S, 100)"),
        (Fixed(), 1, 0, 1, False, "1"),
        (Encoder(), 0, 0, 1, False, "E"),
        (Strided(4), 1, 0, 4, True, "floor(S / 4)"),
    ],
    ids=repr,
)
def test_an_extent_says_how_it_grows(
    extent: Extent, own_figures: int, saturation: int, period: int, grows: bool, formula: str
) -> None:
    assert (extent.saturation, extent.period, extent.grows, extent.formula) == (saturation, period, grows, formula)
    # the others follow from its kind and cannot be given
    assert sum(f.init for f in fields(extent)) == own_figures  # type: ignore[arg-type]
    assert not Window(100).chunked


@given(extent=st.sampled_from(EXTENTS), tokens=st.integers(0, 10**7), encoder=st.integers(0, 10**5))
def test_the_printed_rows_are_what_the_code_counts(extent: Extent, tokens: int, encoder: int) -> None:
    names = {"S": Fraction(tokens), "E": Fraction(encoder), "min": min, "floor": math.floor, "__builtins__": {}}
    assert eval(extent.formula, names) == extent.rows(tokens, encoder)


@given(extent=st.sampled_from(EXTENTS), tokens=st.integers(0, 10**6), times=st.integers(1, 9))
def test_rows_grow_evenly_beyond_saturation_or_not_at_all(extent: Extent, tokens: int, times: int) -> None:
    start = max(tokens, extent.saturation) // extent.period * extent.period + extent.period
    step = extent.rows(start + extent.period, 5) - extent.rows(start, 5)
    assert extent.rows(start + times * extent.period, 5) - extent.rows(start, 5) == times * step
    assert step == (1 if extent.grows else 0)


@given(extent=st.sampled_from(EXTENTS), lengths=st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_arrays_and_integers_answer_alike(extent: Extent, lengths: list[int]) -> None:
    stream = Stream(role=Role.KEY, heads=3, width=96, extent=extent)
    for name in ("bf16", "int4-g32", "q8_0", "kivi2"):
        choice = parse_kv_cache_dtype(name)
        array = stream.bytes(np.array(lengths, dtype=np.int64), choice, 37)
        assert array.tolist() == [stream.bytes(tokens, choice, 37) for tokens in lengths]


def test_elements_and_bytes_by_hand() -> None:
    stream = Stream(role=Role.KEY, heads=3, width=96, extent=Window(100))
    assert stream.elements(2000) == 100 * 3 * 96
    assert stream.bytes(2000, BF16) == 100 * 3 * 96 * 2
    assert stream.bytes(63, parse_kv_cache_dtype("q8_0")) == 63 * 3 * 3 * 34
    of_encoder = Stream(role=Role.KEY, heads=3, width=96, extent=Encoder())
    assert (of_encoder.elements(2000), of_encoder.bytes(2000, BF16)) == (0, 0)  # no encoder tokens unless given
    assert of_encoder.elements(2000, 37) * 2 == of_encoder.bytes(2000, BF16, 37) == 37 * 3 * 96 * 2
    assert stream.name == "key"
    assert stream.sharding is Sharding.HEADS


def test_the_models_own_dtype_wins_over_the_cache_dtype_and_an_explicit_role_over_both() -> None:
    state = Stream(role=Role.STATE, heads=3, width=100, extent=Fixed(), dtype="fp32", label="memory")
    assert state.bytes(2000, parse_kv_cache_dtype("fp8")) == 3 * 100 * 4
    assert state.bytes(2000, parse_kv_cache_dtype("fp8,state=bf16")) == 3 * 100 * 2
    assert state.name == "memory"


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_ceilings_are_exact(a: int, b: int) -> None:
    assert ceil_div(a, b) == math.ceil(Fraction(a, b))
    assert round_up(a, b) == b * math.ceil(Fraction(a, b))
    assert lesser(a, b) == min(a, b)
    assert bytes_of(a) == math.ceil(Fraction(a, 8))
