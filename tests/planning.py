"""Small models, GPUs of any memory, and plans for them, with defaults filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from factories import full, gated_delta_net, mla, model, sliding

from kvcalc.engines import find_engine
from kvcalc.plan.demand import Demand
from kvcalc.plan.layouts import Rules
from kvcalc.plan.ledger import Job
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.planfile import PlanFile, read_plan
from kvcalc.plan.request import Request
from kvcalc.plan.resolving import Resolved, resolve
from kvcalc.plan.search import Search
from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.catalog import find_model
from kvcalc.spec.ffn import Dense, Moe
from kvcalc.spec.figures import ByteSize
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.spec.model import LayerEntry, ModelSpec
from kvcalc.weights.ledger import weight_scheme

MIB = 2**20
PLAN = "model: qwen3-8b\ngpu: h200\n"


def gpu(memory: int | None = None, name: str = "h100") -> HardwareSpec:
    """A shipped GPU, with another memory (bytes) where one is given."""
    found = find_hardware(name)
    if memory is None:
        return found
    size = ByteSize(value=f"{memory} B", kind="driver", source="a test")
    return replace(found, memory=replace(found.memory, application=size))


def weighted(spec: ModelSpec, ffn: Any, **changes: Any) -> ModelSpec:
    """`spec` with weights: hidden_size 768, a vocabulary of 1,000, and the same ffn in every layer."""
    layers = tuple(
        LayerEntry(count=entry.count, attention=entry.attention, ffn="mlp", pattern=entry.pattern)
        for entry in spec.layers
    )
    fields = {"hidden_size": 768, "vocab_size": 1000, "ffn": {"mlp": ffn}, "layers": layers}
    return replace(spec, **{**fields, **changes})


def dense_model(layers: int = 6, **changes: Any) -> ModelSpec:
    """GQA: 12 heads, 4 of K and V, x 64."""
    kind = full(num_attention_heads=12, num_key_value_heads=4, head_dim=64)
    return weighted(model((layers, kind)), Dense(intermediate_size=1536), **changes)


def paired_model() -> ModelSpec:
    """12 query heads over 2 of K and V."""
    return headed_model(12, 2)


def headed_model(heads: int, kv_heads: int) -> ModelSpec:
    """Two layers whose every size is a multiple of the query heads."""
    kind = full(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=64)
    return weighted(model((2, kind)), Dense(intermediate_size=128 * heads), vocab_size=64 * heads)


def moe_model(layers: int = 5, **changes: Any) -> ModelSpec:
    """MLA of 12 heads with a latent of 160 + 32, and 16 experts of which 4 work, with a shared one."""
    ffn = Moe(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=384, n_shared_experts=1)
    return weighted(model((layers, mla())), ffn, **changes)


def window_model(**changes: Any) -> ModelSpec:
    """Five windows of 100 tokens and one full layer, twice; 4 KV heads."""
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64}
    layers = [layer for _ in range(2) for layer in ((5, sliding(**heads)), full(**heads))]
    return weighted(model(*layers), Dense(intermediate_size=1536), **changes)


def state_model(**changes: Any) -> ModelSpec:
    """Three gated delta nets (10 value heads) and one full layer of 10 KV heads."""
    attention = full(num_attention_heads=10, num_key_value_heads=10, head_dim=64)
    return weighted(model((3, gated_delta_net()), attention), Dense(intermediate_size=1600), **changes)


def rules(spec: ModelSpec, weights: str | None = None, **more: Any) -> Rules:
    return Rules(spec, weight_scheme(spec, weights), **more)


def shipped(name: str) -> ModelSpec:
    return find_model(name)


def request(
    spec: ModelSpec | str,
    *,
    batch: int | None = 1,
    tokens: int = 2000,
    weights: str | None = None,
    engine: str = "ideal",
    **changes: Any,
) -> Request:
    found = find_model(spec) if isinstance(spec, str) else spec
    asked = {name: changes.pop(name) for name in ("rate", "isl", "osl", "decoded") if name in changes}
    demand = changes.pop("demand", None) or Demand(batch_size=batch, lengths=Lengths.of(tokens), **asked)
    fields = {"alternatives": False, **changes}
    return Request(
        spec=found, engine=find_engine(engine), scheme=weight_scheme(found, weights), demand=demand, **fields
    )  # fmt: skip


def job(spec: ModelSpec | str, **asked: Any) -> Job:
    return request(spec, **asked).job()


def search(spec: ModelSpec | str, hardware: HardwareSpec | None = None, **asked: Any) -> Search:
    wanted = request(spec, **asked)
    return wanted.search(wanted.job(), hardware or gpu())


def read(text: str, name: str = "plan.yaml") -> PlanFile:
    return read_plan(name, text.encode())


def resolved(text: str, name: str = "plan.yaml") -> Resolved:
    file = read(text, name)
    return resolve(file.spec, file)


def problems(text: str, name: str = "plan.yaml") -> tuple[Problem, ...]:
    with pytest.raises(KvcalcError) as caught:
        resolved(text, name)
    return caught.value.problems
