"""The published schemas: current, valid, and what every command's `-o json` holds, neither more nor less."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import kvcalc, refused

from kvcalc.render.machine import SCHEMA_VERSION
from kvcalc.render.reports import FOLDER, REPORTS, report_class, report_schema
from kvcalc.spec.schema import schema_text

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "kernels_ref" / "results" / "h200-2026-11-27.json"

COMMANDS = {
    "size": "size qwen-72b gemma-3-27b jamba-v0.1 t5-11b",
    "allocation": "size gemma-3-27b --engine vllm -tp 2 --gpu-memory 80GiB",
    "compare": "compare qwen-72b --as mqa,kv:int4-g32 -s 1000",
    "explanation": "explain deepseek-v3.2",
    "kind": "explain mla",
    "format": "explain q8_0",
    "gpu": "explain a100-40gb",
    "rule": "explain KV201",
    "tiers": "tiers qwen-72b --gpu a100-40gb -b 8 -s 32K --storage 7GB/s",
    "roofline": "roofline deepseek-v3 --gpu h200 -b 64 -s 8K",
    "sweep": "sweep qwen-72b -b 1,2 -s 1K,2K --gpu h200,a100-40gb -tp 1,8",
    "plan": "plan llama-3.1-70b --gpu h200,t4 --gpus 4 -b 8 --lengths docs/examples/trace.csv --tpot 50ms --frontier"
    " --price h200=2.5",
    "fit": "fit qwen-72b --gpu h200 --gpus 8 -s 32K",
    "check": "check tests/checks/bad/kv201-params.yaml model_specs/qwen-72b.yaml --isolated",
    "diff": "diff deepseek-v2 deepseek-v3 --gpu h200",
    "reconcile": "reconcile - --model llama-3.1-8b",
    "list": "list gpus",
}
"""A command for each report; `verify` takes minutes, so its committed report is read."""
LOG = b"llama_kv_cache: size = 128.00 MiB (  1024 cells,  32 layers,  1/1 seqs), K (f16): 64.00 MiB, V (f16): 64.00 MiB"


def closed(schema: Any) -> Any:
    """The same schema, in which a field it does not name is an error."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    body = {key: closed(value) for key, value in schema.items()}
    return {**body, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else body


def printed(name: str) -> str:
    if name == "verify":
        return RESULTS.read_text("utf-8")
    ran = kvcalc(*COMMANDS[name].split(), "-o", "json", stdin=LOG if name == "reconcile" else b"")
    assert ran.code in (0, 1), ran.err
    return ran.out


@pytest.mark.parametrize("name", REPORTS)
def test_the_committed_schema_is_the_generated_one(name: str) -> None:
    path = ROOT / FOLDER / f"{name}.schema.json"
    assert path.read_text("utf-8") == schema_text(report_schema(name)), "run: python -m kvcalc.render.reports"


def test_every_committed_schema_is_of_a_report() -> None:
    assert {path.name for path in (ROOT / FOLDER).iterdir()} == {f"{name}.schema.json" for name in REPORTS}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_what_its_schema_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    schema = report_schema(name)
    jsonschema.Draft7Validator.check_schema(schema)
    data = json.loads(printed(name))
    assert data["schema_version"] == SCHEMA_VERSION
    assert data["report"] == name
    jsonschema.Draft7Validator(schema).validate(data)
    jsonschema.Draft7Validator(closed(schema)).validate(data)


@pytest.mark.parametrize("name", REPORTS)
def test_a_wrong_report_is_refused(name: str) -> None:
    """Each field of the form may neither be missing nor be of another type."""
    schema = report_schema(name)
    check = jsonschema.Draft7Validator(schema)
    assert not check.is_valid({})
    assert not check.is_valid({"schema_version": SCHEMA_VERSION, "report": name})
    assert schema["required"][:2] == ["schema_version", "report"]
    assert set(schema["required"]) == set(schema["properties"])


def test_every_json_that_a_command_prints_is_a_known_report() -> None:
    """The names that commands hand to `emit`, read from the source."""
    named = {
        found
        for path in (ROOT / "kvcalc").rglob("*.py")
        for found in re.findall(r'(?:\bemit|\bTold|render_json)\(\s*"([a-z]+)"', path.read_text("utf-8"))
    }
    assert named | {"sweep"} == set(REPORTS)


def test_fields_say_what_they_are() -> None:
    """The text below a field is its description: units among them."""
    schema = report_schema("size")
    assert schema["definitions"]["Footprint"]["properties"]["state_bytes"]["description"] == (
        "Recurrent and convolution states, the whole batch."
    )
    assert report_schema("compare")["definitions"]["ComparedModel"]["properties"]["ratio"]["anyOf"] == [
        {"type": "number"}, {"type": "null"}
    ]  # fmt: skip


def test_a_sweeps_points_are_as_wide_as_its_columns() -> None:
    data = json.loads(printed("sweep"))
    for plane in data["planes"]:
        assert len(plane["columns"]) == len(plane["units"])
        assert {len(point) for point in plane["points"]} == {len(plane["columns"])}


def test_the_command_prints_them() -> None:
    assert kvcalc("schema", "--report", "size").out == schema_text(report_schema("size"))
    assert "did you mean size?" in refused("schema", "--report", "sise")
    assert "name one" in refused("schema", "model", "--report", "size")


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_on_its_page(name: str) -> None:
    page = (ROOT / "docs" / "json-reports.md").read_text("utf-8")
    assert re.search(rf"^\| `{name}` \| `[a-z]+[^|]*` \| \[{name}\]\(schemas/{name}.schema.json\) \|$", page, re.M)


def test_a_class_is_found_by_its_name() -> None:
    assert report_class("size").__name__ == "SizeReport"
