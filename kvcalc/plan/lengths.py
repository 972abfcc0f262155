"""Lengths of sequences: one number, or a trace of real requests."""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import TextIO

from kvcalc.problems import KvcalcError, Problem
from kvcalc.units import MAX_COUNT

MAX_BYTES = 2**28
"""Of a trace: far above any published one."""
MAX_LINE = 2**20
"""Characters."""
MAX_LENGTHS = 2**19
"""Different ones: contexts have rarely so many tokens."""
BUCKETS = 128
"""Distinct lengths that are allocated; others are rounded up to the next."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "isl": (
        "isl", "inputtokens", "inputlength", "inputlen", "prompttokens", "promptlength", "promptlen",
        "contexttokens", "requesttokens", "numprefilltokens",
    ),
    "osl": (
        "osl", "outputtokens", "outputlength", "outputlen", "completiontokens", "completionlength",
        "generatedtokens", "responsetokens", "numdecodetokens",
    ),
    "total": ("seqlen", "tokens", "totaltokens", "length", "len"),
}  # fmt: skip
"""Headings, without case, spaces, `_` and `-`: ours, Azure's (ContextTokens), BurstGPT's (Request tokens), Mooncake's
(input_length), Vidur's (num_prefill_tokens)."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of sequences that are held at once: (length, how often), shortest first."""

    mix: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tokens: int) -> Lengths:
        """All of one length."""
        return cls(((tokens, 1),))

    @classmethod
    def counted(cls, counts: Mapping[int, int]) -> Lengths:
        return cls(tuple(sorted(counts.items())))

    @property
    def longest(self) -> int:
        return self.mix[-1][0]

    @property
    def count(self) -> int:
        return sum(count for _, count in self.mix)

    @property
    def mean(self) -> Fraction:
        return Fraction(sum(length * count for length, count in self.mix), self.count)

    def percentile(self, percent: Fraction) -> int:
        """The shortest length that `percent` of the sequences do not exceed (nearest rank)."""
        upto = list(accumulate(count for _, count in self.mix))
        return self.mix[bisect_left(upto, percent * self.count / 100)][0]

    def rounded_up(self, most: int = BUCKETS) -> Lengths:
        """At most `most` lengths: what is summed over them is never less than before."""
        step = max(1, -(-self.longest // most))
        counts: Counter[int] = Counter()
        for length, count in self.mix:
            counts[min(self.longest, -(-length // step) * step)] += count
        return Lengths.counted(counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests of a real service."""

    path: str
    totals: Lengths
    """Prompt and answer together, of each request: what a sequence holds at its end."""
    held: Lengths
    """The same, of the sequences that are served at one time: a request counts once per token of its answer, as it
    stays that long. Where the file gives totals alone: as `totals`."""
    prompts: Lengths | None
    """None where the file gives totals alone."""
    mean_osl: Fraction | None
    mean_decoded: Fraction
    """Tokens that a sequence holds on average while it is decoded: its prompt and half its answer."""

    @property
    def requests(self) -> int:
        return self.totals.count

    @property
    def bucketed(self) -> Lengths:
        """What is held at one time, of few enough lengths to allocate each."""
        return self.held.rounded_up()

    @property
    def isl(self) -> int | None:
        """Mean prompt, in whole tokens."""
        return None if self.prompts is None else max(1, int(self.prompts.mean))

    @property
    def osl(self) -> int | None:
        """Mean answer, in whole tokens."""
        return None if self.mean_osl is None else max(1, int(self.mean_osl))


def load_trace(path: str) -> Trace:
    """Input and output tokens per request, or their sum: a CSV with a heading, or a JSON object on each line.

    The file is read line by line and never held.

    Raises:
        KvcalcError: not readable, no such columns, or a value that is no number of tokens, with line and column.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _Lines(path, file)
            read = _from_json if lines.first.lstrip()[:1] == "{" else _from_csv
            return _trace(path, read(path, lines))
    except (OSError, ValueError) as error:
        raise _fault(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except csv.Error as error:
        raise _fault(path, f"no CSV: {error}", line=lines.number) from None


Request = tuple[int, ...]
"""(prompt, answer), or both together."""


def _trace(path: str, requests: Iterable[Request]) -> Trace:
    totals: Counter[int] = Counter()
    held: Counter[int] = Counter()
    prompts: Counter[int] = Counter()
    answers = decoded = steps = 0
    for request in requests:
        total = max(1, sum(request))
        totals[total] += 1
        if len(totals) > MAX_LENGTHS or len(prompts) > MAX_LENGTHS:
            raise _fault(path, f"more than {MAX_LENGTHS:,} different lengths", line=1)
        if len(request) == 1:
            continue
        prompt, answer = request
        prompts[prompt] += 1
        answers += answer
        stays = max(1, answer)
        steps += stays
        held[total] += stays
        decoded += stays * prompt + stays * (stays + 1) // 2
    if not totals:
        raise _fault(path, "no requests below the heading", line=1)
    every = Lengths.counted(totals)
    return Trace(
        path=path,
        totals=every,
        held=Lengths.counted(held) if held else every,
        prompts=Lengths.counted(prompts) if held else None,
        mean_osl=Fraction(answers, every.count) if held else None,
        mean_decoded=Fraction(decoded, steps) if held else every.mean,
    )


def _columns(path: str, heads: Iterable[str]) -> tuple[str, ...]:
    """Which of the headings hold the tokens: of the prompt and of the answer, or of both together."""
    seen = {"".join(c for c in head.lower() if c not in " _-"): head for head in heads}
    found = {what: seen[name] for what, names in NAMES.items() for name in reversed(names) if name in seen}
    if "isl" in found and "osl" in found:
        return found["isl"], found["osl"]
    if "total" in found:
        return (found["total"],)
    shown = ", ".join(head[:30] for head in list(seen.values())[:8] if head) or "none"
    hint = f"columns: isl and osl (or ContextTokens and GeneratedTokens), or seq_len; found: {shown}"
    raise _fault(path, "no columns of tokens", hint, line=1)


class _Lines:
    """The lines of a file, bounded; `last` is the one that was read last, `number` counts them from 1."""

    def __init__(self, path: str, file: TextIO) -> None:
        self._path, self._file = path, file
        self._left = MAX_BYTES
        self.number = 0
        self.first = self.last = self._read()
        self._waiting = bool(self.first)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._waiting:
            self._waiting = False
        else:
            self.last = self._read()
        if not self.last:
            raise StopIteration
        self.number += 1
        return self.last

    def _read(self) -> str:
        line = self._file.readline(MAX_LINE + 1)
        self._left -= len(line)
        where = self.number + 1
        if len(line) > MAX_LINE:
            raise _fault(self._path, f"a line of more than {MAX_LINE:,} characters", line=where)
        if self._left < 0:
            raise _fault(self._path, f"larger than {MAX_BYTES:,} bytes", line=where)
        if not line.isascii() and _ESCAPED.search(line):
            raise _fault(self._path, "not UTF-8", line=where)
        return line


_ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that were no UTF-8."""


def _from_csv(path: str, lines: _Lines) -> Iterator[Request]:
    rows = csv.reader(lines, strict=True)
    heads = [head.strip() for head in next(rows, [])]
    places = [heads.index(head) for head in _columns(path, heads)]
    for row in rows:
        if row:
            yield tuple(_field(path, row, place, lines) for place in places)


def _field(path: str, row: list[str], place: int, lines: _Lines) -> int:
    text = row[place] if place < len(row) else ""
    read = _tokens(text)
    if read is None:
        said = f"{text.strip()[:40]!r} is no number of tokens" if place < len(row) else "a value lacks"
        raise _fault(path, said, _AS, line=lines.number, column=_column(lines.last, place))
    return read


def _from_json(path: str, lines: _Lines) -> Iterator[Request]:
    names: tuple[str, ...] = ()
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except (ValueError, RecursionError) as error:
            raise _fault(path, "no JSON object", line=lines.number, column=getattr(error, "colno", None)) from None
        if not isinstance(row, dict):
            raise _fault(path, "no JSON object", line=lines.number, column=1)
        names = names or _columns(path, map(str, row))
        yield tuple(_member(path, row, name, lines) for name in names)


def _member(path: str, row: Mapping[str, object], name: str, lines: _Lines) -> int:
    value = row.get(name)
    read = _tokens(str(value)) if isinstance(value, int) and not isinstance(value, bool) else None
    if read is None:
        column = lines.last.find(json.dumps(name)) + 1
        said = f"{name}: {str(value)[:40]!r} is no number of tokens" if name in row else f"{name} lacks"
        raise _fault(path, said, _AS, line=lines.number, column=max(1, column))
    return read


_AS = "write whole numbers, as in 1536"


@lru_cache(maxsize=2**16)
def _tokens(text: str) -> int | None:
    """A whole number, or one that a table tool wrote as `1536.0`."""
    digits = text.strip().removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) <= MAX_COUNT:
        return int(digits)
    return None


def _column(raw: str, field: int) -> int:
    """Where a field of a line begins, counted from 1; quoted commas are not borders."""
    quoted, seen = False, 0
    for place, letter in enumerate(raw, start=1):
        if seen == field:
            return place
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            seen += 1
    return len(raw.rstrip("\r\n"))


def _fault(
    path: str, message: str, hint: str | None = None, *, line: int | None = None, column: int | None = None
) -> KvcalcError:
    text = f"trace: {message}"[:300]
    return KvcalcError(Problem(code="KV904", message=text, path=path, line=line, column=column, help=hint))
