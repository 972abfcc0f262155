"""Trusted raw data -> our dataclasses, without pydantic: for shipped specs, which CI has validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def build(cls: type[T], raw: Mapping[str, Any]) -> T:
    """An instance of `cls` from data that its schema has already accepted."""
    hints = _hints(cls)  # type: ignore[arg-type]
    return cls(**{key: _value(hints[key], value) for key, value in raw.items()})


def _value(hint: Any, raw: Any) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, raw)
    if isinstance(raw, dict):
        return _mapping(hint, raw)
    if isinstance(raw, list):
        item = next((get_args(m)[0] for m in _members(hint) if get_origin(m) is tuple), str)
        return tuple(_value(item, part) for part in raw)
    return raw


def _mapping(hint: Any, raw: dict[str, Any]) -> Any:
    """A mapping of names, or the member of a union that its `kind` names."""
    for member in _members(hint):
        if isinstance(member, type) and is_dataclass(member):
            kind = {f.name: f.default for f in fields(member)}.get("kind")
            if "kind" not in raw or kind is MISSING or raw["kind"] == kind:
                return build(member, raw)
        elif len(get_args(member)) == 2:
            return {key: _value(get_args(member)[1], value) for key, value in raw.items()}
    return raw


def _members(hint: Any) -> tuple[Any, ...]:
    origin = get_origin(hint)
    is_union = origin is Union or type(hint).__name__ == "UnionType"
    return get_args(hint) if is_union else (hint,)
