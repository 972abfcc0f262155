"""Other people's files -> an imported spec: config.json (or a folder with one), GGUF, or a hub id."""

from __future__ import annotations

import re
from dataclasses import replace
from os.path import exists, isdir
from pathlib import Path

from kvcalc.importers.config import MAX_CONFIG
from kvcalc.importers.hf_config import ImportedSpec, read_document, spec_name
from kvcalc.importers.writer import to_yaml
from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.document import Document, read_bytes
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.yamlio import load_yaml

MAX_JSON_NODES = 400_000
"""Configs with long quantisation ignore-lists hold far more nodes than a spec."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def json_document(name: str, content: bytes) -> Document:
    """A JSON file with marks, under the same guard as specs (size, depth, equal keys, huge numbers).

    JSON is a subset of YAML but for tabs between tokens and surrogate escapes, neither of which carries a figure.

    Raises:
        KvcalcError: not one small JSON object in UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return load_yaml(name, content)
    text = _SURROGATE.sub(r"\\ufffd", text.replace("\t", " "))
    return load_yaml(name, text.encode("utf-8"), max_nodes=MAX_JSON_NODES)


def load_config(path: str, *, assume: str | None = None) -> ImportedSpec:
    """A config.json, a folder that holds one, or `-` for standard input.

    Raises:
        KvcalcError: unreadable, malformed, or refused.
    """
    if path != "-" and isdir(path):
        inner = Path(path) / "config.json"
        if not inner.is_file():
            message = f"{path[:200]} holds no config.json"
            raise KvcalcError(Problem(code="KV001", message=message, path=path, help="name a config.json or a .gguf"))
        path = str(inner)
    name, content = read_bytes(path, MAX_CONFIG)
    return read_document(json_document(name, content), assume=assume, name=spec_name(str(Path(name).absolute())))


def load_foreign(model: str, *, assume: str | None = None, hub: bool = False) -> ImportedSpec:
    """A config.json, a folder with one, a .gguf, or (with `hub`) `org/name` on the Hugging Face hub.

    Args:
        assume: see `hf_config.ASSUMPTIONS`.

    Raises:
        KvcalcError: unreadable, malformed, unknown, or refused.
    """
    if model.lower().endswith(".gguf"):
        from kvcalc.importers.gguf import load_gguf

        return load_gguf(model)
    if hub and not exists(model):
        from kvcalc.importers.hub import fetch_config

        path = fetch_config(model)
        _, content = read_bytes(str(path), MAX_CONFIG)
        found = read_document(json_document(f"{model}/config.json", content), assume=assume, name=spec_name(model))
        return replace(found, raw={**found.raw, "hub_id": model})
    return load_config(model, assume=assume)


def spec_of(imported: ImportedSpec) -> ModelSpec:
    """The validated spec: through the YAML that `import` writes, so that both give the same figures.

    Raises:
        KvcalcError: figures that contradict each other.
    """
    from kvcalc.spec.validate import validate_model

    try:
        return validate_model(load_yaml(imported.path, to_yaml(imported).encode("utf-8")))
    except KvcalcError as error:
        # The marks are those of the written YAML, not of the file that was read.
        raise KvcalcError(
            *(Problem(code=p.code, message=p.message, path=imported.path, help=p.help) for p in error.problems)
        ) from None
