"""Figures of hardware: each as it was printed, with its unit, its source and the kind of that source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MaxLen, MinLen

from kvcalc.fields import STRICT, Size, Text
from kvcalc.spec.document import Loc
from kvcalc.units import (
    BYTE_RATE_UNITS,
    BYTE_UNITS,
    FLOP_RATE_UNITS,
    FREQUENCY_UNITS,
    POWER_UNITS,
    parse_byte_rate,
    parse_bytes,
    parse_flop_rate,
    parse_frequency,
    parse_power,
)

Evidence = Literal["datasheet", "whitepaper", "vendor-docs", "driver", "paper", "secondary", "memory", "user"]
"""How a published figure is known, best first: printed on the vendor's product page or data sheet (its own text, or two
transcriptions that name it and agree); in its architecture white paper; in its documentation or repositories; by the
driver on a machine; in a paper; by one third party; by nobody who looked it up (a lead); by the writer of the file.
Theory and measurement are no evidence of this list: they have fields of their own."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks text that is a number with a unit: a pattern and an example for the JSON Schema."""

    units: tuple[str, ...]
    example: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        names = "|".join(sorted(self.units))
        schema: dict[str, Any] = handler(core_schema)
        return {**schema, "pattern": rf"^\d+(\.\d+)? ?({names})$", "examples": [self.example]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourced:
    """Where a figure comes from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Text
    kind: Evidence
    note: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Sourced):
    """A number of things."""

    value: Size

    @property
    def exact(self) -> int:
        return self.value


_Written = Annotated[str, MinLen(2), MaxLen(60)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteSize(Sourced):
    """A size as printed: `80 GB` is 80 x 10^9, `80 GiB` is 80 x 2^30."""

    value: Annotated[_Written, Unit(tuple(BYTE_UNITS), "80 GB")]

    @property
    def exact(self) -> int:
        """Bytes."""
        return parse_bytes(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRate(Sourced):
    """A bandwidth as printed: `3.35 TB/s` is 3.35 x 10^12 B/s."""

    value: Annotated[_Written, Unit(tuple(BYTE_RATE_UNITS), "3.35 TB/s")]

    @property
    def exact(self) -> int:
        """Bytes per second."""
        return parse_byte_rate(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRate(Sourced):
    """A peak rate of arithmetic, dense: `989 TFLOP/s`, `1979 TOP/s`. A multiply-add is two operations."""

    value: Annotated[_Written, Unit(tuple(FLOP_RATE_UNITS), "989 TFLOP/s")]

    @property
    def exact(self) -> int:
        """Operations per second."""
        return parse_flop_rate(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency(Sourced):
    """A clock, or transfers per second."""

    value: Annotated[_Written, Unit(tuple(FREQUENCY_UNITS), "1.41 GHz")]

    @property
    def exact(self) -> int:
        """Hertz."""
        return parse_frequency(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(Sourced):
    """A power limit."""

    value: Annotated[_Written, Unit(tuple(POWER_UNITS), "700 W")]

    @property
    def exact(self) -> int:
        """Watts."""
        return parse_power(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A bandwidth that somebody measured, with all it takes to measure it again."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    value: Annotated[_Written, Unit(tuple(BYTE_RATE_UNITS), "4.2 TB/s")]
    what: Text
    """What was moved, and how bytes are counted."""
    machine: Text
    command: Text
    date: Annotated[str, MinLen(4), MaxLen(10)]
    source: Text

    @property
    def exact(self) -> int:
        """Bytes per second."""
        return parse_byte_rate(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What explanations print for a tier: kept to be compared with, never calculated with."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Text
    capacity: Annotated[_Written, Unit(tuple(BYTE_UNITS), "20 MB")] | None = None
    bandwidth: Annotated[_Written, Unit(tuple(BYTE_RATE_UNITS), "19 TB/s")] | None = None
    note: Text | None = None

    @property
    def printed(self) -> str:
        """As in `20 MB, 19 TB/s`."""
        return ", ".join(figure for figure in (self.capacity, self.bandwidth) if figure)


Figure = Count | ByteSize | ByteRate | OpRate | Frequency | Power | Measurement


def figures(part: object, place: Loc = ()) -> Iterator[tuple[Loc, Figure]]:
    """Every figure below `part`, with its place in the spec."""
    if isinstance(part, Figure):
        yield place, part
    elif is_dataclass(part):
        for field in fields(part):
            yield from figures(getattr(part, field.name), (*place, field.name))
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from figures(value, (*place, str(key)))
    elif isinstance(part, tuple):
        for index, value in enumerate(part):
            yield from figures(value, (*place, index))
