"""Layers one by one -> the short `layers:` list a person would have written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_PATTERN = 40
MOST_SEARCHED = 400
"""Layers: of longer patterns, and among more layers, only equal neighbours are joined (the search takes their cube)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`items` in order, all of it `count` times."""

    items: tuple[tuple[Hashable, int], ...]
    count: int

    @property
    def cost(self) -> int:
        """Lines it takes."""
        return 1 if len(self.items) == 1 else 2 + len(self.items)


def runs(layers: Sequence[Hashable]) -> tuple[tuple[Hashable, int], ...]:
    """Equal neighbours with their count."""
    found: list[tuple[Hashable, int]] = []
    for layer in layers:
        if found and found[-1][0] == layer:
            found[-1] = (layer, found[-1][1] + 1)
        else:
            found.append((layer, 1))
    return tuple(found)


def pieces(layers: Sequence[Hashable]) -> tuple[Piece, ...]:
    """The fewest lines that describe these layers: runs, and patterns that repeat."""
    total = len(layers)
    if total > MOST_SEARCHED:
        return tuple(Piece(((layer, 1),), count) for layer, count in runs(layers))
    best: list[tuple[int, tuple[Piece, ...]]] = [(0, ())] * (total + 1)
    for start in range(total - 1, -1, -1):
        options = []
        for piece, length in _from(layers, start):
            cost, rest = best[start + length]
            options.append((piece.cost + cost, len(rest), piece, rest))
        cost, _, piece, rest = min(options, key=lambda option: option[:2])
        best[start] = (cost, (piece, *rest))
    return best[0][1]


def _from(layers: Sequence[Hashable], start: int) -> list[tuple[Piece, int]]:
    """What may stand at `start`: the longest run, and each pattern as often as it repeats."""
    total = len(layers)
    length = 1
    while start + length < total and layers[start + length] == layers[start]:
        length += 1
    found = [(Piece(((layers[start], 1),), count), count) for count in {length, 1}]
    for period in range(2, min(LONGEST_PATTERN, (total - start) // 2) + 1):
        once = layers[start : start + period]
        times = 1
        while layers[start + times * period : start + (times + 1) * period] == once:
            times += 1
        items = runs(once)
        if times > 1 and len(items) > 1:
            found += [(Piece(items, count), count * period) for count in {times, times - 1} if count > 1]
    return found


def entries(layers: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """The raw `layers:` of a spec, from (attention, ffn) of each layer."""
    found: list[dict[str, Any]] = []
    for piece in pieces(layers):
        if len(piece.items) == 1:
            found.append(_layer(piece.items[0][0], piece.count))
        else:
            found.append({"count": piece.count, "pattern": [_layer(layer, count) for layer, count in piece.items]})
    return found


def _layer(layer: Any, count: int) -> dict[str, Any]:
    named = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in zip(("attention", "ffn"), layer, strict=True)
    }
    return ({"count": count} if count > 1 else {}) | {key: value for key, value in named.items() if value}
