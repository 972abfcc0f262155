"""The installed command as a process of its own: locales, pipes, closed streams, hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from factories import SPEC


def run(arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell line in which $KVCALC is the command."""
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "KVCALC_DEBUG")}
    return subprocess.run(
        ["bash", "-c", arguments], capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**clean, "KVCALC": f"{sys.executable} -m kvcalc", **environment},
    )  # fmt: skip


def test_output_is_the_same_in_every_locale_and_under_every_hash_seed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC.replace("test-model", "modèle-µ"), encoding="utf-8")
    runs = [
        run(f"$KVCALC size gemma-3-27b {path} -s 2000 -o {form}", PYTHONHASHSEED=seed, LC_ALL=locale,
            PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        for form in ("csv", "json")
        for seed, locale, encoding in (("0", "C", "ascii"), ("7", "C.UTF-8", "utf-8"))
    ]  # fmt: skip
    for ran in runs:
        assert (ran.returncode, ran.stderr) == (0, b"")
    assert runs[0].stdout == runs[1].stdout
    assert runs[2].stdout == runs[3].stdout
    assert "modèle-µ".encode() in runs[0].stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    ran = run("set -o pipefail; $KVCALC list formats | head -c 1; $KVCALC list models -o json | true")
    assert ran.returncode == 0
    assert ran.stderr == b""


@pytest.mark.parametrize("line", ["$KVCALC size qwen-72b >/dev/full", "$KVCALC size qwen-72b >&-",
                                  "$KVCALC size - <&-", "$KVCALC size qwen-72b -q -s 0"])  # fmt: skip
def test_what_cannot_be_done_ends_in_one_line_and_exit_2(line: str) -> None:
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    ran = run(line)
    assert ran.returncode == 2
    assert ran.stdout == b""
    assert b"Traceback" not in ran.stderr
    assert b"internal error" not in ran.stderr
    assert ran.stderr.count(b"\n") <= 2
