"""A file read from a stranger: its bytes, its plain data, and where each part of that stands."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kvcalc.problems import KvcalcError, Problem

MAX_BYTES = 2**20
"""Of a spec: more than a hundred times the largest shipped one."""

Loc = tuple[str | int, ...]
"""Keys and indices from the root to a node."""
Fault = tuple[Loc, str, str | None]
"""(place, what is wrong, what to do): what a schema cannot see."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node stands; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands."""

    path: str
    text: str
    data: Any
    marks: Mapping[Loc, Mark]
    key_marks: Mapping[Loc, Mark]

    def at(self, loc: Loc) -> Any:
        """The value that `loc` leads to."""
        found = self.data
        for part in loc:
            found = found[part]
        return found

    def problem(self, code: str, loc: Loc, message: str, *, help: str | None = None, key: bool = False) -> Problem:
        """A Problem at the node (or at its key), or at the nearest parent that stands in the file."""
        table = self.key_marks if key else self.marks
        mark = table.get(loc)
        while mark is None and loc:
            loc = loc[:-1]
            mark = self.marks.get(loc)
        mark = mark or Mark(1, 1)
        return Problem(
            code=code, message=message, path=self.path, line=mark.line, column=mark.column, help=help,
            snippet=line_of(self.text, mark.line),
        )  # fmt: skip


def unmarked(path: str, data: Any) -> Document:
    """Data that stands in no text: its problems carry no place."""
    return Document(path=path, text="", data=data, marks={}, key_marks={})


def read_bytes(path: str, most: int = MAX_BYTES) -> tuple[str, bytes]:
    """(name for messages, content) of a file, or of standard input for `-`.

    Raises:
        KvcalcError: not readable, a directory, or above `most` bytes (1 MiB).
    """
    if path == "-":
        if sys.stdin is None:
            raise KvcalcError(Problem(code="KV001", message="standard input is closed", path="<stdin>"))
        return "<stdin>", _bounded("<stdin>", sys.stdin.buffer.read(most + 1), most)
    try:
        with Path(path).open("rb") as handle:
            return path, _bounded(path, handle.read(most + 1), most)
    except IsADirectoryError:
        reason, hint = "is a directory", "name a file in it"
    except OSError as error:
        reason, hint = f"cannot be read: {error.strerror or error}", None
    except ValueError:
        reason, hint = "is no file name", None
    raise KvcalcError(Problem(code="KV001", message=f"{path[:200]} {reason}", path=path, help=hint))


def _bounded(name: str, content: bytes, most: int) -> bytes:
    if len(content) > most:
        message = f"larger than {most:,} bytes, the most that is read of such a file"
        raise KvcalcError(Problem(code="KV001", message=message, path=name, line=1, column=1))
    return content


def line_of(text: str, number: int) -> str:
    """Line `number` (from 1) of the text, bounded."""
    lines = _lines(text)
    return lines[number - 1][:200] if 0 < number <= len(lines) else ""


@lru_cache(maxsize=2)
def _lines(text: str) -> list[str]:
    """Split once: a hostile file may have a Problem on each of its many lines."""
    return text.splitlines()
