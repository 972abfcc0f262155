"""Writes what kvcalc/spec/compiled.py reads."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from kvcalc.files import write_whole
from kvcalc.layout import CacheLayout
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc.spec.compiled import EXTENTS, checksum, data_file, layout_file
from kvcalc.spec.hardware_catalog import shipped_hardware
from kvcalc.spec.yamlio import load_yaml
from kvcalc.streams import Extent, Stream


def compile_shipped() -> None:
    """The data of every shipped file and the layout of every model, into `compiled.FOLDER`."""
    for path in (*shipped().values(), *shipped_hardware().values()):
        content = path.read_bytes()
        _write(data_file(path), [checksum(content), load_yaml(str(path), content).data])
    for name, path in shipped().items():
        _write(layout_file(path), freeze(shipped_model(name).layout(), path.read_bytes()))


def _write(path: Path, body: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(str(path), (json.dumps(body, separators=(",", ":")) + "\n").encode())


def freeze(layout: CacheLayout, content: bytes) -> list[Any]:
    """A layout in JSON's own types, with the checksum of the spec file it comes from."""
    groups = [
        [group.names, group.label, group.source, _ranges(group.indices), [_freeze_stream(s) for s in group.streams]]
        for group in layout.groups
    ]
    return [checksum(content), layout.name, layout.context, layout.encoder_context, groups]


def _freeze_stream(stream: Stream) -> list[Any]:
    return [
        stream.role, stream.heads, stream.width, _freeze_extent(stream.extent), stream.sharding, stream.dtype,
        stream.label,
    ]  # fmt: skip


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
