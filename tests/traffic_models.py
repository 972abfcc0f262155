"""Geometries of published tables, written out: what differs from a default is what the table says."""

from __future__ import annotations

from kvcalc.attention import AttentionKind
from kvcalc.attention.chunked import Chunked
from kvcalc.attention.full import Full
from kvcalc.attention.lightning import Lightning
from kvcalc.attention.mla import Mla
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Workload
from kvcalc.spec.model import LayerEntry, ModelSpec


def model(*layers: tuple[int, AttentionKind]) -> ModelSpec:
    """A stack of `count` layers of each kind, without weights."""
    names = [f"kind{index}" for index in range(len(layers))]
    return ModelSpec(
        name="model",
        attention={name: kind for name, (_, kind) in zip(names, layers, strict=True)},
        layers=tuple(LayerEntry(count=count, attention=name) for name, (count, _) in zip(names, layers, strict=True)),
    )


def gqa(heads: int, kv_heads: int, width: int = 128) -> Full:
    return Full(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=width)


def mla(heads: int) -> Mla:
    return Mla(num_attention_heads=heads, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)


DEEPSEEK_V3 = model((61, mla(128)))
KIMI_K2 = model((61, mla(64)))
QWEN3_235B = model((94, gqa(64, 4)))
QWEN3_32B = model((64, gqa(64, 8)))
ERNIE_45 = model((54, gqa(64, 8)))
PANGU_PRO = model((48, gqa(40, 8)))
STEP_3 = model((61, gqa(64, 1, 256)))
LLAMA4_GLOBAL = model((12, gqa(40, 8)))
LLAMA4_CHUNKED = model(
    (36, Chunked(num_attention_heads=40, num_key_value_heads=8, head_dim=128, attention_chunk_size=8192))
)
MINIMAX_FULL = model((10, gqa(64, 8)))
MINIMAX_LINEAR = model((70, Lightning(num_attention_heads=64, head_dim=128)))


def workload(seq_len: int, dtype: str = "bf16", batch_size: int = 1, encoder_len: int = 0) -> Workload:
    return Workload(
        batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=parse_kv_cache_dtype(dtype)
    )
