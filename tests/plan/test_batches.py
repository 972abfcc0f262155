"""`batch_scales`: whether a replica's cache is as many times one sequence's as it has sequences."""

from __future__ import annotations

from typing import Any

import pytest

from kvcalc.engines import NAMES, find_engine
from kvcalc.engines.base import Parallel
from kvcalc.footprint import Workload
from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import find_model

MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3.2", "qwen3-next-80b-a3b", "jamba-v0.1", "llama-4-scout-17b-16e")


def stages(engine: str, model: str, sequences: int, tokens: int, **options: Any) -> tuple[int, ...] | None:
    """Bytes of each of two stages; None where the engine does not have the model."""
    found = find_engine(engine)
    settings = found.configure(parallel=Parallel(pipeline=2), **options)
    workload = Workload(batch_size=sequences, seq_len=tokens)
    try:
        return found.allocate(find_model(model), workload, settings).per_stage_bytes
    except KvcalcError:
        return None


@pytest.mark.parametrize("engine", [name for name in NAMES if find_engine(name).batch_scales])
def test_engines_that_scale_hold_n_times_one_sequence(engine: str):
    asked = [(model, n, tokens) for model in MODELS for n in (2, 3, 63) for tokens in (100, 2001, 20_000)]
    compared = 0
    for model, n, tokens in asked:
        one, many = stages(engine, model, 1, tokens), stages(engine, model, n, tokens)
        assert (one is None) == (many is None)
        if one is not None:
            assert many == tuple(n * size for size in one)
            compared += 1
    assert compared > len(asked) / 2


def test_pools_sized_by_a_ratio_and_a_unified_context_do_not():
    """SGLang rounds 0.8 x 2,001 slots down once per pool; llama.cpp adds a batch to all windows together."""
    assert [name for name in NAMES if not find_engine(name).batch_scales] == ["sglang", "llama.cpp"]
    for engine, options in (("sglang", {}), ("llama.cpp", {"kv_unified": True})):
        one = stages(engine, "gemma-3-27b", 1, 2001, **options)
        many = stages(engine, "gemma-3-27b", 3, 2001, **options)
        assert one is not None
        assert many != tuple(3 * size for size in one)
