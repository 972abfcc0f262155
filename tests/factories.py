"""Kinds, models and footprints with defaults filled in, so that a test says only what differs.

Sizes are odd on purpose: a formula that swaps two of them, or rounds, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvcalc.attention import Attention
from kvcalc.attention.block_sparse import BlockSparse
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
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Footprint, Workload, footprint
from kvcalc.spec.model import LayerEntry, ModelSpec

HEADED: Mapping[str, Any] = {"num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 96}
LATENT: Mapping[str, Any] = {
    "num_attention_heads": 12, "kv_lora_rank": 160, "qk_rope_head_dim": 32, "qk_nope_head_dim": 96, "v_head_dim": 80,
}  # fmt: skip


def full(**changes: Any) -> Full:
    return Full(**{**HEADED, **changes})


def sliding(**changes: Any) -> Sliding:
    return Sliding(**{**HEADED, "sliding_window": 100, **changes})


def chunked(**changes: Any) -> Chunked:
    return Chunked(**{**HEADED, "attention_chunk_size": 100, **changes})


def cross(**changes: Any) -> Cross:
    return Cross(**{**HEADED, **changes})


def shared(**changes: Any) -> Shared:
    return Shared(**{"reads": "layer0", "num_attention_heads": 12, **changes})


def mla(**changes: Any) -> Mla:
    return Mla(**{**LATENT, **changes})


def sparse(**changes: Any) -> Sparse:
    return Sparse(**{**LATENT, "index_head_dim": 96, "index_n_heads": 5, "index_topk": 63, **changes})


def block_sparse(**changes: Any) -> BlockSparse:
    index = {"index_head_dim": 40, "index_n_heads": 3, "index_block_size": 20, "index_topk_blocks": 3}
    return BlockSparse(**{**HEADED, **index, **changes})


def compressed(**changes: Any) -> Compressed:
    fields = {"num_attention_heads": 12, "head_dim": 160, "sliding_window": 100, "compress_ratio": 4}
    return Compressed(**{**fields, **changes})


def mamba(**changes: Any) -> Mamba:
    return Mamba(**{"intermediate_size": 700, "ssm_state_size": 18, "conv_kernel": 4, **changes})


def mamba2(**changes: Any) -> Mamba2:
    fields = {"mamba_num_heads": 10, "mamba_head_dim": 70, "ssm_state_size": 18, "n_groups": 5, "conv_kernel": 4}
    return Mamba2(**{**fields, **changes})


def gated_delta_net(**changes: Any) -> GatedDeltaNet:
    fields = {
        "linear_num_key_heads": 5, "linear_num_value_heads": 10, "linear_key_head_dim": 24,
        "linear_value_head_dim": 36, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    return GatedDeltaNet(**{**fields, **changes})


def kda(**changes: Any) -> Kda:
    return Kda(**{"num_heads": 10, "head_dim": 24, "short_conv_kernel_size": 4, **changes})


def lightning(**changes: Any) -> Lightning:
    return Lightning(**{"num_attention_heads": 10, "head_dim": 24, **changes})


def short_conv(**changes: Any) -> ShortConv:
    return ShortConv(**{"conv_dim": 700, "conv_L_cache": 3, **changes})


FACTORIES: Mapping[str, Callable[..., Attention]] = {
    factory.__name__: factory
    for factory in (
        full, sliding, chunked, cross, shared, mla, sparse, block_sparse, compressed, mamba, mamba2, gated_delta_net,
        kda, lightning, short_conv,
    )
}  # fmt: skip
"""One per kind, under the kind's name."""


def model(*layers: Attention | tuple[int, Attention], **changes: Any) -> ModelSpec:
    """A model of these layers in turn, each once or `(count, kind)` times; entries are named layer0, layer1, ..."""
    counted = [layer if isinstance(layer, tuple) else (1, layer) for layer in layers]
    names = [f"layer{index}" for index in range(len(counted))]
    fields = {
        "name": "test-model",
        "max_position_embeddings": 2000,
        "attention": {name: kind for name, (_, kind) in zip(names, counted, strict=True)},
        "layers": tuple(
            LayerEntry(count=count, attention=name) for name, (count, _) in zip(names, counted, strict=True)
        ),
    }
    return ModelSpec(**{**fields, **changes})


def size(
    what: ModelSpec | Attention, seq_len: int = 2000, *, batch: int = 1, encoder: int = 0, dtype: str = "bf16"
) -> Footprint:
    """The footprint of a model, or of a model of one layer of a kind."""
    spec = what if isinstance(what, ModelSpec) else model(what)
    formats = parse_kv_cache_dtype(dtype)
    return footprint(spec, Workload(batch_size=batch, seq_len=seq_len, encoder_len=encoder, formats=formats))


def logical(what: ModelSpec | Attention, seq_len: int = 2000, **workload: Any) -> int:
    """Logical bytes of one sequence (or of `batch`)."""
    return size(what, seq_len, **workload).logical_bytes


SPEC = """\
name: test-model
max_position_embeddings: 2000
attention:
  full: {kind: full, num_attention_heads: 12, num_key_value_heads: 3, head_dim: 96}
  window: {kind: sliding, num_attention_heads: 12, num_key_value_heads: 3, head_dim: 96, sliding_window: 100}
layers:
  - count: 2
    pattern:
      - {count: 5, attention: window}
      - {attention: full}
"""
"""A small spec file: 2 x (5 windowed layers, then a full one)."""
