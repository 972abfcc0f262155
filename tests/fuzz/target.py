"""What a row of the table of targets holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of strangers' bytes: any bytes end in an answer or in Problems (KvcalcError)."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    share: int
    """Of the executions of a whole run: many where one is cheap."""
    words: str = ""
    """What the format is made of: a dictionary for the fuzzer, one word between spaces."""
