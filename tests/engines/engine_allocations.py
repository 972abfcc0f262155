"""What the tests of allocations share: models of few layers, and an answer's causes by name.

A layer of `full()` keeps 2 x 8 heads x 128 x 2 B = 4,096 B a token; so does `sliding()`, of the tokens in its window.
"""

from __future__ import annotations

from typing import Any

from engine_factories import cross, full, gdn, model, parallel, sliding, work

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import find_engine
from kvcalc.engines.base import Allocation
from kvcalc.spec.model import ModelSpec

ROW = 4096
"""Bytes of one token in one layer of K and V."""
CONV, STATE = 8192 * 3 * 2, 32 * 128 * 128
"""gdn(): 2 x 16 x 128 + 32 x 128 channels x 3 columns x 2 B; elements of the recurrent state."""


def allocated(
    engine: str, spec: ModelSpec, tokens: int, batch: int = 1, *, dtype: str = "bf16", encoder: int = 0, **options: Any
) -> Allocation:
    ranks = {name: options.pop(name) for name in ("tp", "pp", "dp", "dcp") if name in options}
    found = find_engine(engine)
    asked = work(tokens, batch, parse_kv_cache_dtype(dtype), encoder)
    return found.allocate(spec, asked, found.configure(parallel=parallel(**ranks), **options))


def causes(answer: Allocation) -> dict[str, int]:
    return {item.cause: item.bytes for item in answer.waste}


def shares(answer: Allocation) -> dict[str, int]:
    return {item.cause: item.bytes for item in answer.sharding_waste}


REPLICAS, UNEVEN = "replicas over tensor-parallel ranks", "uneven ranks"
DENSE = model({"f": full()}, "f" * 3)
WINDOWED = model({"s": sliding(100), "f": full()}, "ssf")
HYBRID = model({"a": gdn(), "f": full()}, "aaf")
DECODER = model({"f": full(), "x": cross(8, 64)}, [("f", "x")] * 2, encoder=1500)
"""A layer's cross-attention keeps 2 x 8 x 64 x 2 = 2,048 B of each encoder token."""
