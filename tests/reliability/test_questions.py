"""Every command: what it imports, how much memory it takes, and that its answer is the same everywhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import tty
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from reliability.questions import HEAVY, QUESTIONS, write_inputs

from kvcalc.cli.app import COMMANDS

SCRIPT = Path(__file__).with_name("asking.py")
MOST_BYTES = 200 * 10**6
Answers = Mapping[str, tuple[bytes, bytes, dict[str, Any]]]
"""Question -> (standard output, standard error, report)."""


def answers(
    folder: Path, *, preload: tuple[str, ...], terminal: bool = False, backwards: bool = False, cwd: Path,
    **environment: str,
) -> Answers:  # fmt: skip
    """Every question, asked in one place and environment."""
    asked = {name: question for name, question in QUESTIONS.items() if preload or question.alone}
    questions = {name: question.arguments(folder) for name, question in asked.items()}
    if backwards:
        questions = dict(reversed(questions.items()))
        files = questions["check csv"]
        files[2], files[3] = files[3], files[2]
    ends = [pty.openpty() if terminal else os.pipe() for _ in range(2)]
    report, reported = os.pipe()
    for _, writing in ends if terminal else ():
        tty.setraw(writing)
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
    # A process that is forked must have no threads, and numpy's library starts some when it is imported.
    clean |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({reported}, 3); exec(open({str(SCRIPT)!r}).read())", *preload],
        stdin=subprocess.PIPE, stdout=ends[0][1], stderr=ends[1][1], pass_fds=(reported,), cwd=cwd,
        env={**clean, **environment},
    )  # fmt: skip
    os.close(reported)
    for _, writing in ends:
        os.close(writing)
    texts: dict[int, bytes] = {}
    readers = [threading.Thread(target=lambda end=end: texts.update({end: _everything(end)})) for end, _ in ends]
    for reader in readers:
        reader.start()
    assert process.stdin is not None
    process.stdin.write(json.dumps(questions).encode())
    process.stdin.close()
    said = _everything(report)
    for reader in readers:
        reader.join()
    assert process.wait() == 0, texts
    reports = json.loads(said)
    out, err = (_parts(texts[end]) for end, _ in ends)
    return {name: (out[name], err[name], reports[name]) for name in asked}


def _everything(end: int) -> bytes:
    """All that is written to the other end, a terminal's as well."""
    found = []
    try:
        while part := os.read(end, 2**16):
            found.append(part)
    except OSError:  # how a terminal ends
        pass
    os.close(end)
    return b"".join(found)


def _parts(text: bytes) -> dict[str, bytes]:
    parts = (part.partition(b"\n") for part in text.split(b"\x1e")[1:])
    return {name.decode(): body for name, _, body in parts}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("questions")
    (home / "inputs").mkdir()
    (home / "elsewhere").mkdir()
    write_inputs(home / "inputs")
    return home / "inputs"


@pytest.fixture(scope="module")
def bare(folder: Path) -> Answers:
    """Each in a bare interpreter."""
    return answers(folder, preload=(), cwd=folder.parent / "elsewhere")


def test_every_command_is_asked() -> None:
    asked = {question.line.split()[0] for question in QUESTIONS.values()}
    assert {command.name for command in COMMANDS} <= asked


@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.items() if question.alone])
def test_it_answers_imports_what_it_may_and_stays_small(name: str, bare: Answers) -> None:
    out, err, report = bare[name]
    question = QUESTIONS[name]
    assert report["code"] == question.code, err
    assert bool(out) != (question.code == 2)
    assert tuple(sorted(HEAVY & set(report["imports"]))) == question.imports
    assert report["max_rss_bytes"] < MOST_BYTES


# --- the same everywhere

PRELOADED = ("kvcalc.cli", "numpy", "pydantic", "matplotlib.figure", "kvcalc.plan.planning", "kvcalc.checks.engine")
ELSEWHERE: Mapping[str, dict[str, Any]] = {
    "Turkish, narrow, backwards": {
        "PYTHONHASHSEED": "1", "LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "COLUMNS": "30", "backwards": True,
    },
    "German, wide, on a terminal": {
        "PYTHONHASHSEED": "4711", "LC_ALL": "de_DE.UTF-8", "TZ": "America/St_Johns", "COLUMNS": "300", "LINES": "9",
        "TERM": "xterm-256color", "FORCE_COLOR": "1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1",
        "terminal": True,
    },
}  # fmt: skip


def test_answers_for_machines_are_the_same_everywhere(bare: Answers, folder: Path) -> None:
    """Hash seeds, languages, time zones, terminals, folders, the order of questions and of files."""
    cwd = folder.parent / "elsewhere" / "deeper"
    cwd.mkdir(exist_ok=True)
    drawn = (folder / "tiers.svg").read_bytes()
    found: list[Answers] = [bare]
    for where in ELSEWHERE.values():
        found.append(answers(folder, preload=PRELOADED, cwd=cwd, **where))
        assert (folder / "tiers.svg").read_bytes() == drawn
    for name, question in QUESTIONS.items():
        if question.for_machines:
            said = {asked[name][0] for asked in found if name in asked}
            assert len(said) == 1, (name, said)
    assert all(asked[name][2]["code"] == QUESTIONS[name].code for asked in found for name in asked)


def test_a_bar_is_shown_of_long_work_on_a_terminal_alone(folder: Path) -> None:
    """A second and less shows none (PATIENCE_S); plans have a test of their own."""
    code = (
        "import sys, kvcalc.render.progress as p; p.PATIENCE_S = float(sys.argv.pop())\n"
        "from kvcalc.cli import run\n"
        "run()\n"
    )
    shown = {}
    for name, (words, patience, terminal) in {
        "files": (["check", "--isolated", str(folder), "-o", "concise"], "0", True),
        "points": (["sweep", "qwen-72b", "-b", "1:70:1", "-s", "1:1000:1", "-o", "csv"], "0", True),
        "short": (["check", "--isolated", str(folder), "-o", "concise"], "60", True),
        "piped": (["check", "--isolated", str(folder), "-o", "concise"], "0", False),
    }.items():
        reading, writing = pty.openpty() if terminal else os.pipe()
        command = [sys.executable, "-c", code, *words, patience]
        subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=writing, check=False, env={**os.environ, "TERM": "xterm"}
        )
        os.close(writing)
        shown[name] = _everything(reading)
    assert b"files" in shown["files"]
    assert b"points" in shown["points"]
    assert (shown["short"], shown["piped"]) == (b"", b"")
