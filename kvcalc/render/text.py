"""Documents for people: plain text (on a terminal or in a pipe) and Markdown."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from tabulate import tabulate

from kvcalc.render.document import Document, Table, safe, shown


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
        blocks.append("\n".join([*heading, _aligned(table, width)]))
    if document.facts:
        cells = [[safe(cell) for cell in row] for row in document.facts]
        text = tabulate(cells, tablefmt="plain", disable_numparse=True)
        blocks.append("\n".join(line.rstrip() for line in text.splitlines()))
    blocks += [safe(note) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal behind `stream`; None where there is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _aligned(table: Table, width: int | None) -> str:
    cells = [[shown(value) for value in row] for row in table.rows]
    heads = [f"{c.name} [{c.unit}]" if c.unit else c.name for c in table.columns]
    text = _tabulated(table, heads, cells, None)
    longest = max((len(line) for line in text.splitlines()), default=0)
    if width is not None and longest > width:
        flexible = [index for index, column in enumerate(table.columns) if column.flexible]
        if flexible:
            widest = {i: max(len(line) for row in [heads, *cells] for line in [row[i]]) for i in flexible}
            room = max(12, (sum(widest.values()) - (longest - width)) // len(flexible))
            text = _tabulated(
                table, heads, cells, [min(room, widest[i]) if i in widest else None for i in range(len(heads))]
            )
    return "\n".join(line.rstrip() for line in text.splitlines())


def _tabulated(table: Table, heads: list[str], cells: list[list[str]], widths: list[int | None] | None) -> str:
    return tabulate(
        cells,
        headers=heads,
        tablefmt="simple",
        disable_numparse=True,
        colalign=_alignment(table) if cells else None,
        maxcolwidths=widths,
    )


def _alignment(table: Table) -> list[str]:
    """Numbers to the right, words to the left."""
    return [
        "right" if any(isinstance(row[i], (int, float)) for row in table.rows) else "left"
        for i in range(len(table.columns))
    ]


def render_markdown(document: Document) -> str:
    """Headings and pipe tables, fit for a pull-request comment."""
    blocks = [f"### {_escaped(document.title)}"]
    for table in document.tables:
        heads = [_escaped(f"{c.name} [{c.unit}]" if c.unit else c.name) for c in table.columns]
        cells = [[_escaped(shown(value)) for value in row] for row in table.rows]
        if table.title:
            blocks.append(f"**{_escaped(table.title)}**")
        blocks.append(
            tabulate(
                cells,
                headers=heads,
                tablefmt="pipe",
                disable_numparse=True,
                colalign=_alignment(table) if cells else None,
            )
        )
    if document.facts:
        blocks.append("\n".join(f"- {_escaped('  '.join(cell for cell in row if cell))}" for row in document.facts))
    blocks += [_escaped(note) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return safe(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def print_document(document: Document) -> None:
    """To standard output, as the terminal (or the pipe) behind it allows."""
    sys.stdout.write(render_text(document, colour=use_colour(sys.stdout), width=terminal_width(sys.stdout)))
