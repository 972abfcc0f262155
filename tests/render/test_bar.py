"""Bars of shares."""

from __future__ import annotations

import pytest

from kvcalc.render.document import bar


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [(0, 1, ""), (1, 2, "█████"), (1, 1, "█" * 10), (1, 80, "▏"), (9, 80, "█▏"), (1, 0, "")],
)
def test_a_bar_is_as_long_as_its_share(part, whole, drawn):
    # Ten characters of eight eighths: 1/80 is one eighth of one character.
    assert bar(part, whole) == drawn
