"""What a repair in place may change: how a file is written, never what it says."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from kvcalc.checks.hygiene import FOREIGN_KEYS, WITHIN

_WORDS = (*(table for table, _ in FOREIGN_KEYS.values()), *WITHIN.values())
_POWERS = {"k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2, "g": 1000**3, "G": 1024**3, "t": 1000**4, "T": 1024**4}
"""K = 1,024 and k = 1,000, as docs/check.md says."""


def same_meaning(before: object, after: object) -> None:
    """Another project's key may be ours now, an integer be written out, a name have another form; all else is equal."""
    for (key, value), (new_key, new_value) in zip(_parts(before), _parts(after), strict=True):
        assert key == new_key or any(table.get(str(key)) == new_key for table in _WORDS), f"{key} became {new_key}"
        if value != new_value and new_key != "name":
            assert isinstance(value, str), f"{key}: {value} became {new_value}"
            assert new_value == _written_out(value), f"{key}: {value!r} became {new_value}"


def _parts(data: object, key: object = None) -> Iterator[tuple[object, object]]:
    """(key or index, value) of every scalar and (key, None) of every collection, as they stand."""
    if isinstance(data, dict | list):
        yield key, None
        for inner, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _parts(value, inner)
    else:
        yield key, data


def _written_out(text: str) -> int:
    number = Fraction(text.rstrip("".join(_POWERS)).replace("_", "").replace(",", "")) * _POWERS.get(text[-1], 1)
    assert number.denominator == 1
    return number.numerator
