"""YAML from strangers: any bytes end in plain data with marks, or in Problems with line and column.

PyYAML's own constructor is not used: its C parser overflows the stack on deep nesting, it takes the last of
two equal keys, resolves YAML 1.1 scalars (`no`, `1:30`, `010`) and expands aliases. Here the parse events are
guarded one by one (size, depth, count, no aliases, no tags, no duplicate keys) and scalars are read by the
YAML 1.2 core schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.document import MAX_BYTES, Document, Loc, Mark, line_of, read_bytes

__all__ = ["MAX_BYTES", "Document", "Loc", "Mark", "load_yaml", "read_bytes"]

MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_DIGITS = 40
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_WORDS: Mapping[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def load_yaml(name: str, content: bytes, *, max_nodes: int = MAX_NODES) -> Document:
    """Plain data with marks.

    Raises:
        KvcalcError: anything that is not one small, plain YAML document in UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"not UTF-8: byte 0x{content[error.start]:02x}"
        raise KvcalcError(
            Problem(code="KV001", message=message, path=name, line=line, column=column, help="save it as UTF-8")
        ) from None
    builder = _Builder(name, text, max_nodes)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "nesting depth" in (error.problem or ""):  # newer libyaml looks ahead of the guard: a bound of its own
            builder.fail("KV003", _TOO_DEEP, (mark.line, mark.column) if mark else (0, 0))
        message = " ".join(part for part in (error.context, error.problem) if part) or "not YAML"
        builder.fail("KV002", f"YAML: {message}", (mark.line, mark.column) if mark else (0, 0))
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = (before.count("\n"), len(before) - before.rfind("\n") - 1)
        builder.fail("KV002", f"YAML: character not allowed ({error.reason})", place)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        builder.fail("KV002", f"YAML: {error}", (0, 0))
    if builder.documents == 0 or not builder.started:
        builder.fail("KV002", "empty: no YAML document", (0, 0), "give a mapping such as `name: my-model`")
    return Document(path=name, text=text, data=builder.root, marks=builder.marks, key_marks=builder.key_marks)


def _events(text: str) -> Iterator[Event]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence being read."""

    container: dict[str, Any] | list[Any]
    loc: Loc
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    """Takes parse events and builds plain data, refusing what a spec never needs."""

    name: str
    text: str
    max_nodes: int
    end: tuple[int, int] = (0, 0)
    """Behind the last character of the last line."""
    root: Any = None
    started: bool = False
    documents: int = 0
    nodes: int = 0
    stack: list[_Frame] = field(default_factory=list)
    marks: dict[Loc, Mark] = field(default_factory=dict)
    key_marks: dict[Loc, Mark] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.text.splitlines() or [""]
        self.end = (len(lines) - 1, len(lines[-1]))

    def fail(self, code: str, message: str, place: tuple[int, int], help: str | None = None) -> NoReturn:
        line, column = place
        raise KvcalcError(
            Problem(
                code=code, message=message, path=self.name, line=line + 1, column=column + 1, help=help,
                snippet=line_of(self.text, line + 1),
            )
        )  # fmt: skip

    def take(self, event: Event) -> None:
        mark = event.start_mark
        place = (mark.line, mark.column) if mark else (0, 0)
        if place > self.end:
            place = self.end  # an empty value "after" a file that ends without a line break
        if isinstance(event, NodeEvent):
            self._guard(event, place)
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.fail("KV003", "more than one YAML document", place, "one spec per file: remove the `---`")
        elif isinstance(event, ScalarEvent):
            self._scalar(event, place)
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._open({} if isinstance(event, MappingStartEvent) else [], place)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self.stack.pop()

    def _guard(self, event: NodeEvent, place: tuple[int, int]) -> None:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            self.fail("KV003", f"more than {self.max_nodes:,} nodes", place)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            self.fail("KV003", "anchors and aliases are not allowed", place, "write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            self.fail("KV003", f"tag {str(event.tag)[:60]} is not allowed", place, "write a plain value")  # type: ignore[attr-defined]

    def _open(self, container: dict[str, Any] | list[Any], place: tuple[int, int]) -> None:
        if len(self.stack) >= MAX_DEPTH:
            self.fail("KV003", _TOO_DEEP, place)
        self.stack.append(_Frame(container, self._place(container, place)))

    def _scalar(self, event: ScalarEvent, place: tuple[int, int]) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self._key(frame, event.value, place)
            return
        plain = event.style is None or event.style == ""
        self._place(self._resolve(event.value, place) if plain else event.value, place)

    def _key(self, frame: _Frame, key: str, place: tuple[int, int]) -> None:
        if key in frame.container:
            first = self.key_marks[(*frame.loc, key)]
            self.fail("KV003", f"key {key[:60]!r} stands twice (first on line {first.line})", place, "remove one")
        frame.key = key
        self.key_marks[(*frame.loc, key)] = Mark(place[0] + 1, place[1] + 1)

    def _place(self, value: Any, place: tuple[int, int]) -> Loc:
        loc: Loc = ()
        if not self.stack:
            self.root, self.started = value, True
        else:
            frame = self.stack[-1]
            if isinstance(frame.container, list):
                loc = (*frame.loc, len(frame.container))
                frame.container.append(value)
            elif frame.key is None:
                self.fail("KV003", "a key must be a plain word", place)
            else:
                loc = (*frame.loc, frame.key)
                frame.container[frame.key] = value
                frame.key = None
        self.marks[loc] = Mark(place[0] + 1, place[1] + 1)
        return loc

    def _resolve(self, text: str, place: tuple[int, int]) -> Any:
        """A plain scalar by the YAML 1.2 core schema."""
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                self.fail("KV003", f"an integer of {len(text):,} digits", place)
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text) if len(text) <= 400 else float("inf")
            if number in (float("inf"), float("-inf")):
                self.fail("KV003", "a number too large to hold", place)
            return number
        if _NOT_FINITE.fullmatch(text):
            self.fail("KV003", f"{text} is not a size", place)
        return text
