"""Mutation testing of the core rooms: does some fast test fail for every small change of the code?

    pip install cosmic-ray pytest-cov
    python tests/mutation/run.py formats streams attention footprint --out mutation.json
    python tests/mutation/run.py plan --sample 300 --seed 1 --out mutation-plan.json

cosmic-ray's operators make the changes, one at a time. Each runs in a forked process that sees the changed code
(nothing on disk changes), against the tests that ran that line, fastest first, until one fails. A survivor is killed
by a new test, or explained in explained.toml; the exit status says whether any is neither.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).parent / "explained.toml"
MAX_SECONDS = 15.0
"""Of tests for one mutant, as they took unchanged."""
CPU_SECONDS = 90
"""Of one mutant: an endless loop counts as killed."""

CORE_TESTS = (
    "tests/test_formats.py", "tests/test_streams.py", "tests/test_footprint.py", "tests/test_explain_formulas.py",
    "tests/attention", "tests/property", "tests/golden", "tests/traffic", "tests/core",
    "tests/cli/test_size_command.py", "tests/weights/test_parameters.py", "tests/weights/test_families.py",
    "tests/weights/test_sharding.py",
    "tests/spec/test_model_loading.py", "tests/spec/test_schema_agreement.py", "tests/tiers",
)  # fmt: skip
ROOMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "formats": (("kvcalc/formats.py", "kvcalc/cache_dtypes.py"), CORE_TESTS),
    "streams": (("kvcalc/streams.py", "kvcalc/layout.py"), CORE_TESTS),
    "attention": (("kvcalc/attention/*.py",), CORE_TESTS),
    "footprint": (("kvcalc/footprint.py",), CORE_TESTS),
    "engines": (("kvcalc/engines/*.py", "kvcalc/engines/vllm/*.py"), ("tests/engines", "tests/reconcile")),
    "plan": (("kvcalc/plan/*.py",), ("tests/plan",)),
}
"""Room -> (its files, the fast tests that answer for it)."""

OPERATORS = (
    "AddNot", "ExceptionReplacer", "NumberReplacer", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop",
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not",
    *(f"ReplaceBinaryOperator_{change}" for change in (
        "Add_Sub", "Sub_Add", "Mul_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul")),
    *(f"ReplaceComparisonOperator_{change}" for change in (
        "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")),
)  # fmt: skip
"""One change for each operator of Python: `a < b` becomes `a <= b`, and by AddNot its opposite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    path: str
    line: int
    operator: str
    was: str
    """The line, without its indentation; `became` likewise."""
    became: str
    source: str


