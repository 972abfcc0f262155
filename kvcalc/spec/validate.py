"""The boundary: raw data from a stranger -> a validated dataclass, or Problems with their places.

The only module (with schema.py) that imports pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from kvcalc.problems import KvcalcError, Problem, did_you_mean
from kvcalc.spec.document import Document, Loc
from kvcalc.spec.model import MAX_FAULTS, ModelSpec, contradictions
from kvcalc.spec.yamlio import load_yaml

T = TypeVar("T")


@cache
def adapter(cls: type[T]) -> TypeAdapter[T]:
    """pydantic's view of a dataclass of ours."""
    return TypeAdapter(cls)


def load_model(name: str, content: bytes) -> tuple[ModelSpec, Document]:
    """A model spec from bytes.

    Raises:
        KvcalcError: every Problem found, with line and column.
    """
    document = load_yaml(name, content)
    return validate_model(document), document


def validate_model(document: Document) -> ModelSpec:
    """The spec a document describes; geometry that contradicts itself is refused (KV101)."""
    spec = validate(ModelSpec, document)
    found = islice(contradictions(spec), MAX_FAULTS)
    faults = [document.problem("KV101", loc, message, help=hint) for loc, message, hint in found]
    if faults:
        raise KvcalcError(*faults)
    return spec


def validate(cls: type[T], document: Document) -> T:
    """`document.data` as `cls`: strict types, bounds, no unknown keys."""
    if not isinstance(document.data, dict):
        raise KvcalcError(
            document.problem(
                "KV012", (), f"expected a mapping, got {_shown(document.data)}", help="as in `name: my-model`"
            )
        )
    try:
        validated: T = adapter(cls).validate_json(json.dumps(document.data))  # type: ignore[arg-type]
        return validated
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors(include_url=False)]
        faults = [detail for detail in details if not _echo(document, detail)] or details
        problems = [_problem(document, detail, cls) for detail in _merged(document, faults)[:MAX_FAULTS]]
    unique = {(p.line, p.column, p.code, p.message): p for p in problems}
    raise KvcalcError(*sorted(unique.values(), key=lambda p: (p.line or 0, p.column or 0, p.code, p.message)))


def _echo(document: Document, detail: Mapping[str, Any]) -> bool:
    """Whether a fault only repeats what another says better.

    A list whose items are refused is also reported as too short, and, where a name would do as well, as no string.
    """
    if detail["type"] == "too_short":
        return bool(detail["input"])
    _, branch = _walk(document.data, detail["loc"])
    return detail["type"] == "string_type" and isinstance(detail["input"], list) and bool(branch)


_WANTED = {
    "int_type": "an integer", "int_from_float": "an integer", "string_type": "a string", "bool_type": "true or false",
    "tuple_type": "a list", "dict_type": "a mapping", "dataclass_type": "a mapping", "mapping_type": "a mapping",
    "float_type": "a number",
}  # fmt: skip
"""Fault of a type -> what was expected."""


def _merged(document: Document, faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One fault per value that is of none of several types: pydantic reports each branch of a union."""
    found: list[dict[str, Any]] = []
    first: dict[Loc, dict[str, Any]] = {}
    for detail in faults:
        wanted, (loc, _) = _WANTED.get(detail["type"]), _walk(document.data, detail["loc"])
        if wanted is None:
            found.append(detail)
        elif loc not in first:
            first[loc] = {**detail, "wanted": [wanted]}
            found.append(first[loc])
        elif wanted not in first[loc]["wanted"]:
            first[loc]["wanted"].append(wanted)
    return found


def _problem(document: Document, detail: Mapping[str, Any], cls: type) -> Problem:
    kind, context = str(detail["type"]), detail.get("ctx") or {}
    loc, rest = _walk(document.data, detail["loc"])
    value = document.at(loc)
    last = str(loc[-1])[:60] if loc else ""
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return document.problem("KV010", loc, f"unknown key {last!r}", help=_near_key(cls, last), key=True)
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return document.problem("KV011", loc, missing_key(str(rest[-1])))
    if kind == "union_tag_invalid":
        tags = str(context.get("expected_tags", "")).replace("'", "")
        wrong = str(context.get("tag", ""))
        known = did_you_mean(wrong, tags.split(", ")) or f"kinds: {tags}"
        return document.problem("KV014", (*loc, "kind"), f"unknown kind {wrong[:60]!r}", help=known)
    if kind == "union_tag_not_found":
        return document.problem("KV014", loc, "missing key 'kind'", help="as in `kind: full`; see `kvcalc list kinds`")
    if kind == "kvcalc_type":
        message = f"{last}: expected {detail['msg']}, got {_shown(value)}"
        return document.problem("KV012", loc, message, help=context.get("help"))
    if kind == "kvcalc_value":
        return document.problem("KV013", loc, f"{last}: {detail['msg']}", help=context.get("help"))
    bounds = {
        "greater_than_equal": "at least {ge}", "less_than_equal": "at most {le}",
        "too_short": "of at least {min_length} entries", "too_long": "of at most {max_length} entries",
        "string_too_short": "at least {min_length} characters long",
        "string_too_long": "at most {max_length} characters long", "literal_error": "one of {expected}",
    }  # fmt: skip
    if kind in bounds:
        return document.problem("KV013", loc, f"{last}: must be {bounds[kind].format(**context)}, got {_shown(value)}")
    if "wanted" in detail:
        wanted = " or ".join(detail["wanted"])
        hint = "write the number out: no suffix, no quotes" if wanted == "an integer" else None
        return document.problem("KV012", loc, f"{last}: expected {wanted}, got {_shown(value)}", help=hint)
    return document.problem("KV012", loc, f"{last}: {detail['msg']}")


def missing_key(name: str) -> str:
    """The message of KV011."""
    return f"missing key {name!r}"


def _walk(data: Any, loc: tuple[str | int, ...]) -> tuple[Loc, Loc]:
    """pydantic's `loc` as keys of the data, and what of it is not there (union tags are skipped)."""
    found: list[str | int] = []
    rest: list[str | int] = []
    for part in loc:
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
            found.append(part)
        else:
            rest.append(part)
    return tuple(found), tuple(rest)


def _shown(value: Any) -> str:
    """A value for a message, bounded."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)[:60]


def _near_key(cls: type, word: str) -> str | None:
    """Did-you-mean over every other key of the schema below `cls`: the word itself may be one, elsewhere."""
    return did_you_mean(word, sorted(known_keys(cls) - {word}))


@cache
def known_keys(cls: type) -> frozenset[str]:
    """Every key of the schema below `cls`, at any depth."""
    found: set[str] = set()
    todo: list[Any] = [cls]
    seen: set[Any] = set()
    while todo:
        item = todo.pop()
        if is_dataclass(item) and item not in seen:
            seen.add(item)
            found |= {f.name for f in fields(item)}
            todo += get_type_hints(item).values()
        else:
            todo += getattr(item, "__args__", ())
    return frozenset(found)
