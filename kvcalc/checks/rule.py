"""What a rule is, what it finds, and how a finding may be repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from kvcalc.problems import Problem, Severity
from kvcalc.spec.document import Loc, Mark

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start` to `end` (offsets into the file's text) are replaced by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A safe repair: it changes how a file is written, never what it means (but for the integer it spells out)."""

    summary: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a rule has found: at the value (or, with `key`, the key) that `loc` leads to, or at `mark`."""

    loc: Loc = ()
    message: str
    help: str | None = None
    key: bool = False
    mark: Mark | None = None
    fix: Fix | None = None
    stands_for: str | None = None
    """The key beside it that this one is another word for: it is not missing."""


def in_a_file(hint: str | None) -> str | None:
    """A help line of the command line, for somebody who writes a file."""
    return hint and hint.replace("--seq-len", "`seq_len`, or `max_position_embeddings` of the model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A Problem and, where there is one, its repair."""

    problem: Problem
    fix: Fix | None = None
    present: tuple[int, int, str] | None = None
    """(line, column, message) of the schema's complaint about a missing key, which this one explains."""

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """Findings are reported in this order, and once each."""
        found = self.problem
        return (found.path or "", found.line or 0, found.column or 0, found.code, found.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[Subject]):
    """One row of the table: the linter, `kvcalc explain` and the docs read it."""

    code: str
    name: str
    summary: str
    """What is wrong, in one line."""
    why: str
    """Why it matters, and what to do."""
    severity: Severity = Severity.ERROR
    default: bool = True
    """Whether it runs when nothing is selected."""
    fixable: bool = False
    suppressible: bool = True
    """Whether a comment in the file may silence it: not where the file could not be read."""
    check: Callable[[Subject], Iterable[Hit]] | None = field(default=None, compare=False)
    """None where the loader, an importer or the engine of the checks finds it on the way."""