def mutants(path: str) -> Iterator[Mutant]:
    """Every change of a file by the operators, docstrings and equal code left out."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / path).read_text("utf-8")
    lines = source.splitlines()
    seen = {source}
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [start for node in ast_nodes(get_ast(source)) for start, _ in operator.mutation_positions(node)]
        for occurrence, _ in enumerate(places):
            changed = mutate_code(source, operator, occurrence)
            if changed is None or changed in seen:
                continue
            seen.add(changed)
            after = changed.splitlines()
            line = next(i for i, pair in enumerate(zip(lines, after, strict=False)) if pair[0] != pair[1])
            if lines[line].startswith("@dataclass("):
                continue  # frozen, slots, keyword-only: how the house writes, not what it computes
            yield Mutant(path=path, line=line + 1, operator=name, was=lines[line].strip(), became=after[line].strip(),
                         source=changed)  # fmt: skip


# --- which tests ran which line ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coverage:
    """Tests by the lines they ran, and how long each took."""

    by_line: Mapping[tuple[str, int], frozenset[str]]
    seconds: Mapping[str, float]

    def of(self, mutant: Mutant) -> list[str]:
        """Fastest first, MAX_SECONDS of them; for a line that runs at import, tests that run any line of the file."""
        found = self.by_line.get((mutant.path, mutant.line), frozenset())
        if not found:
            found = frozenset().union(*(tests for (path, _), tests in self.by_line.items() if path == mutant.path))
        ordered = sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))
        total = accumulate(self.seconds.get(test, 0.0) for test in ordered)
        return [test for test, so_far in zip(ordered, total, strict=True) if so_far <= MAX_SECONDS]


def measured(files: Sequence[str], tests: Sequence[str]) -> Coverage:
    """One run of the tests, unchanged; they must pass."""
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "coveragerc"
        data = Path(scratch) / "data"
        include = ",".join(f"*/{path}" for path in files)
        config.write_text(f"[run]\ninclude = {include}\ndata_file = {data}\n", encoding="utf-8")
        junit = Path(scratch) / "junit.xml"
        command = [sys.executable, "-m", "pytest", *tests, "-q", "-p", "no:cacheprovider", "--cov",
                   f"--cov-config={config}", "--cov-context=test", "--cov-report=", f"--junit-xml={junit}", "-o",
                   "junit_family=xunit1", "--durations=0", "-vv"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the tests fail as they are:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        seconds: Counter[str] = Counter()
        for line in done.stdout.splitlines():
            words = line.split(maxsplit=2)
            if len(words) == 3 and words[0].endswith("s") and words[1] in ("call", "setup", "teardown"):
                seconds[words[2]] += float(words[0][:-1])
        return Coverage(_contexts(data), seconds)


def _contexts(data: Path) -> Mapping[tuple[str, int], frozenset[str]]:
    from coverage import CoverageData

    found = CoverageData(basename=str(data))
    found.read()
    by_line: dict[tuple[str, int], frozenset[str]] = {}
    for file in found.measured_files():
        path = Path(file).relative_to(ROOT).as_posix()
        for line, contexts in found.contexts_by_lineno(file).items():
            tests = frozenset(context.rpartition("|")[0] for context in contexts if "|" in context)
            if tests:
                by_line[path, line] = tests
    return by_line


# --- one mutant ------------------------------------------------------------------------------------------------------


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Gives the changed source for one module, and leaves all others alone."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = _module(mutant.path)
        self.path, self.source = str(ROOT / mutant.path), mutant.source

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname != self.name:
            return None
        folder = [os.path.dirname(self.path)] if self.path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=folder
        )

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str) -> bytes:
        return self.source.encode()

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError  # no cached bytecode


def _module(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class _Quick:
    """Hypothesis neither shrinks nor remembers: one failure is enough."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", deadline=None, derandomize=True, database=None, phases=phases)
        settings.load_profile("mutation")


class _Chosen(_Quick):
    """Runs these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.place), key=lambda i: self.place[i.nodeid])


_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "--no-header")


def failed(work: Callable[[], int]) -> bool:
    """Whether the work, in a process of its own, ends in anything but 0 (or never)."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
            resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
            code = work()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0


class Imported:
    """A mutant in a fresh import of everything: file by file, first those that have killed most."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()

    def killed(self, mutant: Mutant, tests: Sequence[str]) -> bool:
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(test.partition("::")[0], []).append(test)
        for file in sorted(by_file, key=lambda name: -self.kills[name]):
            if failed(partial(self._run, mutant, file, by_file[file])):
                self.kills[file] += 1
                return True
        return False

    def _run(self, mutant: Mutant, file: str, tests: Sequence[str]) -> int:
        sys.meta_path.insert(0, _Changed(mutant))
        sys.dont_write_bytecode = True
        return int(pytest.main([file, *_OPTIONS], plugins=[_Chosen(tests)]))


class Patched(_Quick):
    """Mutants of function bodies, in one process that has imported and collected everything: code objects are swapped.

    Quick, and nearly right: what survives here is tried again in a fresh import.
    """

    def __init__(self, chosen: Sequence[tuple[Mutant, Sequence[str]]], out: Path) -> None:
        self.chosen, self.out = chosen, out

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        with self.out.open("w", encoding="utf-8") as out:
            for mutant, tests in self.chosen:
                wanted = [items[test] for test in tests if test in items]
                dead = failed(partial(self._run, session, mutant, wanted))
                out.write(f"{int(dead)}\n")
                out.flush()
        return True

    def _run(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> int:
        swap(_module(mutant.path), str(ROOT / mutant.path), mutant.source)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0


def swap(name: str, path: str, source: str) -> None:
    """Give every function of a loaded module the code that the changed source has for it."""
    old = sys.modules[name]
    new = ModuleType(name)
    new.__dict__.update({"__file__": path, "__package__": old.__package__, "__name__": name})
    sys.modules[name] = new
    try:
        exec(compile(source, path, "exec"), new.__dict__)
    finally:
        sys.modules[name] = old
    codes = dict(_functions(new.__dict__, name))
    for place, function in _functions(old.__dict__, name):
        if place in codes:
            function.__code__ = codes[place].__code__


def _functions(names: Mapping[str, Any], module: str, place: str = "") -> Iterator[tuple[str, Any]]:
    """(qualified name, function) of a module's functions and methods, however wrapped."""
    for name, value in list(names.items()):
        where = f"{place}.{name}"
        if isinstance(value, type) and value.__module__ == module:
            yield from _functions(vars(value), module, where)
            continue
        wrappers = ("fget", "func", "__func__", "__wrapped__")
        inner = next((getattr(value, key) for key in wrappers if hasattr(value, key)), value)
        if hasattr(inner, "__code__") and getattr(inner, "__module__", None) == module:
            yield where, inner


