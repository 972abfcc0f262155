"""Specs for engine tests: a test says only what matters to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvcalc.attention import (
    Attention,
)
from kvcalc.attention.chunked import Chunked
from kvcalc.attention.compressed import Compressed
from kvcalc.attention.cross import Cross
from kvcalc.attention.full import Full
from kvcalc.attention.gated_delta_net import GatedDeltaNet
from kvcalc.attention.kda import Kda
from kvcalc.attention.lightning import Lightning
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import Mla
from kvcalc.attention.shared import Shared
from kvcalc.attention.short_conv import ShortConv
from kvcalc.attention.sliding import Sliding
from kvcalc.attention.sparse import Sparse
from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Parallel
from kvcalc.footprint import Workload
from kvcalc.spec.model import LayerEntry, ModelSpec

ORACLE = json.loads((Path(__file__).parent / "oracle.json").read_text())["cases"]


def cases(engine: str, *quantities: str) -> list[Any]:
    """The oracle's cases of one engine, ready for parametrize."""
    import pytest

    found = [c for c in ORACLE if c["engine"] == engine and (not quantities or c["quantity"] in quantities)]
    return [pytest.param(c, id=c["id"]) for c in found]


def full(kv: int = 8, dim: int = 128, v_dim: int | None = None, heads: int | None = None) -> Full:
    return Full(num_attention_heads=heads or kv, num_key_value_heads=kv, head_dim=dim, v_head_dim=v_dim)


def sliding(window: int, kv: int = 8, dim: int = 128, v_dim: int | None = None) -> Sliding:
    return Sliding(
        num_attention_heads=kv, num_key_value_heads=kv, head_dim=dim, v_head_dim=v_dim, sliding_window=window
    )


def chunked(size: int, kv: int = 8, dim: int = 128) -> Chunked:
    return Chunked(num_attention_heads=kv, num_key_value_heads=kv, head_dim=dim, attention_chunk_size=size)


def cross(kv: int = 8, dim: int = 64) -> Cross:
    return Cross(num_attention_heads=kv, num_key_value_heads=kv, head_dim=dim)


def mla(rank: int = 512, rope: int = 64) -> Mla:
    return Mla(num_attention_heads=128, kv_lora_rank=rank, qk_rope_head_dim=rope, qk_nope_head_dim=128, v_head_dim=128)


def sparse(index: int = 128, rank: int = 512, rope: int = 64, index_cache: Any = "own") -> Sparse:
    return Sparse(
        num_attention_heads=128, kv_lora_rank=rank, qk_rope_head_dim=rope, qk_nope_head_dim=128, v_head_dim=128,
        index_head_dim=index, index_n_heads=64, index_topk=2048, index_cache=index_cache,
    )  # fmt: skip


def compressed(ratio: int, index: int | None = None, window: int = 128, dim: int = 512) -> Compressed:
    return Compressed(
        num_attention_heads=64, head_dim=dim, sliding_window=window, compress_ratio=ratio, index_head_dim=index,
        index_n_heads=64 if index else None, index_topk=512 if index else None,
    )  # fmt: skip


def gdn(key_heads: int = 16, value_heads: int = 32, dim: int = 128, kernel: int = 4) -> GatedDeltaNet:
    return GatedDeltaNet(
        linear_num_key_heads=key_heads, linear_num_value_heads=value_heads, linear_key_head_dim=dim,
        linear_value_head_dim=dim, linear_conv_kernel_dim=kernel,
    )  # fmt: skip


def mamba(inner: int = 8192, state: int = 16, kernel: int = 4) -> Mamba:
    return Mamba(intermediate_size=inner, ssm_state_size=state, conv_kernel=kernel)


def mamba2(heads: int = 128, dim: int = 64, state: int = 128, groups: int = 8, kernel: int = 4) -> Mamba2:
    return Mamba2(mamba_num_heads=heads, mamba_head_dim=dim, ssm_state_size=state, n_groups=groups, conv_kernel=kernel)


def kda(heads: int = 32, dim: int = 128, kernel: int = 4) -> Kda:
    return Kda(num_heads=heads, head_dim=dim, short_conv_kernel_size=kernel)


def short_conv(dim: int = 2048, length: int = 3) -> ShortConv:
    return ShortConv(conv_dim=dim, conv_L_cache=length)


def lightning(heads: int = 64, dim: int = 128) -> Lightning:
    return Lightning(num_attention_heads=heads, head_dim=dim)


def shared(reads: str, heads: int = 8) -> Shared:
    return Shared(reads=reads, num_attention_heads=heads)


def model(
    kinds: dict[str, Attention], order: str | list[Any], *, mtp: str | None = None, context: int | None = 131072,
    model_type: str | None = None, encoder: int | None = None,
) -> ModelSpec:  # fmt: skip
    """`kinds` by a one-letter name, `order` the layers: `"ssssf"`; lists hold layers of several modules (or none)."""
    layers = tuple(LayerEntry(attention=tuple(name) if name else None) for name in order)
    return ModelSpec(
        name="test-model", model_type=model_type, max_position_embeddings=context, max_source_positions=encoder,
        attention=kinds, layers=layers,  # type: ignore[arg-type]
        mtp_layers=tuple(LayerEntry(attention=name) for name in mtp or ""),
    )  # fmt: skip


def work(tokens: int, batch: int = 1, formats: FormatChoice = BF16, encoder: int = 0) -> Workload:
    return Workload(batch_size=batch, seq_len=tokens, formats=formats, encoder_len=encoder)


def parallel(tp: int = 1, pp: int = 1, dp: int = 1, dcp: int = 1) -> Parallel:
    return Parallel(tensor=tp, pipeline=pp, data=dp, decode_context=dcp)
