"""A model cut into the stages of a pipeline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from kvcalc.plan.layouts import Layout
from kvcalc.spec.model import LayerEntry, LayerUse, ModelSpec, write_out

Kinds = dict[tuple[object, ...], int]
"""(layers, first, last) of every stage met so far -> the number of its kind."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The layers of one pipeline stage."""

    key: int
    """Stages with the same layers (and the same place, if first or last) have the same."""
    spec: ModelSpec
    uses: tuple[LayerUse, ...]
    groups: tuple[tuple[tuple[str, ...], int], ...]
    """(entries of `attention:`, how many layers of them)."""
    first: bool
    last: bool


def dealt(spec: ModelSpec, pipeline: int, kinds: Kinds) -> tuple[Stage, ...]:
    """The decoder's layers, dealt out as engines do; `kinds` grows by those that are new."""
    whole = replace(spec, encoder_layers=(), mtp_layers=())
    uses = write_out(whole.layers)
    start, found = 0, []
    for index, count in enumerate(Layout(pipeline=pipeline).sharding.layers_of_stages(len(uses))):
        mine, first, last = uses[start : start + count], index == 0, index == pipeline - 1
        start += count
        number = kinds.setdefault((tuple(sorted(mine, key=repr)), first, last), len(kinds))
        entries = tuple(LayerEntry(attention=use.attention or None, ffn=use.ffn or None) for use in mine)
        groups = tuple(Counter(use.attention for use in mine).items())
        found.append(Stage(number, replace(whole, layers=entries), mine, groups, first, last))
    return tuple(found)
