"""Which files to check: named files, and YAML files of folders that git does not ignore and no setting excludes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvcalc.checks.ignoring import IgnoreSpec, ignore_spec
from kvcalc.checks.settings import Settings
from kvcalc.files import inside_project
from kvcalc.problems import usage_error
from kvcalc.spec.catalog import SPEC_SUFFIXES

_NEVER = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "site-packages", "node_modules", "__pycache__", ".tox", ".nox"}
)
_VENV = "pyvenv.cfg"
"""What marks a virtual environment, whatever its name: what is installed there is not the user's."""


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


def refuse_missing(path: str, what: str) -> None:
    """A path that leads nowhere is a mistake of the caller, not of a file.

    Raises:
        KvcalcError: nothing is there.
    """
    if path != "-" and not os.path.lexists(path):
        raise usage_error(f"{what} {path[:200]!r}: no such file or folder", help="paths are files or folders, or -")


def candidates(paths: Sequence[str], settings: Settings) -> Iterator[Candidate]:
    """Files in the order of their paths, each once, however often it was named.

    What the user names is checked though git ignores it or `exclude` covers it, unless `force_exclude` is set.
    """
    named = {os.path.normpath(path) if path != "-" else path for path in paths}
    found: dict[str, Candidate] = {}
    for path in sorted(named):
        if path != "-" and os.path.isdir(path):
            for inner in _walk(path, settings):
                strange = os.path.islink(inner) and not inside_project(path, inner)
                found.setdefault(_identity(inner), Candidate(inner, named=False, strange=strange))
        elif path == "-" or not (settings.force_exclude and settings.excludes(path)):
            found[_identity(path)] = Candidate(path, named=True)
    yield from sorted(found.values(), key=lambda candidate: candidate.path)


def _identity(path: str) -> str:
    return path if path == "-" else os.path.realpath(path)


def _walk(top: str, settings: Settings) -> Iterator[str]:
    """Regular YAML files below a folder. Links to folders are not followed, as git does not."""
    if settings.excludes(top, is_folder=True):
        if settings.force_exclude:
            return
        settings = replace(settings, exclude=())
    above = _ignores_above(top)
    todo: list[tuple[str, tuple[_Ignore, ...]]] = [(top, () if _ignored(top, True, above) else above)]
    while todo:
        folder, ignores = todo.pop()
        ignores = (*ignores, *_ignores_of(folder))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder  # reading it reports why
            continue
        if folder != top and any(entry.name == _VENV for entry in entries):
            continue
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder and not entry.name.lower().endswith(SPEC_SUFFIXES):
                continue
            path = entry.path[2:] if entry.path.startswith("./") else entry.path
            if (is_folder and entry.name in _NEVER) or settings.excludes(path, is_folder=is_folder):
                continue
            if _ignored(path, is_folder, ignores):
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


def _ignored(path: str, is_folder: bool, ignores: tuple[_Ignore, ...]) -> bool:
    """By git's rules: the nearest .gitignore that says anything of a path decides."""
    whole = os.path.abspath(path)
    for ignore in reversed(ignores):
        relative = os.path.relpath(whole, ignore.folder).replace(os.sep, "/") + ("/" if is_folder else "")
        verdict = ignore.spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False


_IGNORE_FILES = (".git/info/exclude", ".gitignore")
"""Of a folder; the later decides."""


def _ignores_of(folder: str) -> tuple[_Ignore, ...]:
    """What a folder says of the files below it; a link or a pipe says nothing, as for git."""
    return tuple(found for name in _IGNORE_FILES if (found := _ignore(folder, os.path.join(folder, name))))


def _ignore(folder: str, path: str) -> _Ignore | None:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, encoding="utf-8", errors="replace") as lines:
            return _Ignore(os.path.abspath(folder), ignore_spec(lines.read(2**20).splitlines()))
    except (OSError, ValueError):
        return None


def _ignores_above(top: str) -> tuple[_Ignore, ...]:
    """The .gitignore files between the repository's root and this folder (itself not included)."""
    found: list[_Ignore] = []
    folder = Path(top).absolute()
    if (folder / ".git").exists():
        return ()
    for parent in folder.parents:
        found = [*_ignores_of(str(parent)), *found]
        if (parent / ".git").exists():
            return tuple(found)
    return ()
