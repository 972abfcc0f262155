"""One mutant against its tests, in a process of its own that sees the changed code; nothing on disk changes."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import pickle
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import quick
from changes import Mutant
from core_rooms import ROOT

CPU_SECONDS = 30
"""Of one process: an endless loop is a kill."""
MEMORY = 2 * 2**30
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "--no-header")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a test told the mutant from the code as it is, and which."""

    killed: bool
    by: str = ""
    """The test; or `import`, `time or memory`."""
    how: str = ""
    """The exception's type."""


SURVIVES = Verdict(killed=False)


def apart(work: Callable[[], Verdict]) -> Verdict:
    """The work's verdict, from a forked process; an end by the limits is a kill.

    Raises:
        RuntimeError: the process ended without a verdict: a fault of this harness.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.write(write, pickle.dumps(work()))
            code = 0
        except BaseException:
            os.write(write, pickle.dumps(traceback.format_exc()))
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read()
    status = os.waitpid(child, 0)[1]
    verdict = pickle.loads(answer) if answer else None
    if isinstance(verdict, Verdict):
        return verdict
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return Verdict(killed=True, by="time or memory")
    raise RuntimeError(f"a process ended without a verdict (status {status})\n{verdict or ''}")


@dataclass(eq=False)
class Watch:
    """The first failure of a pytest session, or all."""

    failures: list[Verdict] = field(default_factory=list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        report = yield
        if report.failed and call.excinfo is not None:
            self.failures.append(Verdict(killed=True, by=item.nodeid, how=call.excinfo.typename))
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failures.append(Verdict(killed=True, by="import", how=str(report.longrepr).strip()[-200:]))

    @property
    def verdict(self) -> Verdict:
        return self.failures[0] if self.failures else SURVIVES


@dataclass(frozen=True, eq=False)
class Chosen:
    """Runs these tests, in this order; a case whose name the mutant has changed stands where its function does."""

    tests: Sequence[str]
    known: Container[str]
    """All tests of the code as it is."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {test: index for index, test in enumerate(self.tests)}
        functions = {test.partition("[")[0]: index for test, index in place.items()}
        for item in items:
            if item.nodeid not in self.known and (function := item.nodeid.partition("[")[0]) in functions:
                place[item.nodeid] = functions[function]
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])


class Imported:
    """A mutant in a fresh import of everything: file by file, first those that have killed most."""

    def __init__(self, known: Container[str]) -> None:
        self.known = known
        self.kills: Counter[str] = Counter()
        self.sound: dict[str, Verdict] = {}

    def try_out(self, mutant: Mutant, tests: Sequence[str]) -> Verdict:
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(test.partition("::")[0], []).append(test)
        for file in sorted(by_file, key=lambda name: -self.kills[name]):
            verdict = apart(partial(self._run, mutant, file, by_file[file]))
            if verdict.killed and self._is_sound(verdict.by, mutant):
                self.kills[file] += 1
                return verdict
        return SURVIVES

    def _is_sound(self, test: str, mutant: Mutant) -> bool:
        """Whether the test passes in this harness on the code as it is."""
        if "::" not in test:
            return True
        if test not in self.sound:
            source = (ROOT / mutant.path).read_text("utf-8")
            unchanged = Mutant(path=mutant.path, line=0, operator="", was="", became="", source=source)
            self.sound[test] = apart(partial(self._run, unchanged, test.partition("::")[0], [test]))
        return not self.sound[test].killed

    def _run(self, mutant: Mutant, file: str, tests: Sequence[str]) -> Verdict:
        sys.meta_path.insert(0, _Changed(mutant))
        sys.dont_write_bytecode = True
        watch = Watch()
        code = pytest.main([file, "-x", *OPTIONS], plugins=[quick, Chosen(tests, self.known), watch])
        # No test left: the change took its parameters away, and none has failed.
        if not watch.failures and code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"pytest ended with {code}")
        return watch.verdict


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Gives the changed source for one module, and leaves all others alone."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.path, self.source = mutant.module, str(ROOT / mutant.path), mutant.source

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


@dataclass(eq=False)
class Patched:
    """Mutants of function bodies, in one process that has imported and collected everything: code objects are swapped.

    Quick, and nearly right: what survives here is tried again in a fresh import. A test that fails here on the code
    as it is kills nothing.
    """

    chosen: Sequence[tuple[Mutant, Sequence[str]]]
    seconds: Mapping[str, float]
    out: Path
    sound: dict[str, bool] = field(default_factory=dict)
    """Whether a test that has killed passes here on the code as it is."""
    kills: Counter[str] = field(default_factory=Counter)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        with self.out.open("wb") as out:
            for mutant, tests in self.chosen:
                pickle.dump(self._try_out(session, mutant, [items[test] for test in tests if test in items]), out)
                out.flush()
        return True

    def _try_out(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> Verdict:
        while True:
            mine = [item for item in items if self.sound.get(item.nodeid, True)]
            mine.sort(key=lambda item: -self.kills[item.nodeid] / (0.05 + self.seconds.get(item.nodeid, 0.0)))
            try:
                verdict = apart(partial(self._run, session, mutant, mine))
            except RuntimeError:
                return SURVIVES  # could not be swapped
            self.kills[verdict.by] += 1
            killer = [item for item in mine if item.nodeid == verdict.by and item.nodeid not in self.sound]
            if not killer:
                return verdict
            self.sound[verdict.by] = not apart(partial(self._run, session, None, killer)).killed
            if self.sound[verdict.by]:
                return verdict

    def _run(self, session: pytest.Session, mutant: Mutant | None, items: list[pytest.Item]) -> Verdict:
        if mutant is not None:
            swap(mutant.module, str(ROOT / mutant.path), mutant.source)
        watch = Watch()
        session.config.pluginmanager.register(watch)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if watch.failures:
                return watch.verdict
        return SURVIVES


def patched(chosen: Sequence[tuple[Mutant, Sequence[str]]], seconds: Mapping[str, float], out: Path) -> list[Verdict]:
    """A verdict for each of the first mutants; fewer than there are where the process broke off."""
    files = sorted({test.partition("::")[0] for _, tests in chosen for test in tests})
    if not files:
        return []
    out.touch()
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            pytest.main([*files, *OPTIONS], plugins=[quick, Patched(chosen, seconds, out)])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found: list[Any] = []
    with out.open("rb") as answers:
        try:
            while True:
                found.append(pickle.load(answers))
        except EOFError:
            pass
    return found


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
