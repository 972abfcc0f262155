"""Lengths of sequences: one number, or a trace of real requests."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from kvcalc.problems import KvcalcError, Problem
from kvcalc.units import MAX_COUNT

MAX_BYTES = 2**28
"""Of a trace: far above any published one."""
BUCKETS = 128
"""Distinct lengths that are allocated; others are rounded up to the next."""

INPUT_COLUMNS = (
    "isl",
    "input_tokens",
    "input_length",
    "prompt_tokens",
    "prompt_len",
    "contexttokens",
    "num_prefill_tokens",
)
OUTPUT_COLUMNS = (
    "osl",
    "output_tokens",
    "output_length",
    "completion_tokens",
    "output_len",
    "generatedtokens",
    "num_decode_tokens",
)
TOTAL_COLUMNS = ("seq_len", "tokens", "total_tokens", "length", "len")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of sequences that are held at once: (length, how often), shortest first."""

    mix: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tokens: int) -> Lengths:
        """All of one length."""
        return cls(((tokens, 1),))

    @property
    def longest(self) -> int:
        return self.mix[-1][0]

    @property
    def mean(self) -> Fraction:
        return Fraction(sum(length * count for length, count in self.mix), sum(count for _, count in self.mix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests of a real service."""

    path: str
    requests: int
    totals: Lengths
    """Prompt and answer together: what a sequence holds at its end."""
    mean_isl: Fraction
    mean_osl: Fraction | None
    """None where the file gives totals alone."""

    def percentile(self, percent: Fraction) -> int:
        """The shortest length that `percent` of the requests do not exceed (nearest rank)."""
        wanted, seen = percent * self.requests / 100, 0
        for length, count in self.totals.mix:
            seen += count
            if seen >= wanted:
                return length
        return self.totals.longest

    @property
    def bucketed(self) -> Lengths:
        """At most BUCKETS lengths, rounded up: what is summed is never less than the trace."""
        step = max(1, -(-self.totals.longest // BUCKETS))
        counts: Counter[int] = Counter()
        for length, count in self.totals.mix:
            counts[min(self.totals.longest, -(-length // step) * step)] += count
        return Lengths(tuple(sorted(counts.items())))


def load_trace(path: str) -> Trace:
    """A CSV with a heading: input and output tokens per request, or their sum.

    Raises:
        KvcalcError: not readable, no such columns, or a value that is no number of tokens, with its line.
    """
    try:
        content = Path(path).read_bytes() if Path(path).stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError) as error:
        raise _fault(path, None, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if content is None:
        raise _fault(path, None, f"larger than {MAX_BYTES:,} bytes")
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        return _read(path, rows)
    except UnicodeDecodeError:
        raise _fault(path, 1, "not UTF-8") from None
    except csv.Error as error:
        raise _fault(path, None, f"no CSV: {error}") from None


def _read(path: str, rows: Iterable[list[str]]) -> Trace:
    lines = iter(rows)
    heads = [name.strip().lower() for name in next(lines, [])]
    find = {
        what: next((heads.index(name) for name in names if name in heads), None)
        for what, names in (("isl", INPUT_COLUMNS), ("osl", OUTPUT_COLUMNS), ("total", TOTAL_COLUMNS))
    }
    isl, osl, total = find["isl"], find["osl"], find["total"]
    if (isl is None or osl is None) and total is None:
        hint = "columns: isl and osl (or ContextTokens and GeneratedTokens), or seq_len"
        raise _fault(path, 1, "no columns of tokens in the heading", hint)
    counts: Counter[int] = Counter()
    sums = [0, 0]
    for number, row in enumerate(lines, start=2):
        if not row:
            continue
        if isl is not None and osl is not None:
            pair = [_tokens(path, number, row, column) for column in (isl, osl)]
            sums = [so_far + more for so_far, more in zip(sums, pair, strict=True)]
            counts[max(1, sum(pair))] += 1
        else:
            counts[max(1, _tokens(path, number, row, total or 0))] += 1
    requests = sum(counts.values())
    if not requests:
        raise _fault(path, 1, "no requests below the heading")
    both = isl is not None and osl is not None
    totals = Lengths(tuple(sorted(counts.items())))
    return Trace(
        path=path, requests=requests, totals=totals,
        mean_isl=Fraction(sums[0], requests) if both else totals.mean,
        mean_osl=Fraction(sums[1], requests) if both else None,
    )  # fmt: skip


def _tokens(path: str, line: int, row: list[str], column: int) -> int:
    text = row[column].strip() if column < len(row) else ""
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_COUNT:
        return int(text)
    raise _fault(path, line, f"{text[:40]!r} is no number of tokens", "write whole numbers, as in 1536")


def _fault(path: str, line: int | None, message: str, hint: str | None = None) -> KvcalcError:
    return KvcalcError(Problem(code="KV904", message=f"trace: {message}"[:300], path=path, line=line, help=hint))
