"""Settings of `kvcalc check`: `kvcalc.toml`, or `[tool.kvcalc]` in pyproject.toml; flags win over them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from os.path import abspath
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kvcalc.checks.ignoring import IgnoreSpec, check_pattern, ignore_spec
from kvcalc.files import inside_project
from kvcalc.problems import KvcalcError, Problem, did_you_mean
from kvcalc.spec.document import MAX_BYTES

FILES = ("kvcalc.toml", "pyproject.toml")
MAX_ENTRIES = 1_000
"""Of one list or table: each pattern is compiled, and tried on every file."""
_DEEP_KEY = re.compile(r"""(?:(?<![\w-])(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""", re.ASCII)
"""tomllib's memory grows with the square of a dotted key's parts: 20,000 of them take 2 GiB."""
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
    force_exclude: bool = False
    """Whether `exclude` holds for named files and folders as well: a hook names every file that it is given."""
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    against: str | None = None

    @cached_property
    def excluded(self) -> IgnoreSpec:
        return ignore_spec(self.exclude)

    @cached_property
    def ignored_patterns(self) -> tuple[tuple[IgnoreSpec, tuple[str, ...]], ...]:
        return tuple((ignore_spec([pattern]), codes) for pattern, codes in self.per_file_ignores.items())

    def ignored_for(self, path: str) -> tuple[str, ...]:
        """Codes that are let pass in this file."""
        return _ignored_for(self, path) if self.per_file_ignores else ()

    def excludes(self, path: str, *, is_folder: bool = False) -> bool:
        """Whether `exclude` covers it."""
        return bool(self.exclude) and self.excluded.match_file(self.relative(path) + ("/" if is_folder else ""))

    def relative(self, path: str) -> str:
        """The path as patterns see it."""
        whole = Path(abspath(path))
        try:
            return whole.relative_to(self.root).as_posix()
        except ValueError:
            return whole.as_posix()


@lru_cache(maxsize=4)
def _ignored_for(settings: Settings, path: str) -> tuple[str, ...]:
    relative = settings.relative(path)
    return tuple(code for spec, codes in settings.ignored_patterns if spec.match_file(relative) for code in codes)


class _Source(NamedTuple):
    """A settings file, read once."""

    path: Path
    text: str


def settings_for(config: str | None, *, isolated: bool = False) -> Settings:
    """Those of a named file, or else the nearest at or above the working directory; `isolated`: of no file.

    Raises:
        KvcalcError: as `find_settings`.
    """
    if isolated:
        return Settings()
    return find_settings(Path.cwd()) if config is None else read_settings(Path(config))


def find_settings(start: Path) -> Settings:
    """The nearest settings at or above `start`; defaults where there are none.

    Raises:
        KvcalcError: a settings file that does not hold (KV903).
    """
    for folder in (start, *start.parents):
        for name in FILES:
            path = folder / name
            if path.is_file():
                source = _read(path)
                table = _table(source, required=name == "kvcalc.toml")
                if table is not None:
                    return _settings(source, table)
    return Settings(root=start)


def read_settings(path: Path) -> Settings:
    """The settings of a file that was named.

    Raises:
        KvcalcError: not readable, or it does not hold (KV903).
    """
    source = _read(path)
    return _settings(source, _table(source, required=True) or {})


def _read(path: Path) -> _Source:
    """The text of a settings file, bounded as a spec is."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            _fail(_Source(path, ""), f"larger than {MAX_BYTES:,} bytes: no settings are")
        return _Source(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        _fail(_Source(path, ""), "not UTF-8")
    except (OSError, ValueError) as error:
        _fail(_Source(path, ""), f"cannot be read: {getattr(error, 'strerror', None) or 'no file name'}")


def _table(source: _Source, *, required: bool) -> Mapping[str, Any] | None:
    """The settings of a file; None where a pyproject.toml has none."""
    try:
        if deep := _DEEP_KEY.search(source.text):
            line = source.text.count("\n", 0, deep.start()) + 1
            raise ValueError(f"a key of a hundred parts (at line {line}, column 1)")
        data = tomllib.loads(source.text)
    except (ValueError, RecursionError) as error:  # numbers of too many digits are no TOMLDecodeError
        place = _PLACE.search(str(error))
        if not required and "kvcalc" not in source.text:
            return None  # somebody else's pyproject.toml: not ours to judge
        line, column = (int(place[1] or 1), int(place[2] or 1)) if place else (1, 1)
        _fail(source, f"not TOML: {_PLACE.sub('', str(error))}", line=line, column=column)
    if source.path.name != "pyproject.toml":
        return data
    tool = data.get("tool")
    found = tool.get("kvcalc") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else ({} if required else None)


def _fail(source: _Source, message: str, *, key: str | None = None, help: str | None = None, line: int | None = None,
          column: int | None = None) -> NoReturn:  # fmt: skip
    if key is not None and line is None:
        line, column = _line_of(source.text, key)
    path = str(source.path)
    raise KvcalcError(Problem(code="KV903", message=message, path=path, line=line, column=column, help=help))


def _line_of(text: str, key: str) -> tuple[int, int]:
    """Where a key stands, by its text: tomllib keeps no places."""
    wanted = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if wanted.match(line):
            return number, len(line) - len(line.lstrip()) + 1
    return 1, 1


def _settings(source: _Source, table: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        read = _READERS.get(key)
        if read is None:
            near = did_you_mean(key, _READERS)
            _fail(source, f"unknown setting {key[:60]!r}", key=key, help=near or f"settings: {', '.join(_READERS)}")
        values[key.replace("-", "_")] = read(source, key, value)
    return Settings(root=source.path.absolute().parent, **values)


def _words(source: _Source, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        written = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key)
        _fail(source, f"{key}: expected a list of texts", key=key, help=f'as in `{written} = ["..."]`')
    _refuse_many(source, key, value)
    return tuple(value)


def _refuse_many(source: _Source, key: str, entries: Sized) -> None:
    if len(entries) > MAX_ENTRIES:
        _fail(source, f"{key}: {len(entries):,} entries, more than {MAX_ENTRIES:,}", key=key)


def _codes(source: _Source, key: str, value: Any) -> tuple[str, ...]:
    from kvcalc.checks.table import parse_codes

    words = _words(source, key, value)
    try:
        return parse_codes(words)
    except KvcalcError as error:
        problem = error.problems[0]
        _fail(source, f"{key}: {problem.message}", key=key, help=problem.help)


def _patterns(source: _Source, key: str, value: Any) -> tuple[str, ...]:
    """Patterns as in .gitignore."""
    words = _words(source, key, value)
    for word in words:
        _pattern(source, key, word)
    return words


def _pattern(source: _Source, key: str, word: str) -> None:
    try:
        check_pattern(word)
    except KvcalcError as error:
        _fail(source, f"{key}: {error.problems[0].message}", key=key, help=error.problems[0].help)


def _per_file(source: _Source, key: str, value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        _fail(source, f"{key}: expected a table of patterns", key=key, help='as in `"specs/*.yaml" = ["KV3"]`')
    _refuse_many(source, key, value)
    for pattern in value:
        _pattern(source, key, pattern)
    return {pattern: _codes(source, pattern, codes) for pattern, codes in value.items()}


def _switch(source: _Source, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _fail(source, f"{key}: expected true or false", key=key)
    return value


def _path(source: _Source, key: str, value: Any) -> str:
    if not isinstance(value, str):
        _fail(source, f"{key}: expected the path of a file or folder", key=key)
    folder = source.path.absolute().parent
    if not inside_project(str(folder), str(folder / value)):
        hint = "settings name files of their own project; --against may name any"
        _fail(source, f"{key}: {value[:100]!r} lies outside the project", key=key, help=hint)
    return str(folder / value)


_READERS: Mapping[str, Callable[[_Source, str, Any], Any]] = {
    "select": _codes,
    "extend-select": _codes,
    "ignore": _codes,
    "exclude": _patterns,
    "force-exclude": _switch,
    "per-file-ignores": _per_file,
    "against": _path,
}


def merged(codes: Sequence[str]) -> tuple[str, ...]:
    """`--select KV1,KV2 --select KV3` as codes."""
    return tuple(word.strip() for code in codes for word in code.split(",") if word.strip())
