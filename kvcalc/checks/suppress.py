"""Comments that silence findings: `# kvcalc: ignore=KV301` on a line, `# kvcalc: ignore-file=KV6` for a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from kvcalc.checks.source_text import line_start, lines_of
from kvcalc.spec.yamlio import Mark

_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*kvcalc:\s*(ignore|ignore-file)\s*=\s*([A-Za-z0-9]+(?:\s*,\s*[A-Za-z0-9]+)*)")
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
    for number, line in enumerate(lines, 1):
        for match in _COMMENT.finditer(line):
            at = line_start(text, number) + match.start()
            if any(start <= at < end for start, end in scalars):
                continue
            alone = not line[: match.start()].strip()
            covered = (
                None if match[1] == "ignore-file" else range(number, _last(lines, number) + 1 if alone else number + 1)
            )
            for code in re.finditer(r"[A-Za-z0-9]+", match[2]):
                mark = Mark(number, match.start(2) + code.start() + 1)
                found.append(Comment(code=code[0].upper(), mark=mark, lines=covered))
    return found


def _last(lines: tuple[str, ...], number: int) -> int:
    """The next line after `number` that is neither empty nor a comment."""
    for index in range(number, len(lines)):
        content = lines[index].strip()
        if content and not content.startswith("#"):
            return index + 1
    return number


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
