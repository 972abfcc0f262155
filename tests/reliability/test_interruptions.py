"""Ctrl-C is 130 wherever it comes, and a reader that leaves changes no verdict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks.spec_text import plain
from reliability.processes import interrupt, run, start, worked

LARGE = ("sweep", "qwen-72b", "-b", "1:3000:1", "-s", "1K:3000K:1K", "--gpu", "h200", "-o", "csv")
"""Nine million points: half a gigabyte that nobody reads, so that it also waits."""
LONG: dict[str, tuple[str, ...]] = {
    "a sweep that is written": LARGE,
    "a plan that is sought": ("plan", "deepseek-v3", "--gpu", "h100", "--rate", "1000", "--isl", "4K", "--osl", "1K"),
    "a check of 10,000 files": ("check", "--isolated", "many"),
    "a log of 64 MiB": ("reconcile", "server.log", "--model", "qwen-72b"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A job in a shell's background ignores Ctrl-C, and whatever it starts would too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("long")
    (home / "many").mkdir()
    first = home / "many" / "00000.yaml"
    first.write_text(plain())
    for index in range(1, 10_000):
        os.link(first, first.with_name(f"{index:05}.yaml"))
    with (home / "server.log").open("wb") as log:
        for _ in range(64):
            log.write((b"INFO 01-01 00:00:00 GPU blocks: x, KV cache size: y tokens " * 4 + b"\n") * 4096)
    return home


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("what", LONG)
def test_an_interruption_is_130_and_says_nothing(what: str, seconds: float, folder: Path) -> None:
    """After so much processor time: while importing, while reading, in the midst."""
    process = start(LONG[what], cwd=folder)
    assert worked(process, seconds), f"too short a task: exit {process.returncode}"
    assert interrupt(process) == (130, b"")


def test_an_interruption_while_a_child_works_is_130(tmp_path: Path) -> None:
    """As for the process that fetches from a hub."""
    code = (
        "import subprocess, sys\n"
        "from kvcalc import sizing\n"
        "sizing.size = lambda *_, **__: subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "sys.argv = ['kvcalc', 'size', 'qwen-72b']\n"
        "from kvcalc.__main__ import main\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text().strip():
        pass
    os.killpg(process.pid, 2)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"kvcalc" not in err


# --- readers that leave


def left() -> int:
    """The end of a pipe from which nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


FINDS = ("check", "--isolated", "bad.yaml")
GONE: dict[str, tuple[tuple[str, ...], str, int]] = {
    "an answer": (("list", "formats"), "stdout", 0),
    "half an answer": (LARGE, "stdout", 0),
    "findings": (FINDS, "stdout", 1),
    "what does not fit": (("fit", "deepseek-v3", "--gpu", "t4"), "stdout", 1),
    "wrong input": (("size", "no-such-model"), "stderr", 2),
    "wrong usage": (("size", "--no-such-option"), "stderr", 2),
    "a warning": (("size", "qwen-72b", "-s", "1G", "-q"), "stderr", 0),
}


@pytest.mark.parametrize("case", GONE)
def test_a_reader_that_leaves_changes_no_verdict(case: str, tmp_path: Path) -> None:
    """`kvcalc check | head` under `set -o pipefail` must still fail."""
    arguments, stream, expected = GONE[case]
    (tmp_path / "bad.yaml").write_text(plain().replace("value: 6144", "value: 1"))
    code, out, err = run(arguments, cwd=tmp_path, **{stream: left()})
    assert (code, err) == (expected, b"")
    if case == "a warning":
        assert out == b"2814749767106560\n"  # 2 x 80 x 64 x 128 x 2 B x 2**30 tokens


def test_without_a_reader_of_errors_an_answer_is_whole() -> None:
    assert run(("size", "qwen-72b", "-s", "1G"), stderr=left())[:2] == run(("size", "qwen-72b", "-s", "1G"))[:2]