def in_bodies(path: str) -> frozenset[int]:
    """Lines of function bodies: defaults, decorators and tables of the module are not among them."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    return frozenset(found)


def survivors(chosen: Sequence[tuple[Mutant, Sequence[str]]]) -> Iterator[Mutant]:
    """Those that no test tells from the code as it is."""
    imported = Imported()
    bodies = {path: in_bodies(path) for path in {mutant.path for mutant, _ in chosen}}
    quick = [pair for pair in chosen if pair[0].line in bodies[pair[0].path]]
    slow = [pair for pair in chosen if pair[0].line not in bodies[pair[0].path]]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "dead"
        out.touch()
        files = sorted({test.partition("::")[0] for _, tests in quick for test in tests})
        child = os.fork()
        if child == 0:
            try:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 1)
                pytest.main([*files, *_OPTIONS], plugins=[Patched(quick, out)])
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        dead = out.read_text("utf-8").split()
    if len(dead) < len(quick):
        print(f"  ({len(quick) - len(dead)} could not be tried quickly)", flush=True)
    dead += ["0"] * (len(quick) - len(dead))
    again = [pair for pair, word in zip(quick, dead, strict=True) if word == "0"]
    print(f"  {len(quick)} swapped, {len(again)} of them tried again; {len(slow)} imported", flush=True)
    for mutant, tests in (*again, *slow):
        if not tests or not imported.killed(mutant, tests):
            yield mutant


def explained() -> Mapping[tuple[str, str, str], str]:
    """(path, line as it was, line as it became) -> why no test can tell them apart."""
    if not EXPLAINED.exists():
        return {}
    rows = tomllib.loads(EXPLAINED.read_text("utf-8")).get("mutant", [])
    return {(row["path"], row["was"], row["became"]): row["why"] for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", choices=list(ROOMS))
    parser.add_argument("--sample", type=int, help="so many mutants of each room, drawn with --seed; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="only mutants whose line holds this text")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    _warm()
    known, rows, left = explained(), [], 0
    for room in options.rooms:
        patterns, tests = ROOMS[room]
        files = sorted(path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern))
        start = time.monotonic()
        coverage = measured(files, [test for test in tests if (ROOT / test).exists()])
        every = [mutant for path in files for mutant in mutants(path)]
        if options.only:
            every = [mutant for mutant in every if options.only in mutant.was]
        chosen = every
        if options.sample and options.sample < len(every):
            chosen = random.Random(options.seed).sample(every, options.sample)
        print(f"{room}: {len(chosen)} of {len(every)} mutants; baseline {time.monotonic() - start:.0f} s", flush=True)
        alive = []
        for mutant in survivors([(mutant, coverage.of(mutant)) for mutant in chosen]):
            why = known.get((mutant.path, mutant.was, mutant.became), "")
            alive.append({key: value for key, value in asdict(mutant).items() if key != "source"} | {"why": why})
            if not why:
                print(
                    f"  {mutant.path}:{mutant.line} {mutant.operator}\n    - {mutant.was}\n    + {mutant.became}",
                    flush=True,
                )
        unexplained = sum(not row["why"] for row in alive)
        left += unexplained
        rows.append({"room": room, "mutants": len(every), "run": len(chosen), "survivors": alive,
                     "unexplained": unexplained, "seconds": round(time.monotonic() - start)})  # fmt: skip
        print(f"{room}: {len(chosen)} run, {len(alive)} survive, {unexplained} unexplained, "
              f"{rows[-1]['seconds']} s", flush=True)  # fmt: skip
        if options.out:
            options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 1 if left else 0


def _warm() -> None:
    """What every child needs and no mutant touches is imported once, before the fork."""
    import csv  # noqa: F401

    for name in ("hypothesis", "hypothesis.strategies", "numpy", "pydantic", "typer", "yaml", "pathspec", "rich"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
