"""Every branch of the core rooms is taken by a test that names its case; .ci/run asks.

    python tests/core_coverage.py [ROOM ...]

Tests with drawn examples are left out: what they meet is not written down anywhere. So are those that start processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from core_rooms import ROOMS, ROOT

PROCESSES = ("tests/engines/test_engine_cli.py",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """(this file is the run's plugin, too)"""
    items[:] = [item for item in items if not getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", help=f"default: {' '.join(ROOMS)}")
    rooms = [ROOMS[name] for name in parser.parse_args().rooms or ROOMS]
    tests = dict.fromkeys(test for room in rooms for test in room.tests)
    files = ",".join(str(ROOT / path) for room in rooms for path in room.files)
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "coveragerc"
        config.write_text(f"[run]\nbranch = true\ninclude = {files}\ndata_file = {scratch}/data\n", encoding="utf-8")
        coverage = [sys.executable, "-m", "coverage"]
        asked = ["-m", "pytest", *tests, *(f"--ignore={path}" for path in PROCESSES), "-p", "no:cacheprovider",
                 "-p", "no:xdist", "-p", "core_coverage"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        run = subprocess.run([*coverage, "run", f"--rcfile={config}", *asked], cwd=ROOT, env=environment)
        if run.returncode:
            return run.returncode
        shown = ["report", f"--rcfile={config}", "--fail-under=100", "--show-missing", "--skip-covered"]
        return subprocess.run([*coverage, *shown], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
