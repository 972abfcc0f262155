"""Documents for people: plain text (on a terminal or in a pipe) and Markdown.

The few lines that align columns are our own: the table libraries cost more to import than a whole query.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from kvcalc.render.document import Document, Table, safe, shown

MIN_FOLD = 12
"""Narrower than this no column is folded: the terminal wraps instead."""


def use_colour(stream: TextIO) -> bool:
    """NO_COLOR wins over FORCE_COLOR, FORCE_COLOR over the question whether this is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def render_text(document: Document, *, colour: bool = False, width: int | None = None) -> str:
    """Aligned columns. `width` bounds the lines of a terminal; None (a pipe) wraps nothing."""
    title = safe(document.title)
    blocks = [f"\x1b[1m{title}\x1b[0m" if colour else title]
    for table in document.tables:
        heading = [safe(table.title)] if table.title else []
        blocks.append("\n".join([*heading, *_aligned(table, width)]))
    if document.facts:
        blocks.append("\n".join(_fact_lines(document.facts)))
    blocks += [safe(note) for note in document.notes]
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


def _fact_lines(facts: tuple[tuple[str, ...], ...]) -> list[str]:
    """Short texts in columns; the last cell of a row may run on and widens nothing."""
    rows = [[safe(cell) for cell in row] for row in facts]
    widths = [0] * max(len(row) for row in rows)
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], len(cell))
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _aligned(table: Table, width: int | None) -> list[str]:
    heads = _headings(table)
    cells = [[shown(value) for value in row] for row in table.rows]
    rows = [heads, *cells]
    excess = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True)) - 2 - (width or 0)
    if width is not None and excess > 0:
        rows = [heads, *_wrapped(table, rows, excess)]
    lines = _lines(rows, _numeric(table))
    rule = _lines([["-" * max(map(len, column)) for column in zip(*rows, strict=True)]], [False] * len(heads))
    return [lines[0], *rule, *lines[1:]]


def _wrapped(table: Table, rows: list[list[str]], excess: int) -> list[list[str]]:
    """The cells of flexible columns folded so that the lines lose `excess` characters, as far as they can."""
    from itertools import zip_longest
    from textwrap import wrap

    widths = {i: max(len(row[i]) for row in rows) for i, column in enumerate(table.columns) if column.flexible}
    while excess > 0 and widths and max(widths.values()) > MIN_FOLD:
        widest = max(widths, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    folded: list[list[str]] = []
    for row in rows[1:]:
        parts = [wrap(cell, widths[i]) or [""] if i in widths else [cell] for i, cell in enumerate(row)]
        folded += [list(line) for line in zip_longest(*parts, fillvalue="")]
    return folded


def render_markdown(document: Document) -> str:
    """Headings and pipe tables, fit for a pull-request comment."""
    blocks = [f"### {_escaped(document.title)}"]
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
    return safe(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def print_document(document: Document) -> None:
    """To standard output, as the terminal (or the pipe) behind it allows."""
    sys.stdout.write(render_text(document, colour=use_colour(sys.stdout), width=terminal_width(sys.stdout)))
