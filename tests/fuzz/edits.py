"""Edits of sound data: they go past the parser and into the meaning, where damaged bytes rarely come.

The fuzzer's bytes spell which document is taken, and then, four bytes each, where it is changed, how, and into what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fuzz.target import Target

MAX_EDITS = 8
ODD: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 31, 64, 128, 10_000, 2**31, 2**40, 2**40 + 1, 2**60, 2**63, 10**39, -(10**39), 0.5, -0.0, 1e308,
    "", "x", "0", "full", "sliding_attention", "mla", "32K", "50ms", "0.9", "80GiB", "1e9", "a\n::error::b",
    "\x1b]0;x\x07", "\u202eabc", "\x85", "\u2028", "[red]", "##[error]x", "=1+1", "x" * 3000, None, True, False,
    [], {}, [0], [1, 2, 3], ["full_attention"], [None], {"kind": "full"}, {"rope_type": "yarn"}, [[[]]], {"": {"": []}},
)  # fmt: skip
Place = tuple[Any, ...]


def _places(data: Any, place: Place = ()) -> Iterator[Place]:
    yield place
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from _places(value, (*place, key))


def _at(data: Any, place: Place) -> Any:
    for key in place:
        data = data[key]
    return data


def edited(data: bytes, seeds: Sequence[str]) -> Any:
    """The document that the bytes spell; `seeds` are JSON texts."""
    document = json.loads(seeds[data[0] % len(seeds)]) if data else {}
    for start in range(1, min(len(data), 1 + 4 * MAX_EDITS) - 3, 4):
        where, fine, how, what = data[start : start + 4]
        places = [place for place in _places(document) if place]
        if not places:
            break
        place, source = places[(where << 8 | fine) % len(places)], places[what % len(places)]
        change = json.loads(json.dumps(ODD[what % len(ODD)] if how & 1 else _at(document, source)))
        _edit(_at(document, place[:-1]), place[-1], how, change, str(source[-1]))
    return document


def _edit(parent: Any, key: Any, how: int, change: Any, name: str) -> None:
    """One of four things: out, in beside (under a new name or another's), or in its place (twice as likely)."""
    if how & 6 == 0:
        del parent[key]
    elif how & 6 == 2 and isinstance(parent, dict):
        parent[f"{key}_x" if how & 8 else name] = change
    elif how & 6 == 2:
        parent.insert(key, change)
    else:
        parent[key] = change


def spellings(count: int) -> list[bytes]:
    """Seeds for edits: each document as it is, and with one edit."""
    some = range(min(count, 256))
    return [bytes([index]) for index in some] + [bytes([index, *b"\x00\x05\x05\x01"]) for index in some]


def texts(documents: Sequence[Any]) -> tuple[str, ...]:
    """Documents as JSON texts: what `edited` takes."""
    return tuple(json.dumps(document) for document in documents)


def dumped(document: Any) -> bytes:
    """JSON is YAML."""
    return json.dumps(document).encode()


def edits(
    reader: str, run: Callable[[bytes], bool | None], seeds: Callable[[], Sequence[str]], share: int,
    encode: Callable[[Any], bytes] = dumped,
) -> Target:  # fmt: skip
    """A target whose bytes spell edits of the seeds (JSON texts), for the reader of encoded documents."""
    return Target(
        run, lambda: spellings(len(seeds())), share, spelt=lambda data: encode(edited(data, seeds())), reader=reader
    )
