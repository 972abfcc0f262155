"""Lengths of sequences: one number, or a trace of real requests."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from kvcalc.problems import KvcalcError, Problem
from kvcalc.units import MAX_COUNT

MAX_BYTES = 2**28
"""Of a trace: far above any published one."""
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
        wanted, seen = percent * self.count / 100, 0
        for length, count in self.mix:
            seen += count
            if seen >= wanted:
                return length
        return self.longest

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

    Raises:
        KvcalcError: not readable, no such columns, or a value that is no number of tokens, with line and column.
    """
    try:
        content = Path(path).read_bytes() if Path(path).stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError) as error:
        raise _fault(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if content is None:
        raise _fault(path, f"larger than {MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(path, "not UTF-8", line=1 + content[: error.start].count(b"\n")) from None
    if text.lstrip()[:1] == "{":
        return _trace(path, _from_json(path, text))
    try:
        return _trace(path, _from_csv(path, text))
    except csv.Error as error:
        raise _fault(path, f"no CSV: {error}") from None


Request = tuple[int | None, int | None, int]
"""(prompt, answer, both together)"""


def _trace(path: str, requests: Iterable[Request]) -> Trace:
    totals: Counter[int] = Counter()
    held: Counter[int] = Counter()
    prompts: Counter[int] = Counter()
    answers = decoded = steps = 0
    for prompt, answer, total in requests:
        totals[max(1, total)] += 1
        if prompt is None or answer is None:
            continue
        prompts[prompt] += 1
        answers += answer
        stays = max(1, answer)
        steps += stays
        held[max(1, total)] += stays
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


def _columns(path: str, heads: Iterable[str]) -> dict[str, str]:
    """Which of the headings hold the tokens: isl and osl, or total."""
    seen = {"".join(c for c in head.lower() if c not in " _-"): head for head in heads}
    found = {what: seen[name] for what, names in NAMES.items() for name in reversed(names) if name in seen}
    if "isl" in found and "osl" in found:
        return {"isl": found["isl"], "osl": found["osl"]}
    if "total" in found:
        return {"total": found["total"]}
    shown = ", ".join(head[:30] for head in list(seen.values())[:8] if head) or "none"
    hint = f"columns: isl and osl (or ContextTokens and GeneratedTokens), or seq_len; found: {shown}"
    raise _fault(path, "no columns of tokens", hint, line=1)


def _request(tokens: Mapping[str, int]) -> Request:
    if "total" in tokens:
        return None, None, tokens["total"]
    return tokens["isl"], tokens["osl"], tokens["isl"] + tokens["osl"]


class _Lines:
    """The lines of a text; `last` is the one that was read last."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self.last = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.last = next(self._lines)
        return self.last


def _from_csv(path: str, text: str) -> Iterator[Request]:
    lines = _Lines(text)
    rows = csv.reader(lines, strict=True)
    heads = [head.strip() for head in next(rows, [])]
    places = {what: heads.index(head) for what, head in _columns(path, heads).items()}
    for row in rows:
        if row:
            tokens: dict[str, int] = {}
            for what, place in places.items():
                read = _tokens(row[place] if place < len(row) else "")
                if read is None:
                    said = (
                        f"{row[place].strip()[:40]!r} is no number of tokens" if place < len(row) else "a value lacks"
                    )
                    raise _fault(path, said, _AS, line=rows.line_num, column=_column(lines.last, place))
                tokens[what] = read
            yield _request(tokens)


def _from_json(path: str, text: str) -> Iterator[Request]:
    names: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _fault(path, "no JSON object", line=number, column=getattr(error, "colno", None)) from None
        if not isinstance(row, dict):
            raise _fault(path, "no JSON object", line=number, column=1)
        names = names or _columns(path, map(str, row))
        tokens: dict[str, int] = {}
        for what, name in names.items():
            value = row.get(name)
            read = _tokens(str(value)) if isinstance(value, int) and not isinstance(value, bool) else None
            if read is None:
                column = line.find(json.dumps(name)) + 1
                said = f"{name}: {str(value)[:40]!r} is no number of tokens" if name in row else f"{name} lacks"
                raise _fault(path, said, _AS, line=number, column=max(1, column))
            tokens[what] = read
        yield _request(tokens)


_AS = "write whole numbers, as in 1536"


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
    return max(1, len(raw.rstrip("\r\n")))


def _fault(
    path: str, message: str, hint: str | None = None, *, line: int | None = None, column: int | None = None
) -> KvcalcError:
    text = f"trace: {message}"[:300]
    return KvcalcError(Problem(code="KV904", message=text, path=path, line=line, column=column, help=hint))
