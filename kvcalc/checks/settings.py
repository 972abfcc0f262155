"""Settings of `kvcalc check`: `kvcalc.toml`, or `[tool.kvcalc]` in pyproject.toml; flags win over them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import pathspec

from kvcalc.problems import KvcalcError, Problem, did_you_mean

FILES = ("kvcalc.toml", "pyproject.toml")
_PLACE = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """What is checked, and what is let pass. Codes may be prefixes (`KV3`) or `ALL`."""

    root: Path = field(default_factory=Path.cwd)
    """Patterns are relative to it: the folder of the settings file."""
    select: tuple[str, ...] = ()
    """Only these; empty: every rule that is on by default."""
    extend_select: tuple[str, ...] = ()
    """These as well."""
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Patterns, as in .gitignore, of files and folders that are passed over in folders."""
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    against: str | None = None

    @cached_property
    def excluded(self) -> pathspec.PathSpec[Any]:
        return pathspec.GitIgnoreSpec.from_lines(self.exclude)

    @cached_property
    def ignored_patterns(self) -> tuple[tuple[pathspec.PathSpec[Any], tuple[str, ...]], ...]:
        return tuple(
            (pathspec.GitIgnoreSpec.from_lines([pattern]), codes) for pattern, codes in self.per_file_ignores.items()
        )

    def ignored_for(self, path: str) -> tuple[str, ...]:
        """Codes that are let pass in this file."""
        return _ignored_for(self, path) if self.per_file_ignores else ()

    def relative(self, path: str) -> str:
        """The path as patterns see it."""
        whole = Path(path).absolute()
        try:
            return whole.relative_to(self.root).as_posix()
        except ValueError:
            return whole.as_posix()


@lru_cache(maxsize=4)
def _ignored_for(settings: Settings, path: str) -> tuple[str, ...]:
    relative = settings.relative(path)
    return tuple(code for spec, codes in settings.ignored_patterns if spec.match_file(relative) for code in codes)


def find_settings(start: Path) -> Settings:
    """The nearest settings at or above `start`; defaults where there are none.

    Raises:
        KvcalcError: a settings file that does not hold (KV903).
    """
    for folder in (start, *start.parents):
        for name in FILES:
            path = folder / name
            if path.is_file():
                table = _table(path, required=name == "kvcalc.toml")
                if table is not None:
                    return _settings(path, table)
    return Settings(root=start)


def read_settings(path: Path) -> Settings:
    """The settings of a file that was named.

    Raises:
        KvcalcError: not readable, or it does not hold (KV903).
    """
    table = _table(path, required=True)
    return _settings(path, table or {})


def _table(path: Path, *, required: bool) -> Mapping[str, Any] | None:
    """The settings of a file; None where a pyproject.toml has none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = tomllib.loads(text)
    except OSError as error:
        _fail(path, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        _fail(path, "not UTF-8")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = _PLACE.search(str(error))
        if not required and "kvcalc" not in text:
            return None  # somebody else's pyproject.toml: not ours to judge
        line, column = (int(place[1] or 1), int(place[2] or 1)) if place else (1, 1)
        _fail(path, f"not TOML: {_PLACE.sub('', str(error))}", line=line, column=column)
    if path.name != "pyproject.toml":
        return data
    tool = data.get("tool")
    found = tool.get("kvcalc") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else ({} if required else None)


def _fail(path: Path, message: str, *, key: str | None = None, help: str | None = None, line: int | None = None,
          column: int | None = None) -> NoReturn:  # fmt: skip
    if key is not None and line is None:
        line, column = _line_of(path, key)
    raise KvcalcError(Problem(code="KV903", message=message, path=str(path), line=line, column=column, help=help))


def _line_of(path: Path, key: str) -> tuple[int, int]:
    """Where a key stands, by its text: tomllib keeps no places."""
    wanted = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if wanted.match(line):
            return number, len(line) - len(line.lstrip()) + 1
    return 1, 1


def _settings(path: Path, table: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        read = _READERS.get(key)
        if read is None:
            near = did_you_mean(key, _READERS)
            _fail(path, f"unknown setting {key[:60]!r}", key=key, help=near or f"settings: {', '.join(_READERS)}")
        values[key.replace("-", "_")] = read(path, key, value)
    return Settings(root=path.absolute().parent, **values)


def _words(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        _fail(path, f"{key}: expected a list of texts", key=key, help=f'as in `{key} = ["..."]`')
    return tuple(value)


def _codes(path: Path, key: str, value: Any) -> tuple[str, ...]:
    from kvcalc.checks.table import parse_codes

    words = _words(path, key, value)
    try:
        return parse_codes(words)
    except KvcalcError as error:
        problem = error.problems[0]
        _fail(path, f"{key}: {problem.message}", key=key, help=problem.help)


def _per_file(path: Path, key: str, value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        _fail(path, f"{key}: expected a table of patterns", key=key, help='as in `"specs/*.yaml" = ["KV3"]`')
    return {pattern: _codes(path, pattern, codes) for pattern, codes in value.items()}


def _path(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str):
        _fail(path, f"{key}: expected the path of a file or folder", key=key)
    return str(path.absolute().parent / value)


_READERS: Mapping[str, Callable[[Path, str, Any], Any]] = {
    "select": _codes,
    "extend-select": _codes,
    "ignore": _codes,
    "exclude": _words,
    "per-file-ignores": _per_file,
    "against": _path,
}


def merged(codes: Sequence[str]) -> tuple[str, ...]:
    """`--select KV1,KV2 --select KV3` as codes."""
    return tuple(word.strip() for code in codes for word in code.split(",") if word.strip())
