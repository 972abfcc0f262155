"""JSON Schemas (draft-07) of what users write and of what commands print, generated from the dataclasses."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ConfigDict, TypeAdapter

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


def output_schema(cls: type) -> dict[str, Any]:
    """The form of a frozen report as JSON (see render.machine.plain): its fields alone, further ones allowed."""
    # A config of its own, which nested dataclasses inherit, makes the strings below fields their descriptions.
    settings: ConfigDict = {"use_attribute_docstrings": True, "json_schema_serialization_defaults_required": True}
    wrapped = TypeAdapter[Any](tuple[cls, ...], config=settings)  # type: ignore[valid-type]
    generated = wrapped.json_schema(mode="serialization", ref_template="#/definitions/{model}")
    definitions = {name: _printed(schema) for name, schema in generated.get("$defs", {}).items()}
    body: dict[str, Any] = _printed(generated["items"])
    if "$ref" in body:
        body = definitions.pop(body["$ref"].rpartition("/")[2])
    return {**body, "definitions": definitions}


def _printed(schema: Any) -> Any:
    """A generated schema without titles (they repeat names) and defaults; fractions are printed as numbers."""
    if isinstance(schema, list):
        return [_printed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "fraction":
        return {"type": "number", **{k: v for k, v in schema.items() if k == "description"}}
    fields = schema.get("properties", {})
    rest = {key: _printed(value) for key, value in schema.items() if key not in ("title", "default", "properties")}
    return {**rest, **({"properties": {name: _printed(part) for name, part in fields.items()}} if fields else {})}


def schema_text(schema: dict[str, Any]) -> str:
    """As it is committed: stable and readable."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
