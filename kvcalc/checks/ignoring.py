"""Patterns as in .gitignore, by git's rules (pathspec's), safe for patterns and names from strangers.

pathspec makes a regular expression of a pattern, and Python tries the `*` of one in every combination: six of them
take 21 s on one name of 100 letters. But what stands between two `*` may be taken where it is first found, as the
second `*` takes whatever follows. So every piece but the last becomes an atomic group, and a match linear.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice

from pathspec import GitIgnoreSpec as IgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from kvcalc.problems import usage_error

__all__ = ["IgnoreSpec", "check_pattern", "ignore_spec", "linear"]

MAX_PATTERNS = 5_000
"""Of one file. Its later lines are as if they were not there: more is checked."""

_ANY, _LAZY = "[^/]*", "[^/]*?"
"""What pathspec makes of a `*`, and the same as short as can be."""
_GAPS = {"(?:.+/)?": "(?:.+?/)??", "(?:/.+)?": "(?:/.+?)??"}
"""What it makes of a `**/` in front and of a `/**/`."""
_GAP = re.compile("|".join(f"({re.escape(gap)})" for gap in _GAPS))
_TOKEN = re.compile(r"\[\^/\]\*|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_BORDER = re.compile(r"[/()|$^?+*]")
"""What is no letter of a name: where a piece between two `*` cannot go on."""


def ignore_spec(lines: Iterable[str]) -> IgnoreSpec:
    """The patterns of a .gitignore. Lines that are none are passed over, as by git."""
    return IgnoreSpec(tuple(islice(_patterns(lines), MAX_PATTERNS)), backend="simple")


def _patterns(lines: Iterable[str]) -> Iterator[GitIgnoreSpecPattern]:
    for line in lines:
        try:
            found = _compiled(line)
        except (ValueError, re.error):
            continue
        if found.regex is not None:
            yield found


def check_pattern(text: str) -> None:
    """Refuses what is no pattern.

    Raises:
        KvcalcError: it has no meaning.
    """
    try:
        _compiled(text)
    except (ValueError, re.error):
        raise usage_error(f"{text[:60]!r} is no pattern", help="as in .gitignore") from None


def _compiled(line: str) -> GitIgnoreSpecPattern:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `[[a]`: of sets that a later Python may read otherwise
        found = GitIgnoreSpecPattern(line)
        if found.regex is not None:
            found.regex = re.compile(linear(found.regex.pattern))
    return found


def linear(regex: str) -> str:
    """The same regular expression of pathspec's, that never tries a piece between two wildcards twice."""
    head, *rest = [part for part in _GAP.split(regex) if part is not None]
    gaps, pieces = rest[::2], [_within_names(piece) for piece in rest[1::2]]
    inner = [f"(?>{_GAPS[gap]}{piece}(?=/))" for gap, piece in zip(gaps[:-1], pieces[:-1], strict=True)]
    return "".join([_within_names(head), *inner, *gaps[-1:], *pieces[-1:]])


def _within_names(regex: str) -> str:
    tokens = (f"(?!/){token}" if token[0] == "[" and token[:4] != "[^/]" else token for token in _TOKEN.findall(regex))
    # (In git no set of letters holds a slash.)
    out: list[str] = []
    piece: list[str] | None = None
    """What follows a `*`, as long as another may follow."""
    for token in tokens:
        if token == _ANY and piece is not None:
            out.append(f"(?>{_LAZY}{''.join(piece)})" if piece else "")
            piece = []
        elif token == _ANY:
            piece = []
        elif piece is not None and not _BORDER.fullmatch(token):
            piece.append(token)
        else:
            out += [_ANY, *piece] if piece is not None else []
            out.append(token)
            piece = None
    return "".join([*out, *([_ANY, *piece] if piece is not None else [])])
