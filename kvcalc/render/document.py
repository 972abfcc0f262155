"""What every renderer shows: tables of raw values with units, and a few lines of facts.

Values stay integers until a renderer prints them: digits are grouped for people and bare for machines.
"""

from typing import TYPE_CHECKING, NamedTuple, Union

if TYPE_CHECKING:
    from fractions import Fraction

Cell = Union[int, float, str, bool, "Fraction", None]


# Named tuples: every answer needs these classes, and a frozen dataclass takes six times as long to make.


class Column(NamedTuple):
    """A heading; `unit` is shown beside it and named in CSV headers. `flexible` text may wrap on a terminal."""

    name: str
    unit: str = ""
    flexible: bool = False


class Table(NamedTuple):
    """Rows of raw values under headings with units."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


class Document(NamedTuple):
    """One answer. `data` is what CSV holds where the shown tables are made for eyes."""

    title: str
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, ...], ...] = ()
    """Rows of short texts, set in columns below the tables."""
    notes: tuple[str, ...] = ()
    data: Table | None = None
    answer: tuple[tuple[str, ...], ...] = ()
    """As `facts`, but above the tables: what was asked for, in a few lines."""


def safe(text: str) -> str:
    """Text that drives neither a terminal nor a CI system's log.

    Control, format (bidi) and private characters are dropped. GitHub's and Azure's runners obey lines that begin with
    `::`, and `##[` and `##vso[` wherever they stand (actions/runner, ActionCommand.cs): those are broken up.
    """
    if not (text.isascii() and text.isprintable()):
        import unicodedata

        text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    if "##" in text or "::" in text:
        import re

        text = re.sub(r"^\s*:(?=:)|##(?=(vso)?\[)", r"\g<0> ", text, flags=re.M)
    return text


def one_line(text: str) -> str:
    """`safe`, and on one line: what a file says cannot begin a line of its own, in a CI system's log least of all."""
    return safe(text).replace("\n", " ")


def many(count: int, word: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def lengths_text(batch_size: int, seq_len: int, encoder_len: int = 0) -> str:
    """`8 sequences x 32,768 tokens`, `1 sequence x 448 tokens (+ 1,500 encoder tokens)`."""
    encoder = f" (+ {many(encoder_len, 'encoder token')})" if encoder_len else ""
    return f"{many(batch_size, 'sequence')} x {many(seq_len, 'token')}{encoder}"


def bar(part: float, whole: float, width: int = 10) -> str:
    """`part` of `whole` as blocks, to an eighth of a character: `█████` for a half."""
    eighths = round(8 * width * part / whole) if whole > 0 else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def shown(value: Cell) -> str:
    """A value for people: grouped digits, no trailing zeros."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return one_line(value)
    return f"{float(value):,.4g}" if abs(float(value)) < 1000 else f"{float(value):,.0f}"
