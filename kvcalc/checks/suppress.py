"""Comments that silence findings: `# kvcalc: ignore=KV301` on a line, `# kvcalc: ignore-file=KV6` for a file."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from kvcalc.checks.source_text import line_start, lines_of
from kvcalc.spec.document import Mark

_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*kvcalc:\s*(ignore|ignore-file)\s*=\s*([A-Za-z0-9]+(?:\s*,\s*[A-Za-z0-9]+)*)")
MAX_COMMENTS = 500
"""Of one file: those beyond silence nothing."""
_ANY = re.compile(r"#\s*kvcalc:")


@dataclass(slots=True, kw_only=True)
class Comment:
    """One code of one comment: the lines it covers (None: the whole file), and whether it has silenced anything."""

    code: str
    mark: Mark
    lines: range | None
    used: bool = field(default=False)

    def covers(self, code: str, line: int) -> bool:
        return code.startswith(self.code) and (self.lines is None or line in self.lines)


def comments(text: str) -> list[Comment]:
    """Every suppression of a file, in the order in which they stand.

    A comment at the end of a line covers that line; one that stands alone covers itself and the next line that
    holds anything.
    """
    if not _ANY.search(text):
        return []
    found: list[Comment] = []
    scalars = _scalars(text)
    lines = lines_of(text)
    following = _next_content(lines)
    for number, line in enumerate(lines, 1):
        for match in _COMMENT.finditer(line):
            if len(found) >= MAX_COMMENTS:
                return found
            at = line_start(text, number) + match.start()
            before = bisect_right(scalars, (at, len(text))) - 1
            if before >= 0 and at < scalars[before][1]:
                continue  # inside a scalar
            last = following[number] if not line[: match.start()].strip() else number
            covered = None if match[1] == "ignore-file" else range(number, last + 1)
            for code in re.finditer(r"[A-Za-z0-9]+", match[2]):
                mark = Mark(number, match.start(2) + code.start() + 1)
                found.append(Comment(code=code[0].upper(), mark=mark, lines=covered))
    return found


def _next_content(lines: tuple[str, ...]) -> list[int]:
    """For each line (from 1; index 0 is unused): the next line after it that is neither empty nor a comment."""
    following = [len(lines)] * (len(lines) + 1)
    content = 0
    for number in range(len(lines), 0, -1):
        following[number] = content or number
        text = lines[number - 1].strip()
        if text and not text.startswith("#"):
            content = number
    return following


def _scalars(text: str) -> list[tuple[int, int]]:
    """Where text stands that only looks like a comment: inside a quoted or block scalar."""
    return list(_spans(text))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    try:
        # The C scanner counts bytes in `index`; lines and columns are characters.
        for token in yaml.scan(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(token, yaml.ScalarToken):
                first, last = token.start_mark, token.end_mark
                yield (
                    line_start(text, first.line + 1) + first.column,
                    line_start(text, last.line + 1) + last.column,
                )
    except yaml.YAMLError:
        return
