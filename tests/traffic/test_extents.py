"""What a token sees, and the pairs of a prefill: the closed forms against the sums they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.steps import TopK
from kvcalc.streams import Encoder, Extent, Fixed, Full, Strided, Window

EXTENTS: list[Extent] = [
    Full(),
    Window(7),
    Window(7, chunked=True),
    Fixed(3),
    Encoder(),
    Strided(4),
    TopK(Full(), 5),
    TopK(Strided(4), 5),
    TopK(Window(7), 5),
    TopK(Window(5), 7),
]


@pytest.mark.parametrize("extent", EXTENTS, ids=repr)
@given(tokens=st.integers(0, 300), encoder=st.integers(0, 50))
def test_pairs_are_the_sum_of_what_each_token_sees(extent: Extent, tokens: int, encoder: int) -> None:
    seen = [extent.visible(count, encoder) for count in range(1, tokens + 1)]
    assert extent.visible_sum(tokens, encoder) == sum(seen)
    assert all(now <= extent.rows(count, encoder) for count, now in enumerate(seen, 1))


@pytest.mark.parametrize("extent", EXTENTS, ids=repr)
def test_arrays_and_integers_agree(extent: Extent) -> None:
    tokens = np.arange(0, 200, dtype=np.int64)
    assert extent.visible(tokens, 9).tolist() == [extent.visible(n, 9) for n in range(200)]
    assert extent.visible_sum(tokens, 9).tolist() == [extent.visible_sum(n, 9) for n in range(200)]


def test_a_chunk_starts_anew() -> None:
    """Llama-4 (chunks of 8,192): token 8,192 sees its whole chunk, token 8,193 itself alone."""
    chunk = Window(8192, chunked=True)
    assert [chunk.visible(n, 0) for n in (1, 8191, 8192, 8193, 16384)] == [1, 8191, 8192, 1, 8192]
