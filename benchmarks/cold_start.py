"""How long kvcalc takes as a whole process, beside a bare typer program that prints one line.

    python benchmarks/cold_start.py [--runs 20] [--venv DIR] [--json FILE]

Builds this checkout's wheel into a fresh virtual environment (or uses DIR, if kvcalc is there already), since a wheel
holds what a checkout works out anew. Both programs are started in turn, so that whatever else the machine does meets
both; medians count. `terminal`: standard output is a pseudo-terminal, else a pipe.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
BARE = """\
import typer

app = typer.Typer(add_completion=False)


@app.command()
def main(name: str = "world") -> None:
    print(f"hello {name}")


app()
"""
SIZE = ("size", "qwen-72b", "-b", "8", "-s", "32K")
COMPLETE = {"_KVCALC_COMPLETE": "complete_bash", "COMP_WORDS": "kvcalc size qwen-7", "COMP_CWORD": "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    name: str
    words: Sequence[str]
    aim: float | None = None
    """Times the bare program, at most."""
    terminal: bool = False
    environment: Mapping[str, str] | None = None


QUESTIONS = (
    Question(name="size", words=SIZE, aim=1.3),
    Question(name="size, terminal", words=SIZE, aim=1.3, terminal=True),
    Question(name="--version", words=("--version",), aim=1.1),
    Question(name="shell completion", words=(), aim=1.1, environment=COMPLETE),
    Question(name="size --engine vllm", words=(*SIZE, "--engine", "vllm")),
    Question(name="compare", words=("compare", "qwen-72b", "--as", "gqa:8,mqa")),
    Question(name="explain", words=("explain", "deepseek-v3", "-s", "1")),
    Question(name="tiers", words=("tiers", "qwen-72b", "--gpu", "h200", "-b", "8", "-s", "32K")),
    Question(name="plan", words=("plan", "qwen-72b", "--gpu", "h200", "-b", "8", "-s", "32K")),
    Question(name="check, one file", words=("check", str(ROOT / "model_specs" / "qwen-72b.yaml"))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    name: str
    milliseconds: float
    times_bare: float
    aim: float | None


def _drain(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 65536):
            pass


def elapsed(command: Sequence[str], *, terminal: bool = False, environment: Mapping[str, str] | None = None) -> float:
    """Seconds from the start of a process to its end."""
    surroundings = {**os.environ, **(environment or {})}
    if not terminal:
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, env=surroundings, check=False)
        spent, status = time.perf_counter() - start, done.returncode
    else:
        ours, theirs = pty.openpty()
        reader = threading.Thread(target=_drain, args=(ours,))
        reader.start()
        start = time.perf_counter()
        status = subprocess.run(command, stdout=theirs, stderr=theirs, env=surroundings, check=False).returncode
        spent = time.perf_counter() - start
        os.close(theirs)
        reader.join()
        os.close(ours)
    if status:
        sys.exit(f"exit {status}: {' '.join(command)}")
    return spent


def installed(venv: Path) -> Path:
    """The folder of a virtual environment's commands, kvcalc among them."""
    commands = venv / "bin"
    if not (commands / "kvcalc").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([commands / "pip", "install", "-q", ROOT], check=True, stderr=subprocess.DEVNULL)
    return commands


def measured(commands: Path, runs: int) -> tuple[float, list[Timed]]:
    """(milliseconds of the bare program, every question); each round asks everything once."""
    bare_file = commands / "bare_typer.py"
    bare_file.write_text(BARE, encoding="utf-8")
    bare: list[float] = []
    spent: dict[str, list[float]] = {question.name: [] for question in QUESTIONS}
    for _ in range(runs + 1):
        bare.append(elapsed([str(commands / "python"), str(bare_file)]))
        for each in QUESTIONS:
            command = [str(commands / "kvcalc"), *each.words]
            spent[each.name].append(elapsed(command, terminal=each.terminal, environment=each.environment))
    base = median(bare[1:])  # the first round fills the disk's cache
    found = [
        Timed(name=q.name, milliseconds=1000 * median(spent[q.name][1:]),
              times_bare=median(spent[q.name][1:]) / base, aim=q.aim)
        for q in QUESTIONS
    ]  # fmt: skip
    return 1000 * base, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base, found = measured(installed(options.venv or Path(scratch) / "venv"), options.runs)
    print(f"bare typer program: {base:.1f} ms\n\n| question | ms | times bare | at most |\n|---|---:|---:|---:|")
    for each in found:
        print(f"| {each.name} | {each.milliseconds:.0f} | {each.times_bare:.2f} | {each.aim or ''} |")
    if options.json:
        document = {"bare_ms": base, "runs": options.runs, "questions": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if any(each.aim and each.times_bare > each.aim for each in found):
        sys.exit("an aim is missed")


if __name__ == "__main__":
    main()
