"""What a row of the table of targets holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of strangers' bytes: any bytes end in an answer or in Problems (KvcalcError)."""

    run: Callable[[bytes], bool | None]
    """False where it was refused by other means than an error."""
    seeds: Callable[[], Sequence[bytes]]
    share: int
    """Of the executions of a whole run: many where one is cheap."""
    words: str = ""
    """What the format is made of: a dictionary for the fuzzer, one word between spaces."""
    spelt: Callable[[bytes], bytes] | None = None
    """The input that the fuzzer's bytes spell, where they are no input themselves but edits of a sound one ..."""
    reader: str = ""
    """... and the target that takes it as it is: a finding is kept under that name, and outlives the spelling."""
