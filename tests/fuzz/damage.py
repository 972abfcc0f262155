"""Damaged input without a fuzzer: the same on every machine and run."""

from __future__ import annotations

import codecs
import random
from collections.abc import Sequence

YAML_PIECES: tuple[bytes, ...] = tuple(
    piece.encode("utf-8", "surrogatepass")
    for piece in (
        "[", "]", "{", "}", ":", ": ", "- ", "? ", "| ", "> ", "&a ", "*a", "!!str ", "!x ", "%YAML 1.2\n", "---\n",
        "...\n", "\n", "\t", " ", "  ", "'", '"', "#", ",", "~", "null", "true", ".nan", ".inf", "-1", "0", "1e999",
        "0x", "0o9", "9" * 5000, "9" * 39, "1.5", "\x00", "\x07", "\u2028", "\ud7ff", "\U0001f600", "\ufeff", "<<: ",
        "kind: full", "count: 1099511627776", "pattern: []", "[" * 50, "{a: " * 50, "\\ud800", "name: x\n", "\r",
        "attention:", "layers:", "32K", "'8'", "# kvcalc: ignore=KV2\n", "budget: {fits_on: {gpu: h200}}\n", "\x85",
    )
)  # fmt: skip
_LENGTHS = (0, 1, 3, 10, 63, 200)


def pieces_of(words: str) -> tuple[bytes, ...]:
    """A fuzzer's dictionary as bytes."""
    return tuple(codecs.escape_decode(word.encode())[0] for word in words.split())  # type: ignore[attr-defined]


def noise(chance: random.Random, pieces: Sequence[bytes]) -> bytes:
    """Bytes of any kind, or of punctuation, or of the format's own pieces."""
    length = chance.choice(_LENGTHS)
    style = chance.randrange(3)
    if style == 0:
        return chance.randbytes(length)
    if style == 1:
        return bytes(chance.choice(b"[]{}:,-?|>&*!%#'\"\\ \n\tab01.~@`") for _ in range(length))
    return b"".join(chance.choice(pieces) for _ in range(length // 5 + 1))


def damaged(chance: random.Random, seed: bytes, pieces: Sequence[bytes]) -> bytes:
    """A sound input with a few cuts, repeats, insertions, lines and words that changed places."""
    content = seed
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        start = chance.randrange(len(content) + 1)
        stop = min(len(content), start + chance.choice((0, 1, 2, 10, 30, 60)))
        match chance.randrange(6):
            case 0:
                content = content[:start] + content[stop:]
            case 1:
                content = content[:stop] + content[start:]
            case 2 | 3:
                content = content[:start] + chance.choice(pieces) + content[stop:]
            case 4:
                content = _moved(chance, content, chance.choice((b" ", b"\n")))
            case _:
                content = content[:start] + chance.randbytes(chance.choice((1, 3))) + content[start:]
    return content


def _moved(chance: random.Random, content: bytes, between: bytes) -> bytes:
    parts = content.split(between)
    one, other = chance.randrange(len(parts)), chance.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]
    return between.join(parts)
