"""Which tests answer for which line: those that ran it, fastest first."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from subprocess import run

from changes import Mutant
from core_rooms import ROOT

MAX_SECONDS = 15.0
"""Of tests for one mutant, as they took unchanged."""
AT_IMPORT = ""
"""The context of lines that run before any test."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Tests by the lines they ran, and how long each took."""

    by_line: Mapping[tuple[str, int], frozenset[str]]
    seconds: Mapping[str, float]

    def at_import(self, mutant: Mutant) -> bool:
        """Whether the line runs before any test."""
        return AT_IMPORT in self.by_line.get((mutant.path, mutant.line), ())

    def of(self, mutant: Mutant, most: float = MAX_SECONDS) -> list[str]:
        """Fastest first. What a line makes at import may be met by any test, even one that runs no line of the file.

        Args:
            most: seconds of tests.
        """
        near = self.by_line.get((mutant.path, mutant.line), frozenset({AT_IMPORT}))
        found = near
        if AT_IMPORT in near:
            found = near.union(self.seconds)
        ordered = sorted(found - {AT_IMPORT}, key=lambda test: (test not in near, self.seconds.get(test, 0.0), test))
        total = accumulate(self.seconds.get(test, 0.0) for test in ordered)
        return [test for test, so_far in zip(ordered, total, strict=True) if so_far <= most]


def measured(files: Sequence[str], tests: Sequence[str]) -> Choice:
    """One run of the tests, unchanged; they must pass."""
    with tempfile.TemporaryDirectory() as scratch:
        config, data = Path(scratch) / "coveragerc", Path(scratch) / "data"
        include = ",".join(f"*/{path}" for path in files)
        config.write_text(f"[run]\ninclude = {include}\ndata_file = {data}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *tests, "-q", "-p", "no:cacheprovider", "-p", "quick", "--cov",
                   f"--cov-config={config}", "--cov-context=test", "--cov-report=",
                   "--durations=0", "-vvvv"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        done = run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"the tests fail as they are:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        seconds: Counter[str] = Counter()
        for line in done.stdout.splitlines():
            words = line.split(maxsplit=2)
            if len(words) == 3 and words[0].endswith("s") and words[1] in ("call", "setup", "teardown"):
                seconds[words[2]] += float(words[0][:-1])
        return Choice(_contexts(data), seconds)


def _contexts(data: Path) -> Mapping[tuple[str, int], frozenset[str]]:
    from coverage import CoverageData

    found = CoverageData(basename=str(data))
    found.read()
    return {
        (Path(file).relative_to(ROOT).as_posix(), line): frozenset(context.rpartition("|")[0] for context in contexts)
        for file in found.measured_files()
        for line, contexts in found.contexts_by_lineno(file).items()
    }
