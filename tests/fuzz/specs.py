"""Our own files: the loader, model and hardware specs, plans."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from fuzz.edits import edits, texts
from fuzz.oracle import problem_shown, report_shown, shown
from fuzz.questions import asked_of_hardware, asked_of_model
from fuzz.scratch import folder, written
from fuzz.seeds import CALIBRATIONS, TRACES
from fuzz.target import ROOT, Target

from kvcalc.checks.kinds import recognise
from kvcalc.importers.writer import flow, lines
from kvcalc.plan.planfile import read_plan
from kvcalc.plan.planning import plan
from kvcalc.plan.resolving import resolve
from kvcalc.plan.verdict import verdicts
from kvcalc.render.plan import plan_document
from kvcalc.spec.hardware_catalog import load_hardware
from kvcalc.spec.validate import load_model
from kvcalc.spec.yamlio import load_yaml

MOST_GPUS = 32
MAX_SEED = 4000
"""Bytes: longer files teach the fuzzer nothing and slow it down."""


@cache
def yaml_seeds(*folders: str) -> tuple[bytes, ...]:
    """The files of these folders of the repository, where they are short."""
    files = sorted(path for name in folders for path in (ROOT / name).glob("*.yaml"))
    return tuple(text for text in (path.read_bytes() for path in files) if len(text) < MAX_SEED)


@cache
def documents(folder: str) -> tuple[str, ...]:
    """The same, as JSON texts."""
    return texts([load_yaml("seed", text).data for text in yaml_seeds(folder)])


def loaded(data: bytes) -> None:
    """The loader alone: what it reads, our writer writes so that it reads alike; and every mark is in the file."""
    found = load_yaml("x.yaml", data)
    again = load_yaml("x.yaml", flow(found.data).encode()).data
    assert _same(again, found.data), f"{found.data!r:.500} came back as {again!r:.500}"
    rows = found.text.splitlines()
    for mark in (*found.marks.values(), *found.key_marks.values()):
        assert 1 <= mark.line <= len(rows), "a mark beyond the file"
        assert 1 <= mark.column <= len(rows[mark.line - 1]) + 1, "a mark beyond its line"
    for loc in list(found.marks)[-3:]:
        problem_shown(found.problem("KV000", loc, "x", help="y"))


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: `1`, `1.0` and `true` are three things."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def model_yaml(data: bytes) -> None:
    spec, document = load_model("x.yaml", data)
    number = zlib.crc32(data)
    asked_of_model(spec, number)
    if number % 4 == 0:
        text = "\n".join(lines(document.data, {}))
        again, _ = load_model("x.yaml", text.encode())
        assert again == spec, "written and read again, it is another model"


def hardware_yaml(data: bytes) -> None:
    asked_of_hardware(load_hardware("x.yaml", data)[0], zlib.crc32(data))


def plan_yaml(data: bytes) -> None:
    """A plan beside files that it may name. On few GPUs: benchmarks/plan_search.py says how long a search takes."""
    file = read_plan(os.path.join(_project(), "plan.yaml"), data)
    resolved = resolve(file.spec, file, alternatives=zlib.crc32(data) % 16 == 0)
    request = replace(resolved.request, max_gpus=min(resolved.request.max_gpus, MOST_GPUS))
    report = plan(request, resolved.hardware)
    report_shown("plan", report, thoroughly=zlib.crc32(data) % 16 == 0)
    shown(plan_document(report))
    for found in verdicts(file.spec, report):
        problem_shown(file.problem(found.code, found.loc, found.message, help=found.help))


@cache
def _project() -> str:
    """The folder of plans: below it lie a model, a GPU, a trace and a calibration."""
    written("kvcalc.toml", b"")
    written("model.yaml", yaml_seeds("tests/checks/good")[-1])
    written("gpu.yaml", (ROOT / "kvcalc/hardware/h200.yaml").read_bytes())
    written("trace.csv", TRACES[0])
    written("calibration.json", CALIBRATIONS[0])
    return folder()


_PLANS = (
    b"model: model.yaml\ngpu: [gpu.yaml, h100-sxm]\nrate: 0.5\nlengths: trace.csv\nslo: {tpot: 1s, ttft: 20s}\n"
    b"objective: cost\nprices: {gpu.yaml: 2.5, h100-sxm: 2}\n",
    b"model: deepseek-v3\ngpu: h200\ngpus: 16\nbatch_size: 32\nseq_len: 8K\ncalibration: calibration.json\n"
    b"node_size: 8\nnode_link: 50GB/s\nenable_expert_parallel: true\ntensor_across_nodes: true\n"
    b"objective: throughput\n",
    b"model: llama-3.1-8b\ngpu: a100-80gb\nengine: llama.cpp\nsettings: {n_ctx: 32K}\nkv_cache_dtype: q8_0\n"
    b"weight_dtype: int8\nexpect: {fits: false}\n",
    b"model: t5-11b\ngpu: h200\nengine: ideal\nencoder_len: 512\nseq_len: 512\npipeline_parallel_size: 2\n",
)


@cache
def _plan_seeds() -> tuple[bytes, ...]:
    return (*_PLANS, *(text for text in yaml_seeds("tests/checks/good", "tests/checks/bad") if b"\ngpu:" in text))


@cache
def _plan_documents() -> tuple[str, ...]:
    found = [load_yaml("seed", text).data for text in _plan_seeds()]
    return texts([data for data in found if (kind := recognise(data)) is not None and kind.name == "plan"])


YAML_WORDS = (
    "name: attention: layers: pattern: count: kind: full sliding mla shared reads: mamba2 cross compressed "
    "num_attention_heads: num_key_value_heads: head_dim: sliding_window: kv_lora_rank: ffn: dense moe sources: expect: "
    "quantity: value: source: budget: 1099511627776 -1 0 null true [] {} &a *a !!str --- \\x00 ##[error]x "
    "\\x0a::error::"
)
_PLAN_WORDS = (
    "model: gpu: gpus: batch_size: seq_len: isl: osl: rate: lengths: slo: tpot: ttft: engine: settings: prices: "
    "expect: fits: objective: cost 32K 50ms 1.5GiB 50GB/s model.yaml gpu.yaml trace.csv calibration.json ../x ~ /"
)

TARGETS: Mapping[str, Target] = {
    "yaml": Target(loaded, lambda: yaml_seeds("tests/checks/bad", "tests/checks/good"), 150, YAML_WORDS + " | > ? ' %"),
    "model-yaml": Target(model_yaml, lambda: yaml_seeds("model_specs", "tests/checks/bad"), 50, YAML_WORDS),
    "model-edits": edits("model-yaml", model_yaml, lambda: documents("model_specs"), 30),
    "hardware-yaml": Target(hardware_yaml, lambda: yaml_seeds("kvcalc/hardware"), 40, YAML_WORDS),
    "hardware-edits": edits("hardware-yaml", hardware_yaml, lambda: documents("kvcalc/hardware"), 15),
    "plan-yaml": Target(plan_yaml, _plan_seeds, 5, _PLAN_WORDS),
    "plan-edits": edits("plan-yaml", plan_yaml, _plan_documents, 2),
}
