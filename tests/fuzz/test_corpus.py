"""What a fuzzer once found is found no more; damaged seeds of every target end in an answer or in Problems.

`run.py` is the fuzzer itself; docs/reliability.md has its latest figures.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fuzz.damage import YAML_PIECES, damaged, noise, pieces_of
from fuzz.oracle import harmless, problem_shown, table_shown
from fuzz.report import load, table
from fuzz.target import ROOT
from fuzz.targets import CORPUS, TARGETS, attempt

from kvcalc.problems import Problem

PAGE = ROOT / "docs" / "reliability.md"
MAX_SECONDS = 10.0
"""Of CPU time: a hang on any machine. `run.py` looks at two seconds of this one."""
MAX_BYTES = 2**30
FAILURES = sorted(CORPUS.glob("*.bin"))
SLOW = {"plan-yaml": 40, "plan-edits": 20, "command-line": 100, "check-edits": 60}
"""Target -> cases, where one takes long."""
CASES = 200


def target_of(path: Path) -> str:
    """The longest name that the file's begins with."""
    return max((name for name in TARGETS if path.stem.startswith(f"{name}-")), key=len)


@contextmanager
def bounded() -> Iterator[None]:
    """MAX_SECONDS of CPU time, 1 GiB beyond what the tests take (where the system can say so)."""
    try:
        import resource
    except ImportError:
        yield
        return
    now = resource.getrlimit(resource.RLIMIT_AS)
    pages = Path("/proc/self/statm")
    if pages.exists():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MAX_BYTES, now[1]))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, now)
    assert time.process_time() - start < MAX_SECONDS


@pytest.mark.parametrize("path", FAILURES, ids=lambda path: path.stem)
def test_a_past_failure_is_none_any_more(path: Path) -> None:
    name = target_of(path)
    attempt(name, TARGETS[name].seeds()[0])  # what is imported and read once is not counted
    with bounded():
        attempt(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_ends_in_an_answer_or_in_problems(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    seeds, pieces = target.seeds(), pieces_of(target.words) or YAML_PIECES
    attempt(name, seeds[0])  # what is imported and read once is not counted
    answered, cases = 0, SLOW.get(name, CASES)
    for _ in range(cases):
        if target.spelt is None:
            data = damaged(chance, chance.choice(seeds), pieces)
        else:
            data = chance.randbytes(chance.choice((5, 5, 9, 17, 33)))
        with bounded():
            answered += attempt(name, data)
    assert cases // 50 < answered < cases, "it says nothing of what comes after the parser, or nothing of refusals"


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.spelt is None])
def test_noise_ends_in_problems(name: str) -> None:
    chance, pieces = random.Random(name), pieces_of(TARGETS[name].words) or YAML_PIECES
    for _ in range(CASES):
        attempt(name, noise(chance, pieces))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (harmless, "a\x1b[31m"), (harmless, "a\u202eb"), (harmless, "a\x9bb"), (harmless, "x\n::error::y"),
        (table_shown, "a,b\n1\n"), (table_shown, "a\n=1+1\n"), (table_shown, 'a\n"1\n'),
        (problem_shown, Problem(code="KV901", message="x", path="x" * 6000)),
    ],
)  # fmt: skip
def test_the_oracle_can_fail(check, text) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever says so
        check(text)


def test_the_page_shows_the_latest_run() -> None:
    found = load()
    assert table(found) in PAGE.read_text("utf-8"), "run: python tests/fuzz/report.py"
    assert [row["target"] for row in found["targets"]] == list(TARGETS)
    assert found["executions"] >= 1_000_000
    assert found["commit"] in PAGE.read_text("utf-8")
    assert [row["findings"] for row in found["targets"]] == [[]] * len(TARGETS)
