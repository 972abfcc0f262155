"""Places in a file's text: what repairs need to edit it without touching a comment."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

from kvcalc.spec.document import Mark


@lru_cache(maxsize=2)
def lines_of(text: str) -> tuple[str, ...]:
    """Lines with their ends."""
    return tuple(text.splitlines(keepends=True))


@lru_cache(maxsize=2)
def _starts(text: str) -> tuple[int, ...]:
    return (0, *accumulate(len(line) for line in lines_of(text)))


def offset(text: str, mark: Mark) -> int:
    """Where a mark stands, in characters from the start of the text."""
    return min(_starts(text)[mark.line - 1] + mark.column - 1, len(text))


def line_start(text: str, number: int) -> int:
    """Where line `number` (from 1) starts."""
    starts = _starts(text)
    return starts[min(number - 1, len(starts) - 1)]


def token(text: str, mark: Mark, value: str) -> tuple[int, int] | None:
    """Start and end of the key or scalar at a mark; None where it is written on several lines, or with escapes."""
    start = offset(text, mark)
    for written in (value, f"'{value}'", f'"{value}"'):
        if text.startswith(written, start):
            return start, start + len(written)
    return None


def newline_of(text: str) -> str:
    """The line end that the file uses."""
    return "\r\n" if "\r\n" in text else "\n"
