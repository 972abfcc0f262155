"""One small layer of every attention kind, of odd sizes: what the references and the byte proof run on."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.attention.base import Attention
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

_GQA = Full(num_attention_heads=6, num_key_value_heads=2, head_dim=128, v_head_dim=96)

SAMPLES: Mapping[str, Attention] = {
    "MHA": Full(num_attention_heads=3, num_key_value_heads=3, head_dim=80),
    "MQA": Full(num_attention_heads=7, num_key_value_heads=1, head_dim=64),
    "GQA": _GQA,
    "sliding": Sliding(num_attention_heads=4, num_key_value_heads=2, head_dim=64, sliding_window=100),
    "chunked": Chunked(num_attention_heads=4, num_key_value_heads=2, head_dim=64, attention_chunk_size=100),
    "cross": Cross(num_attention_heads=4, num_key_value_heads=4, head_dim=64),
    "shared": Shared(reads="own", num_attention_heads=6).resolve({"own": _GQA}),
    "MLA": Mla(num_attention_heads=5, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=48, v_head_dim=40),
    "sparse": Sparse(
        num_attention_heads=5, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=48, v_head_dim=40,
        index_head_dim=128, index_n_heads=3, index_topk=50,
    ),
    "block sparse": BlockSparse(
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, v_head_dim=48, index_head_dim=128, index_n_heads=2,
        index_block_size=16, index_topk_blocks=3,
    ),
    "CSA": Compressed(
        num_attention_heads=5, head_dim=512, sliding_window=32, compress_ratio=4, index_head_dim=128, index_n_heads=3,
        index_topk=20,
    ),
    "HCA": Compressed(num_attention_heads=5, head_dim=512, sliding_window=32, compress_ratio=16),
    "Mamba-1": Mamba(intermediate_size=96, ssm_state_size=16, conv_kernel=4),
    "Mamba-2": Mamba2(mamba_num_heads=6, mamba_head_dim=32, ssm_state_size=24, n_groups=2, conv_kernel=4),
    "GDN": GatedDeltaNet(
        linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=32, linear_value_head_dim=24,
        linear_conv_kernel_dim=4,
    ),
    "KDA": Kda(num_heads=3, head_dim=32, short_conv_kernel_size=4),
    "lightning": Lightning(num_attention_heads=3, head_dim=48),
    "short conv": ShortConv(conv_dim=96, conv_L_cache=3),
}  # fmt: skip
