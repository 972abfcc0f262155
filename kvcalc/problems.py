"""What is wrong with an input, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT = 2_000
"""Characters of a message, and of its help."""


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding. `line` and `column` count from 1; they are None where no place in a file is meant.

    `code` is stable (KV0xx syntax and schema, KV1xx geometry, KV2xx expectations, KV3xx sources,
    KV4xx drift, KV5xx budgets and plans, KV6xx hygiene, KV8xx other people's files, KV9xx usage).
    """

    code: str
    message: str
    severity: Severity = Severity.ERROR
    path: str | None = None
    line: int | None = None
    column: int | None = None
    help: str | None = None
    snippet: str | None = None
    """The offending line, as it stands in the file."""

    def __post_init__(self) -> None:
        for name in ("message", "help"):
            text = getattr(self, name)
            if text is not None and len(text) > MAX_TEXT:  # it quotes something endless
                object.__setattr__(self, name, f"{text[:MAX_TEXT]}...")

    @property
    def place(self) -> str:
        """`path:line:column`, as far as known; empty when nothing is."""
        parts = [self.path or "", *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(parts) if self.path else ""


class KvcalcError(Exception):
    """Carries every Problem that stands between an input and its answer; a traceback shows their help as notes."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems
        for problem in problems:
            for note in (problem.place, problem.help and f"help: {problem.help}"):
                if note:
                    self.add_note(note)


def usage_error(message: str, *, help: str | None = None) -> KvcalcError:
    """A wrong argument (no place in a file): code KV901."""
    return KvcalcError(Problem(code="KV901", message=message, help=help))


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A help line naming the closest known words, or None when nothing is near."""
    from difflib import get_close_matches  # costs more than a whole query where nothing is misspelt

    spelt = {name.lower(): name for name in known}
    near = [spelt[name] for name in get_close_matches(word.lower(), list(spelt), n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else None
