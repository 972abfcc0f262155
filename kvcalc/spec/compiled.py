"""Layouts of the shipped specs, kept compiled: a sizing query then needs neither YAML nor the attention kinds.

The files are made when the package is built (hatch_build.py) and are never edited or committed. Each names the
checksum of the spec it was made from; where they differ, the spec itself is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from zlib import crc32

from kvcalc.formats import Role
from kvcalc.layout import CacheGroup, CacheLayout
from kvcalc.streams import Encoder, Extent, Fixed, Full, Sharding, Stream, Strided, Window

FOLDER = Path(__file__).resolve().parents[1] / "compiled"

EXTENTS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Full, Window, Fixed, Encoder, Strided)}


def checksum(content: bytes) -> int:
    """Of a spec file: tells whether a compiled layout is still its own."""
    return crc32(content)


def freeze(layout: CacheLayout, content: bytes) -> str:
    """A layout as JSON, with the checksum of the spec file it comes from."""
    groups = [
        [group.names, group.label, group.source, _ranges(group.indices), [_freeze_stream(s) for s in group.streams]]
        for group in layout.groups
    ]
    body = [checksum(content), layout.name, layout.context, layout.encoder_context, groups]
    return json.dumps(body, separators=(",", ":")) + "\n"


def thaw(text: str, content: bytes) -> CacheLayout | None:
    """The layout, or None where the spec file has changed since."""
    check, name, context, encoder_context, groups = json.loads(text)
    if check != checksum(content):
        return None
    return CacheLayout(
        name=name,
        context=context,
        encoder_context=encoder_context,
        groups=tuple(
            CacheGroup(
                names=tuple(names),
                label=label,
                source=source,
                streams=tuple(_thaw_stream(stream) for stream in streams),
                indices=tuple(index for start, stop in ranges for index in range(start, stop)),
            )
            for names, label, source, ranges, streams in groups
        ),
    )


def _freeze_stream(stream: Stream) -> list[Any]:
    return [
        stream.role, stream.heads, stream.width, _freeze_extent(stream.extent), stream.sharding, stream.dtype,
        stream.label,
    ]  # fmt: skip


def _thaw_stream(parts: list[Any]) -> Stream:
    role, heads, width, (extent, values), sharding, dtype, label = parts
    return Stream(
        role=Role(role), heads=heads, width=width, extent=EXTENTS[extent](*values), sharding=Sharding(sharding),
        dtype=dtype, label=label,
    )  # fmt: skip


def _freeze_extent(extent: Extent) -> list[Any]:
    kind = EXTENTS[type(extent).__name__]
    return [kind.__name__, [getattr(extent, f.name) for f in fields(kind) if f.init]]


def _ranges(indices: tuple[int, ...]) -> list[list[int]]:
    """(0, 1, 2, 5) -> [[0, 3], [5, 6]]"""
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1][1] += 1
        else:
            found.append([index, index + 1])
    return found
