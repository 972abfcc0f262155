"""The rooms whose every branch and every small change some test must tell, and the tests that answer for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Room:
    """`patterns` of its files, and the tests that mirror it."""

    patterns: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(ROOT).as_posix() for pattern in self.patterns for path in ROOT.glob(pattern))


ROOMS: Mapping[str, Room] = {
    "formats": Room(
        ("kvcalc/formats.py", "kvcalc/cache_dtypes.py"), ("tests/test_formats.py", "tests/test_format_table.py")
    ),
    "streams": Room(
        ("kvcalc/streams.py", "kvcalc/layout.py"),
        ("tests/test_streams.py", "tests/test_footprint.py", "tests/traffic/test_extents.py", "tests/attention"),
    ),
    "attention": Room(("kvcalc/attention/*.py",), ("tests/attention",)),
    "footprint": Room(("kvcalc/footprint.py",), ("tests/test_footprint.py", "tests/attention", "tests/property")),
    "engines": Room(("kvcalc/engines/*.py", "kvcalc/engines/vllm/*.py"), ("tests/engines",)),
    "plan": Room(("kvcalc/plan/*.py",), ("tests/plan",)),
}
