"""JSON Schemas (draft-07) of what users write, generated from the dataclasses, for editors and other tools."""

from __future__ import annotations

import json
from typing import Any

from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import adapter

DRAFT = "http://json-schema.org/draft-07/schema#"


def schema_of(cls: type, title: str) -> dict[str, Any]:
    """The JSON Schema of a dataclass of ours, as draft-07."""
    schema = adapter(cls).json_schema(ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    for definition in definitions.values():
        # A kind's name has a default in Python, but a spec must state it.
        if "const" in definition.get("properties", {}).get("kind", {}):
            definition["required"] = ["kind", *definition.get("required", [])]
    body = {"$schema": DRAFT, "title": title, **{k: v for k, v in schema.items() if k != "title"}}
    return {**body, "definitions": definitions} if definitions else body


def model_schema() -> dict[str, Any]:
    """Of a model spec."""
    return schema_of(ModelSpec, "kvcalc model spec")


def hardware_schema() -> dict[str, Any]:
    """Of an accelerator."""
    return schema_of(HardwareSpec, "kvcalc hardware spec")


def schema_text(schema: dict[str, Any]) -> str:
    """As it is committed: stable and readable."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
