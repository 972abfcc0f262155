"""Repairs: edits of a file's text that leave comments, quotes and line ends as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.checks.rule import Edit, Fix
from kvcalc.checks.source_text import line_start, lines_of, newline_of, offset, token
from kvcalc.spec.document import Document, Loc

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)


def replaced(document: Document, loc: Loc, text: str, *, summary: str, key: bool = False) -> Fix | None:
    """The key or scalar at `loc` written as `text`; None where it is no token of one line."""
    mark = (document.key_marks if key else document.marks).get(loc)
    place = token(document.text, mark, str(loc[-1] if key else document.at(loc))) if mark else None
    if place is None or not _PLAIN.fullmatch(text):
        return None
    return Fix(summary=summary, edits=(Edit(*place, text),))


def insert_line(document: Document, line: str, *, summary: str) -> Fix:
    """A line before all others."""
    return Fix(summary=summary, edits=(Edit(0, 0, line + newline_of(document.text)),))


def reordered(document: Document, order: Sequence[str]) -> Fix | None:
    """Top-level blocks in `order`, each with the comments above it; None where they are not blocks of whole lines."""
    text, data = document.text, document.data
    starts = _block_starts(document)
    if starts is None:
        return None
    names = list(data)
    ends = [*starts[1:], len(lines_of(text)) + 1]
    blocks = {
        name: text[line_start(text, first) : line_start(text, last)]
        for name, first, last in zip(names, starts, ends, strict=True)
    }
    rank = {name: position for position, name in enumerate(order)}
    wanted = sorted(names, key=lambda name: rank.get(name, len(rank)))
    ended = [
        block if block.endswith(("\n", "\r")) else block + newline_of(text) for block in map(blocks.__getitem__, wanted)
    ]
    first = line_start(text, starts[0])
    return Fix(summary="put the keys in order", edits=(Edit(first, len(text), "".join(ended)),))


def _block_starts(document: Document) -> list[int] | None:
    """First line of each top-level block, comments directly above it included."""
    lines = lines_of(document.text)
    starts: list[int] = []
    for name in document.data:
        mark = document.key_marks[(name,)]
        if mark.column != 1 or offset(document.text, mark) != line_start(document.text, mark.line):
            return None
        first = mark.line
        above = starts[-1] + 1 if starts else 1
        # The first block keeps no comments: those at the top of a file belong to the file.
        while starts and first > above and lines[first - 2].startswith("#"):
            first -= 1
        starts.append(first)
    return starts if starts == sorted(set(starts)) else None


def apply(text: str, fixes: Sequence[Fix]) -> tuple[str, int]:
    """(the text with as many repairs as do not touch each other, how many they are)."""
    taken: list[Edit] = []
    applied = 0
    for fix in fixes:
        if all(edit.end < other.start or edit.start > other.end for edit in fix.edits for other in taken):
            taken += fix.edits
            applied += 1
    for edit in sorted(taken, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text, applied
