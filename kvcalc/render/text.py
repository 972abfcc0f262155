"""Documents for people: plain text (on a terminal or in a pipe) and Markdown.

The few lines that align columns are our own: the table libraries cost more to import than a whole query.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from kvcalc.render.document import Document, Table, one_line, safe, shown

MIN_FOLD = 10
"""Narrower than this no column is folded: the terminal wraps instead."""


def use_colour(stream: TextIO) -> bool:
    """NO_COLOR wins over FORCE_COLOR, FORCE_COLOR over the question whether this is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def render_text(document: Document, *, colour: bool = False, width: int | None = None) -> str:
    """Aligned columns. `width` bounds the lines of a terminal; None (a pipe) wraps nothing."""
    title = _folded(one_line(document.title), width)
    blocks = [f"\x1b[1m{title}\x1b[0m" if colour else title]
    if document.answer:
        blocks.append("\n".join(_fact_lines(document.answer, width)))
    for table in document.tables:
        heading = [_folded(one_line(table.title), width)] if table.title else []
        blocks.append("\n".join([*heading, *_aligned(table, width)]))
    if document.facts:
        blocks.append("\n".join(_fact_lines(document.facts, width)))
    blocks += [_folded(safe(note), width) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal behind `stream`; None where there is none."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _headings(table: Table) -> list[str]:
    return [f"{column.name} [{column.unit}]" if column.unit else column.name for column in table.columns]


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers: set to the right."""
    return [
        any(row[i] is not None and not isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))
    ]


def _lines(rows: list[list[str]], right: list[bool]) -> list[str]:
    """Cells padded to their column's width, two spaces between columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _folded(text: str, width: int | None, indent: int = 2) -> str:
    """Lines of at most `width` characters, broken between words; what follows in the next line is indented."""
    if width is None or all(len(line) <= width for line in text.split("\n")):
        return text
    from textwrap import wrap

    room = max(width, indent + MIN_FOLD)
    lines = (
        wrap(line, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.split("\n")
    )
    return "\n".join(part for folded in lines for part in folded)


def _fact_lines(facts: tuple[tuple[str, ...], ...], width: int | None) -> list[str]:
    """Short texts in columns; the last cell of a row may run on (and be folded) and widens nothing."""
    rows = [[one_line(cell) for cell in row] for row in facts]
    widths = [0] * max(len(row) for row in rows)
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], len(cell))
    found = []
    for row in rows:
        line = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False)).rstrip()
        found.append(_folded(line, width, indent=sum(size + 2 for size in widths[: len(row) - 1])))
    return found


def _aligned(table: Table, width: int | None) -> list[str]:
    heads = [_headings(table)]
    cells = [[shown(value) for value in row] for row in table.rows]
    excess = sum(max(map(len, column)) + 2 for column in zip(*heads, *cells, strict=True)) - 2 - (width or 0)
    if width is not None and excess > 0:
        heads, saved = _folded_heads(heads[0], cells, excess)
        cells = _folded_cells(table, heads, cells, excess - saved)
    rows = [*heads, *cells]
    lines = _lines(rows, _numeric(table))
    rule = _lines([["-" * max(map(len, column)) for column in zip(*rows, strict=True)]], [False] * len(table.columns))
    return [*lines[: len(heads)], *rule, *lines[len(heads) :]]


def _folded_heads(heads: list[str], cells: list[list[str]], excess: int) -> tuple[list[list[str]], int]:
    """(headings broken between words where their cells are narrower, last lines level; characters saved)."""
    from textwrap import wrap

    below = [max(map(len, column)) for column in zip(*cells, strict=True)] if cells else [0] * len(heads)
    least = [max(size, *map(len, head.split()), 1) for head, size in zip(heads, below, strict=True)]
    widths, saved = [max(len(head), size) for head, size in zip(heads, below, strict=True)], 0
    while saved < excess:
        widest = max(range(len(heads)), key=lambda i: widths[i] - least[i])
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
        saved += 1
    parts = [wrap(head, size, break_on_hyphens=False) or [""] for head, size in zip(heads, widths, strict=True)]
    most = max(map(len, parts))
    return [list(line) for line in zip(*([""] * (most - len(part)) + part for part in parts), strict=True)], saved


def _folded_cells(table: Table, heads: list[list[str]], cells: list[list[str]], excess: int) -> list[list[str]]:
    """The texts of flexible columns folded so that the lines lose `excess` characters, as far as they can."""
    from itertools import zip_longest
    from textwrap import wrap

    rows, numbers = [*heads, *cells], _numeric(table)
    foldable = (i for i, column in enumerate(table.columns) if column.flexible and not numbers[i])
    widths = {i: max(len(row[i]) for row in rows) for i in foldable}
    while excess > 0 and widths and max(widths.values()) > MIN_FOLD:
        widest = max(widths, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    folded: list[list[str]] = []
    for row in cells:
        parts = [wrap(cell, widths[i]) or [""] if i in widths else [cell] for i, cell in enumerate(row)]
        folded += [list(line) for line in zip_longest(*parts, fillvalue="")]
    return folded


def render_markdown(document: Document) -> str:
    """Headings and pipe tables, fit for a pull-request comment."""
    blocks = [f"### {_escaped(document.title)}"]
    if document.answer:
        blocks.append("\n".join(f"- **{_escaped(row[0])}** {_escaped('  '.join(row[1:]))}" for row in document.answer))
    for table in document.tables:
        if table.title:
            blocks.append(f"**{_escaped(table.title)}**")
        rule = ["---:" if right else "---" for right in _numeric(table)]
        rows = [[_escaped(head) for head in _headings(table)], rule]
        rows += [[_escaped(shown(value)) for value in row] for row in table.rows]
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    if document.facts:
        blocks.append("\n".join(f"- {_escaped('  '.join(cell for cell in row if cell))}" for row in document.facts))
    blocks += [_escaped(note) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    """Text that breaks out of no cell and makes neither a tag nor a link nor a picture."""
    for mark in ("\\", "|", "](", "][", "]:"):
        text = text.replace(mark, f"{mark[:-1]}\\{mark[-1]}")
    return safe(text).replace("<", "&lt;").replace("\n", "<br>")


def print_document(document: Document) -> None:
    """To standard output, as the terminal (or the pipe) behind it allows."""
    sys.stdout.write(render_text(document, colour=use_colour(sys.stdout), width=terminal_width(sys.stdout)))
