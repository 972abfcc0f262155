"""What the build keeps compiled of the shipped files, for speed.

The plain data of every spec and accelerator, so that no query on them needs YAML; and the layout of every model, so
that sizing it needs neither its spec nor the attention kinds. The files are made when a wheel is built (hatch_build.py,
compiling.py) and are never edited or committed. Each names the checksum of the file it was made from; where they
differ, as where none are kept, that file itself is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from kvcalc.formats import Role
from kvcalc.layout import CacheGroup, CacheLayout
from kvcalc.streams import Encoder, Fixed, Full, Sharding, Stream, Strided, Window

FOLDER = Path(__file__).resolve().parents[1] / "compiled"
"""data/<folder of the file>/NAME.json and layouts/NAME.json."""

EXTENTS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Full, Window, Fixed, Encoder, Strided)}


def checksum(content: bytes) -> int:
    """Of a shipped file: tells whether what was compiled is still its own."""
    return crc32(content)


def plain_data(path: Path) -> Mapping[str, Any]:
    """The plain data of a shipped YAML file."""
    content = path.read_bytes()
    try:
        check, kept = json.loads(data_file(path).read_bytes())
    except (OSError, ValueError):
        check, kept = None, None
    if check == checksum(content):
        data: Mapping[str, Any] = kept
        return data
    from kvcalc.spec.yamlio import load_yaml

    read: Mapping[str, Any] = load_yaml(str(path), content).data
    return read


def layout(path: Path) -> CacheLayout | None:
    """The layout of the model of a shipped spec; None where none is kept, or the spec has changed since."""
    try:
        return thaw(layout_file(path).read_text("utf-8"), path.read_bytes())
    except (OSError, ValueError):
        return None


def data_file(path: Path) -> Path:
    """Where the data of a shipped file is kept."""
    return FOLDER / "data" / path.parent.name / f"{path.stem}.json"


def layout_file(path: Path) -> Path:
    """Where the layout of a shipped spec is kept."""
    return FOLDER / "layouts" / f"{path.stem}.json"


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


def _thaw_stream(parts: list[Any]) -> Stream:
    role, heads, width, (extent, values), sharding, dtype, label = parts
    return Stream(
        role=Role(role), heads=heads, width=width, extent=EXTENTS[extent](*values), sharding=Sharding(sharding),
        dtype=dtype, label=label,
    )  # fmt: skip
