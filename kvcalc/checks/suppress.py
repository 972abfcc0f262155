"""Comments that silence findings: `# kvcalc: ignore=KV301` on a line, `# kvcalc: ignore-file=KV6` for a file."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml

from kvcalc.checks.rule import Finding
from kvcalc.checks.selection import Selection
from kvcalc.checks.source_text import line_start, lines_of
from kvcalc.checks.table import RULES
from kvcalc.problems import Problem, did_you_mean
from kvcalc.spec.document import Mark, line_of

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


class Remarks:
    """The suppressions of one file, and which of them have been of use."""

    def __init__(self, text: str, path: str, selection: Selection) -> None:
        self._text, self._path, self._selection = text, path, selection
        self._comments = comments(text)
        self.silenced = 0

    def heeded(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that no comment silences."""
        return [finding for finding in findings if not self._silences(finding.problem)]

    def _silences(self, problem: Problem) -> bool:
        hits = [remark for remark in self._comments if remark.covers(problem.code, problem.line or 0)]
        if not hits or not RULES[problem.code].suppressible:
            return False
        for remark in hits:
            remark.used = True
        self.silenced += 1
        return True

    def idle(self) -> Iterator[Finding]:
        """Comments that have silenced nothing (KV611), or name no rule (KV612). Asked last."""
        for remark in self._comments:
            if remark.used:
                continue
            meant = [rule for code, rule in RULES.items() if code.startswith(remark.code)]
            if not meant:
                hint = did_you_mean(remark.code, RULES)
                yield from self._found("KV612", remark, f"no rule has the code {remark.code}", hint)
            elif any(self._selection.wants(rule, self._path) for rule in meant):  # else they were not asked this time
                yield from self._found("KV611", remark, f"{remark.code} silences nothing here", "remove it")

    def _found(self, code: str, remark: Comment, message: str, hint: str | None) -> Iterator[Finding]:
        if self._selection.wants(RULES[code], self._path):
            yield Finding(
                problem=Problem(
                    code=code, severity=RULES[code].severity, message=message, path=self._path, line=remark.mark.line,
                    column=remark.mark.column, help=hint, snippet=line_of(self._text, remark.mark.line),
                )
            )  # fmt: skip
