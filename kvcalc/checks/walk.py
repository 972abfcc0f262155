"""Which files to check: named files, and YAML files of folders that git does not ignore."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvcalc.checks.ignoring import IgnoreSpec, ignore_spec
from kvcalc.checks.settings import Settings
from kvcalc.files import inside_project
from kvcalc.spec.catalog import SPEC_SUFFIXES

_NEVER = frozenset({".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to check; `named` where the user asked for this very file, `strange` where it is another project's."""

    path: str
    named: bool
    strange: bool = False


@dataclass(frozen=True, slots=True)
class _Ignore:
    """One .gitignore and the folder whose files it speaks of."""

    folder: str
    spec: IgnoreSpec


def candidates(paths: Sequence[str], settings: Settings) -> Iterator[Candidate]:
    """Files in the order of their paths, each once, however often it was named."""
    named = {os.path.normpath(path) if path != "-" else path for path in paths}
    found: dict[str, Candidate] = {}
    for path in sorted(named):
        if path != "-" and os.path.isdir(path):
            for inner in _walk(path, settings):
                strange = os.path.islink(inner) and not inside_project(path, inner)
                found.setdefault(_identity(inner), Candidate(inner, named=False, strange=strange))
        else:
            found[_identity(path)] = Candidate(path, named=True)
    yield from sorted(found.values(), key=lambda candidate: candidate.path)


def _identity(path: str) -> str:
    return path if path == "-" else os.path.realpath(path)


def _walk(top: str, settings: Settings) -> Iterator[str]:
    """Regular YAML files below a folder. Links to folders are not followed, as git does not."""
    todo: list[tuple[str, tuple[_Ignore, ...]]] = [(top, _ignores_above(top))]
    while todo:
        folder, ignores = todo.pop()
        ignores = (*ignores, *_ignore_of(folder))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder  # reading it reports why
            continue
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder and not entry.name.lower().endswith(SPEC_SUFFIXES):
                continue
            path = entry.path[2:] if entry.path.startswith("./") else entry.path
            if (is_folder and entry.name in _NEVER) or _ignored(path, is_folder, ignores, settings):
                continue
            if is_folder:
                todo.append((path, ignores))
            elif _worth_reading(path):
                yield path


def _worth_reading(path: str) -> bool:
    """Whether this is a file; a link that leads nowhere, or round in a circle, is read so that it is reported."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _ignored(path: str, is_folder: bool, ignores: tuple[_Ignore, ...], settings: Settings) -> bool:
    """By git's rules: the nearest .gitignore that says anything of a path decides."""
    suffix = "/" if is_folder else ""
    if settings.exclude and settings.excluded.match_file(settings.relative(path) + suffix):
        return True
    whole = os.path.abspath(path)
    for ignore in reversed(ignores):
        verdict = ignore.spec.check_file(os.path.relpath(whole, ignore.folder).replace(os.sep, "/") + suffix).include
        if verdict is not None:
            return verdict
    return False


def _ignore_of(folder: str) -> tuple[_Ignore, ...]:
    """The .gitignore of a folder; a link or a pipe of that name is none, as for git."""
    path = os.path.join(folder, ".gitignore")
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return ()
        with open(path, encoding="utf-8", errors="replace") as lines:
            return (_Ignore(os.path.abspath(folder), ignore_spec(lines.read(2**20).splitlines())),)
    except (OSError, ValueError):
        return ()


def _ignores_above(top: str) -> tuple[_Ignore, ...]:
    """The .gitignore files between the repository's root and this folder (itself not included)."""
    found: list[_Ignore] = []
    folder = Path(top).absolute()
    if (folder / ".git").exists():
        return ()
    for parent in folder.parents:
        found = [*_ignore_of(str(parent)), *found]
        if (parent / ".git").exists():
            return tuple(found)
    return ()
