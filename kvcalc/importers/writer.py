"""A raw spec -> the YAML that a person would have written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from kvcalc.importers.hf_config import ImportedSpec
from kvcalc.spec.document import Loc

SCHEMA_LINE = "# yaml-language-server: $schema=./model-spec.schema.json"
WIDTH = 118
KEY_ORDER = (
    "name", "hub_id", "aliases", "revision", "model_type", "sources", "notes", "max_position_embeddings",
    "max_source_positions", "dtype", "hidden_size", "vocab_size", "tie_word_embeddings",
)  # fmt: skip
"""What a reader looks for first; `attention`, `ffn`, the layers and `expect` come last."""
LAST = ("attention", "ffn", "layers", "encoder_layers", "mtp_layers", "mtp", "expect")
EXPECT_HINT = """\
# Published figures that this spec must reproduce, each with its source, go here:
# expect:
#   - {quantity: kv_bytes_per_token, value: ..., source: "paper, table"}
"""
_PLAIN = re.compile(r"[A-Za-z][\w./+()-]*( [\w./+()=;'-]+)*", re.ASCII)
_FOLDABLE = re.compile(r"[!-~]+( [!-~]+)*", re.ASCII)
"""Text whose only white space is single blanks: folding its lines loses nothing."""
_COMMAND = re.compile(r"##(?=\[|vso\[)")
"""What GitHub's and Azure's runners obey wherever it stands in a job's log."""
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def to_yaml(imported: ImportedSpec) -> str:
    """A spec file: the schema line, what was taken on whose word, and the figures."""
    head = [
        SCHEMA_LINE,
        f"# Imported from {_one_line(imported.path)} by the rules for {_one_line(imported.family) or 'no family'}",
    ]
    head[1] += f" ({imported.rule})."
    head += [f"# Assumed, not read: {_one_line(line)}" for line in imported.assumed]
    head += [f"# Not in the file: {_one_line(line)}" for line in imported.defaults]
    head += [f"# {_one_line(line)}" for line in imported.notes]
    body = "\n".join(lines(imported.raw, imported.comments))
    hint = "" if "expect" in imported.raw else EXPECT_HINT
    return "\n".join(head) + "\n" + body + "\n" + hint


def lines(raw: Mapping[str, Any], comments: Mapping[Loc, str]) -> Iterator[str]:
    """The mapping, keys in the order a person would use."""
    middle = [key for key in raw if key not in KEY_ORDER and key not in LAST]
    for key in (*KEY_ORDER, *middle, *LAST):
        if key in raw:
            yield from _pair(key, raw[key], "", (key,), comments)


def _pair(key: str, value: Any, indent: str, loc: Loc, comments: Mapping[Loc, str]) -> Iterator[str]:
    """`key: value` on one line where it fits, else as a block."""
    remark = comments.get(loc)
    head = f"{indent}{scalar(key)}:"
    short = f"{head} {flow(value)}"
    if isinstance(value, str) and not indent and len(short) > WIDTH and _FOLDABLE.fullmatch(value):
        yield f"{head} >-"
        yield from wrap(
            value, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        return
    block = isinstance(value, (dict, list)) and bool(value) and (not indent or len(short) > WIDTH)
    if not block:
        beside = f"{short}  # {_one_line(remark)}" if remark else short
        if remark and len(beside) > WIDTH:
            yield f"{indent}# {_one_line(remark)}"
            beside = short
        yield beside
        return
    if remark:
        yield f"{indent}# {_one_line(remark)}"
    if isinstance(value, list) and all(not isinstance(item, (dict, list)) for item in value) and len(short) <= WIDTH:
        yield short
        return
    yield head
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _pair(inner, item, indent + "  ", (*loc, inner), comments)
    else:
        for item in value:
            yield from _item(item, indent + "  ")


def _item(item: Any, indent: str) -> Iterator[str]:
    short = f"{indent}- {flow(item)}"
    nested = isinstance(item, dict) and any(isinstance(v, list) and v and isinstance(v[0], dict) for v in item.values())
    if not isinstance(item, dict) or (len(short) <= WIDTH and not nested):
        yield short
        return
    inner = [line for key, value in item.items() for line in _block(key, value, indent + "  ")]
    yield f"{indent}- {inner[0].strip()}"
    yield from inner[1:]


def _block(key: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        yield f"{indent}{scalar(key)}:"
        for item in value:
            yield from _item(item, indent + "  ")
    else:
        yield f"{indent}{scalar(key)}: {flow(value)}"


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """A scalar that YAML 1.2 (and 1.1) reads back as the same value; what cannot be seen is escaped."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _COMMAND.sub(r"#\\u0023", "".join(map(_visible, json.dumps(value, ensure_ascii=False))))


def _visible(letter: str) -> str:
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"


def _one_line(text: str) -> str:
    """A remark must not end the comment it stands in."""
    return _COMMAND.sub("# #", " ".join("".join(ch if ch.isprintable() else " " for ch in text).split()))
