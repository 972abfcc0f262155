"""What the schema knows of keys: which hold integers, and in which order they stand."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from kvcalc.spec.model import ModelSpec


def key_order(cls: type[Any]) -> tuple[str, ...]:
    """Top-level keys in the order of the dataclass."""
    return tuple(f.name for f in fields(cls))


@cache
def integer_keys() -> frozenset[str]:
    """Keys of a model spec that hold integers (or lists of them), at any depth."""
    found: set[str] = set()
    todo: list[Any] = [ModelSpec]
    seen: set[Any] = set()
    while todo:
        item = todo.pop()
        if is_dataclass(item) and isinstance(item, type):
            if item in seen:
                continue
            seen.add(item)
            hints = get_type_hints(item)
            for name in key_order(item):
                if int in _leaves(hints[name]):
                    found.add(name)
                todo.append(hints[name])
        else:
            todo += get_args(item)
    return frozenset(found)


def _leaves(hint: Any) -> tuple[Any, ...]:
    """The plain types of a hint, unions, tuples and Annotated opened."""
    if get_origin(hint) is Annotated:
        return _leaves(get_args(hint)[0])
    arguments = get_args(hint)
    return tuple(leaf for part in arguments for leaf in _leaves(part)) if arguments else (hint,)
