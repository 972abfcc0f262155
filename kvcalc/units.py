"""Exact parsing and printing of counts, sizes, rates and durations.

Sizes are integers of bytes from end to end: GB = 10^9 B, GiB = 2^30 B. Nothing passes through a float,
so a figure that is not a whole number of base units is refused rather than rounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvcalc.problems import usage_error

if TYPE_CHECKING:
    from fractions import Fraction

MAX_COUNT = 2**60
"""Largest count accepted from a user: keeps every product far below absurdity, and far above need."""

MIB, GIB = 2**20, 2**30
"""Bytes."""

_NUMBER = re.compile(r"(\d{1,40})(?:\.(\d{1,40}))?\s*([^\d\s].*)?", re.ASCII)

COUNT_SUFFIXES: Mapping[str, int] = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
"""As vLLM reads integers on its command line: 32k = 32,000 and 32K = 32,768."""

_DECIMAL: Mapping[str, int] = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
}
_BINARY: Mapping[str, int] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}

BYTE_UNITS: Mapping[str, int] = {prefix + "B": n for prefix, n in ({**_DECIMAL, **_BINARY}).items()}
BYTE_RATE_UNITS: Mapping[str, int] = {unit + "/s": n for unit, n in BYTE_UNITS.items()}
FLOP_RATE_UNITS: Mapping[str, int] = {prefix + "FLOP/s": n for prefix, n in _DECIMAL.items()} | {
    prefix + "OP/s": n for prefix, n in _DECIMAL.items()
}
FREQUENCY_UNITS: Mapping[str, int] = {prefix + "Hz": n for prefix, n in _DECIMAL.items()}
POWER_UNITS: Mapping[str, int] = {"W": 1, "kW": 10**3, "MW": 10**6}
DURATION_UNITS: Mapping[str, int] = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
"""In nanoseconds."""


def _parse(text: str, units: Mapping[str, int], what: str, base: str, example: str) -> int:
    """The figure in base units; decimals are scaled as integers, so nothing is rounded."""
    match = _NUMBER.fullmatch(text.strip())
    unit = (match.group(3) or "") if match else ""
    if match is None or unit not in units:
        accepted = ", ".join(name for name in units if name)
        raise usage_error(f"{text[:60]!r} is not {what}", help=f"write it like {example}; units: {accepted}")
    decimals = match.group(2) or ""
    shift: int = 10 ** len(decimals)
    value, rest = divmod(int(match.group(1) + decimals) * units[unit], shift)
    if rest:
        one = next(name for name, size in units.items() if size == 1)
        near = f"write it as {value}{one} or {value + 1}{one}"
        raise usage_error(f"{text[:60]!r} is not {what}: not a whole number of {base}", help=near)
    return value


def parse_count(text: str, what: str = "count", *, minimum: int = 1) -> int:
    """A whole number, with vLLM's suffixes: `32k` = 32,000, `32K` = 32,768, `25.6k` = 25,600.

    Raises:
        KvcalcError: not a whole number, below `minimum`, or above 2^60.
    """
    example = "8192, 32K (= 32,768) or 32k (= 32,000)"
    if text.strip().startswith("-"):
        raise usage_error(f"{what} must be at least {minimum}, got {text.strip()[:60]}")
    value = _parse(text, COUNT_SUFFIXES, f"a {what}", "units", example)
    if value < minimum:
        raise usage_error(f"{what} must be at least {minimum}, got {value}")
    if value > MAX_COUNT:
        raise usage_error(f"{what} must be at most 2^60, got {text.strip()[:60]}")
    return value


def parse_bytes(text: str) -> int:
    """`80 GB` (10^9), `80 GiB` (2^30), `81559 MiB`, `656 B` -> bytes."""
    return _parse(text, BYTE_UNITS, "a size", "bytes", "80 GB or 80 GiB")


def parse_byte_rate(text: str) -> int:
    """`3.35 TB/s` -> bytes per second."""
    return _parse(text, BYTE_RATE_UNITS, "a bandwidth", "B/s", "3.35 TB/s")


def parse_flop_rate(text: str) -> int:
    """`989.4 TFLOP/s` (or `1979 TOP/s` for integer units) -> operations per second."""
    return _parse(text, FLOP_RATE_UNITS, "a FLOP rate", "FLOP/s", "989 TFLOP/s")


def parse_frequency(text: str) -> int:
    """`1.41 GHz` -> hertz."""
    return _parse(text, FREQUENCY_UNITS, "a frequency", "Hz", "1.41 GHz")


def parse_power(text: str) -> int:
    """`700 W` -> watts."""
    return _parse(text, POWER_UNITS, "a power", "watts", "700 W")


def parse_duration_ns(text: str) -> int:
    """`50ms` -> nanoseconds."""
    return _parse(text, DURATION_UNITS, "a duration", "nanoseconds", "50ms")


def parse_decimal(text: str, what: str = "number", *, most: int = 10**9) -> Fraction:
    """`2.50` -> 5/2, exactly.

    Raises:
        KvcalcError: not a plain decimal above 0 and at most `most`.
    """
    from fractions import Fraction

    digits = text.strip()
    if len(digits) <= 20 and digits.isascii() and digits.replace(".", "", 1).isdecimal():
        value = Fraction(digits)
        if 0 < value <= most:
            return value
    example = "as in 0.9" if most == 1 else "as in 0.9 or 2.50"
    raise usage_error(f"{what} is a decimal above 0 and at most {most:,}, not {text[:20]!r}", help=example)


def _scaled(value: int | Fraction, steps: tuple[tuple[int, str], ...], base: str) -> str:
    """Four significant digits in the largest unit that keeps the figure at or above one."""
    for size, name in steps:
        if value >= size:
            digits = max(0, 4 - len(str(int(value // size))))
            text = f"{float(value / size):,.{digits}f}"
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {name}"
    return f"{value:,} {base}" if isinstance(value, int) else f"{float(value):,.6g} {base}"


_GIB_STEPS: tuple[tuple[int, str], ...] = (
    (2**50, "PiB"),
    (2**40, "TiB"),
    (2**30, "GiB"),
    (2**20, "MiB"),
    (2**10, "KiB"),
)
_DECIMAL_STEPS: tuple[tuple[int, str], ...] = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def format_bytes(value: int | Fraction) -> str:
    """Binary units, four significant digits: `2621440` -> `2.5 MiB`. Always beside the exact integer."""
    return _scaled(value, _GIB_STEPS, "B")


def format_rate(value: int | Fraction, unit: str) -> str:
    """Decimal prefixes, four significant digits: `(3350000000000, "B/s")` -> `3.35 TB/s`."""
    return _scaled(value, tuple((size, prefix + unit) for size, prefix in _DECIMAL_STEPS), unit)


def format_seconds(value: float) -> str:
    """`0.0123` -> `12.3 ms`."""
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(value) >= size:
            return f"{value / size:.4g} {name}"
    return f"{value / 1e-9:.4g} ns"
