"""What the tests of vLLM's pages and groups share: models of few layers, and a pool in figures."""

from __future__ import annotations

from typing import Any

from engine_factories import full, model, parallel, sliding, work

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines.base import Allocation
from kvcalc.engines.vllm import allocate, planned
from kvcalc.engines.vllm.groups import Pool
from kvcalc.engines.vllm.settings import Settings
from kvcalc.spec.model import ModelSpec

ROW = 4096
"""Bytes of one token in one layer: 2 x 8 heads x 128 x 2 B."""
PAGE = 16 * ROW
GDN_STATE = 8192 * 3 * 2 + 32 * 128 * 128 * 2
"""gdn() in bf16: 8,192 channels x 3 columns, 32 x 128 x 128 elements: 1,097,728 B."""
WINDOWED = model({"s": sliding(100), "f": full()}, "ssf")


def settings(**options: Any) -> Settings:
    ranks = {name: options.pop(name) for name in ("tp", "pp", "dp", "dcp") if name in options}
    return Settings(parallel=parallel(**ranks), **options)


def allocated(
    spec: ModelSpec, tokens: int, batch: int = 1, dtype: str = "bf16", encoder: int = 0, **options: Any
) -> Allocation:
    return allocate(spec, work(tokens, batch, parse_kv_cache_dtype(dtype), encoder), settings(**options))


def pool(spec: ModelSpec, dtype: str = "bf16", **options: Any) -> Pool:
    return planned(spec, parse_kv_cache_dtype(dtype), settings(**options))


def shape(shared: Pool) -> list[tuple[int, int, int]]:
    """(layers, tokens of a block, bytes of a page) of each group."""
    return [(len(group.pages), group.first.block_size, group.first.page_bytes) for group in shared.groups]


def bytes_by(items: Any) -> dict[str, int]:
    return {item.cause: item.bytes for item in items}
