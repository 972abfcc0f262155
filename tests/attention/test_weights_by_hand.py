"""The weights of one layer of every kind: names, shapes and cuts as the checkpoints and engines have them.

Shapes are (out, in) as torch.nn.Linear stores them, sources beside each. `cut` is (axis, units): what tensor
parallelism deals out over ranks (vLLM 0.33.0's column- and row-parallel layers); None: every rank holds it whole.
"""

from __future__ import annotations

from typing import Any

import pytest
from factories import (
    block_sparse,
    compressed,
    cross,
    full,
    gated_delta_net,
    kda,
    lightning,
    mamba,
    mamba2,
    mla,
    shared,
    short_conv,
    sparse,
)

from kvcalc.attention import Attention
from kvcalc.attention.base import HeadedAttention
from kvcalc.tensors import Component

H = 72
"""Hidden size."""
Row = tuple[str, tuple[int, ...], tuple[int, int] | None]

# 12 query heads over 3 KV heads of 96. transformers 5.23.0 models/llama (LlamaAttention)
PLAIN: list[Row] = [
    ("q_proj.weight", (12 * 96, H), (0, 12)),
    ("k_proj.weight", (3 * 96, H), (0, 3)),
    ("v_proj.weight", (3 * 96, H), (0, 3)),
    ("o_proj.weight", (H, 12 * 96), (1, 12)),
]
# 12 heads of 96 + 32 over a latent of 160, values of 80. models/deepseek_v3 (DeepseekV3Attention)
LATENT: list[Row] = [
    ("kv_a_proj_with_mqa.weight", (160 + 32, H), None),
    ("kv_a_layernorm.weight", (160,), None),
    ("kv_b_proj.weight", (12 * (96 + 80), 160), (0, 12)),
    ("o_proj.weight", (H, 12 * 80), (1, 12)),
]
LOW_RANK_QUERIES: list[Row] = [
    ("q_a_proj.weight", (40, H), None),
    ("q_a_layernorm.weight", (40,), None),
    ("q_b_proj.weight", (12 * (96 + 32), 40), (0, 12)),
]
# models/deepseek_v32 (DeepseekV32Indexer): 5 heads of 96, its LayerNorm has weight and bias
INDEXER: list[Row] = [
    ("indexer.wk.weight", (96, H), None),
    ("indexer.k_norm", (2, 96), None),
    ("indexer.weights_proj.weight", (5, H), None),
]


def compressor(name: str, width: int, stride: int, wide: int) -> list[Row]:
    """models/deepseek_v4: content and gate, as wide as `wide` vectors, a bias per position of the stride."""
    return [
        (f"{name}.kv_proj.weight", (wide * width, H), None),
        (f"{name}.gate_proj.weight", (wide * width, H), None),
        (f"{name}.position_bias", (stride, wide * width), None),
        (f"{name}.kv_norm", (width,), None),
    ]


# models/deepseek_v4 (DeepseekV4Attention): 12 heads of 160, one vector for K and V, a sink per head
COMPRESSED_QUERIES: list[Row] = [
    ("q_a_proj.weight", (40, H), None),
    ("q_a_norm", (40,), None),
    ("q_b_proj.weight", (12 * 160, 40), (0, 12)),
]
ONE_VECTOR: list[Row] = [("kv_proj.weight", (160, H), None), ("kv_norm", (160,), None)]
SINKS: list[Row] = [("sinks", (12,), (0, 12))]
# models/jamba (JambaMambaMixer): 700 channels, 18 states, a rank of 6, 4 taps
MAMBA: list[Row] = [
    ("in_proj.weight", (2 * 700, H), (0, 700)),
    ("conv1d.weight", (700, 1, 4), (0, 700)),
    ("x_proj.weight", (6 + 2 * 18, 700), (1, 700)),
    ("dt_proj.weight", (700, 6), (0, 700)),
    ("dt_proj.bias", (700,), (0, 700)),
    ("A_log", (700, 18), (0, 700)),
    ("D", (700,), (0, 700)),
    ("out_proj.weight", (H, 700), (1, 700)),
]
# models/mamba2 (Mamba2Mixer): 10 heads of 70, 5 groups of 18 states, the input projection in its three parts
MAMBA2: list[Row] = [
    ("in_proj.z_x.weight", (2 * 700, H), (0, 10)),
    ("in_proj.b_c.weight", (2 * 5 * 18, H), (0, 5)),
    ("in_proj.dt.weight", (10, H), (0, 10)),
    ("conv1d.x.weight", (700, 1, 4), (0, 10)),
    ("conv1d.b_c.weight", (2 * 5 * 18, 1, 4), (0, 5)),
    ("dt_bias", (10,), (0, 10)),
    ("A_log", (10,), (0, 10)),
    ("D", (10,), (0, 10)),
    ("out_proj.weight", (H, 700), (1, 10)),
]

LAYERS: list[tuple[str, Attention, list[Row]]] = [
    ("full", full(), PLAIN),
    (
        # Qwen2's biases, MiMo-V2's narrower V, Step-3's share_q_dim, Qwen3-Next's gate, Qwen3's norms, gpt-oss's sinks
        "full with everything",
        full(v_head_dim=80, attention_bias=True, o_bias=True, qk_norm="head", q_lora_rank=40, output_gate="element",
             attention_sinks=True),
        [
            ("q_a_proj.weight", (40, H), None),
            ("q_a_norm", (40,), None),
            ("q_proj.weight", (12 * 96, 40), (0, 12)),
            ("q_proj.bias", (12 * 96,), (0, 12)),
            ("k_proj.weight", (3 * 96, H), (0, 3)),
            ("k_proj.bias", (3 * 96,), (0, 3)),
            ("v_proj.weight", (3 * 80, H), (0, 3)),
            ("v_proj.bias", (3 * 80,), (0, 3)),
            ("gate_proj.weight", (12 * 80, H), (0, 12)),
            ("gate_proj.bias", (12 * 80,), (0, 12)),
            ("o_proj.weight", (H, 12 * 80), (1, 12)),
            ("o_proj.bias", (H,), None),
            ("q_norm", (96,), None),
            ("k_norm", (96,), None),
            *SINKS,
        ],
    ),
    (
        # Whisper's keys without a bias, OLMo-2's norms over all heads, Step-3.5's gate per head, Gemma-4's K = V
        "full in other ways",
        full(attention_bias=True, k_bias=False, qk_norm="full", output_gate="head", v_proj=False),
        [
            ("q_proj.weight", (12 * 96, H), (0, 12)),
            ("q_proj.bias", (12 * 96,), (0, 12)),
            ("k_proj.weight", (3 * 96, H), (0, 3)),
            ("gate_proj.weight", (12, H), (0, 12)),
            ("o_proj.weight", (H, 12 * 96), (1, 12)),
            ("q_norm", (12 * 96,), (0, 12)),
            ("k_norm", (3 * 96,), (0, 3)),
        ],
    ),
    ("cross", cross(), PLAIN),
    (
        # models/minimax_m3_vl (MiniMaxM3VLIndexer): 3 heads of 40, one key, a norm of each
        "block-sparse",
        block_sparse(),
        [
            *PLAIN,
            ("indexer.q_proj.weight", (3 * 40, H), None),
            ("indexer.k_proj.weight", (40, H), None),
            ("indexer.q_norm", (40,), None),
            ("indexer.k_norm", (40,), None),
        ],
    ),
    ("mla", mla(), [("q_proj.weight", (12 * (96 + 32), H), (0, 12)), *LATENT]),
    ("mla with low-rank queries", mla(q_lora_rank=40), [*LOW_RANK_QUERIES, *LATENT]),
    (
        # attention_bias of DeepSeek-V3's config: both down-projections and the output; Kimi-K3's gate
        "mla with biases and a gate",
        mla(q_lora_rank=40, attention_bias=True, output_gate=True),
        [
            ("q_a_proj.weight", (40, H), None),
            ("q_a_proj.bias", (40,), None),
            *LOW_RANK_QUERIES[1:],
            ("kv_a_proj_with_mqa.weight", (160 + 32, H), None),
            ("kv_a_proj_with_mqa.bias", (160 + 32,), None),
            *LATENT[1:3],
            ("g_proj.weight", (12 * 80, H), (0, 12)),
            ("o_proj.weight", (H, 12 * 80), (1, 12)),
            ("o_proj.bias", (H,), None),
        ],
    ),
    (
        "sparse",
        sparse(q_lora_rank=40),
        [*LOW_RANK_QUERIES, *LATENT, ("indexer.wq_b.weight", (5 * 96, 40), None), *INDEXER],
    ),
    (
        "sparse without low-rank queries",
        sparse(),
        [("q_proj.weight", (12 * 128, H), (0, 12)), *LATENT, ("indexer.wq_b.weight", (5 * 96, H), None), *INDEXER],
    ),
    ("sparse that shares an index", sparse(q_lora_rank=40, index_cache="shared"), [*LOW_RANK_QUERIES, *LATENT]),
    (
        "compressed, a window alone",
        compressed(compress_ratio=0),
        [("q_b_proj.weight", (12 * 160, H), (0, 12)), *ONE_VECTOR, ("o_proj.weight", (H, 12 * 160), (1, 12)), *SINKS],
    ),
    (
        # strides of 4 overlap: content and gate of two strides
        "compressed with an indexer and a grouped output",
        compressed(q_lora_rank=40, o_lora_rank=16, o_groups=3, index_head_dim=24, index_n_heads=5, index_topk=63),
        [
            *COMPRESSED_QUERIES,
            *ONE_VECTOR,
            ("o_a_proj.weight", (3 * 16, 12 * 160 // 3), (0, 3)),
            ("o_b_proj.weight", (H, 3 * 16), (1, 3)),
            *SINKS,
            *compressor("compressor", 160, 4, wide=2),
            *compressor("indexer.compressor", 24, 4, wide=2),
            ("indexer.q_b_proj.weight", (5 * 24, 40), None),
            ("indexer.weights_proj.weight", (5, H), None),
        ],
    ),
    (
        # one group, one indexer head; a stride of 128 does not overlap
        "compressed in one group",
        compressed(compress_ratio=128, o_lora_rank=16, index_head_dim=24, index_n_heads=1, index_topk=63),
        [
            ("q_b_proj.weight", (12 * 160, H), (0, 12)),
            *ONE_VECTOR,
            ("o_a_proj.weight", (16, 12 * 160), (0, 1)),
            ("o_b_proj.weight", (H, 16), (1, 1)),
            *SINKS,
            *compressor("compressor", 160, 128, wide=1),
            *compressor("indexer.compressor", 24, 128, wide=1),
            ("indexer.q_b_proj.weight", (24, H), None),
            ("indexer.weights_proj.weight", (1, H), None),
        ],
    ),
    (
        "compressed without an indexer",
        compressed(compress_ratio=128),
        [
            ("q_b_proj.weight", (12 * 160, H), (0, 12)),
            *ONE_VECTOR,
            ("o_proj.weight", (H, 12 * 160), (1, 12)),
            *SINKS,
            *compressor("compressor", 160, 128, wide=1),
        ],
    ),
    (
        "mamba",
        mamba(time_step_rank=6, inner_norms=True),
        [*MAMBA, ("conv1d.bias", (700,), (0, 700)), ("dt_b_c_layernorms", (6 + 2 * 18,), None)],
    ),
    (
        "mamba with other biases",
        mamba(time_step_rank=6, use_conv_bias=False, use_bias=True),
        [
            MAMBA[0],
            ("in_proj.bias", (2 * 700,), (0, 700)),
            *MAMBA[1:],
            ("out_proj.bias", (H,), None),
        ],
    ),
    (
        # models/falcon_mamba says the rank; a spec of the cache alone need not
        "mamba without a rank",
        mamba(),
        [
            *MAMBA[:2],
            ("x_proj.weight", (2 * 18, 700), (1, 700)),
            ("dt_proj.weight", (700, 0), (0, 700)),
            *MAMBA[4:],
            ("conv1d.bias", (700,), (0, 700)),
        ],
    ),
    (
        "mamba2",
        mamba2(),
        [
            *MAMBA2,
            ("norm.weight", (700,), (0, 10)),
            ("conv1d.x.bias", (700,), (0, 10)),
            ("conv1d.b_c.bias", (2 * 5 * 18,), (0, 5)),
        ],
    ),
    (
        "mamba2 with other biases",
        mamba2(use_conv_bias=False, use_bias=True, gated_norm=False),
        [
            MAMBA2[0],
            ("in_proj.z_x.bias", (2 * 700,), (0, 10)),
            MAMBA2[1],
            ("in_proj.b_c.bias", (2 * 5 * 18,), (0, 5)),
            MAMBA2[2],
            ("in_proj.dt.bias", (10,), (0, 10)),
            *MAMBA2[3:],
            ("out_proj.bias", (H,), None),
        ],
    ),
    (
        # models/qwen3_next (Qwen3NextGatedDeltaNet): 5 key heads of 24, 10 value heads of 36, 4 taps
        "gated delta net",
        gated_delta_net(),
        [
            ("in_proj.q_k.weight", (2 * 120, H), (0, 5)),
            ("in_proj.v_z.weight", (2 * 360, H), (0, 10)),
            ("in_proj.b_a.weight", (2 * 10, H), (0, 10)),
            ("conv1d.q_k.weight", (2 * 120, 1, 4), (0, 5)),
            ("conv1d.v.weight", (360, 1, 4), (0, 10)),
            ("dt_bias", (10,), (0, 10)),
            ("A_log", (10,), (0, 10)),
            ("norm.weight", (36,), None),
            ("out_proj.weight", (H, 360), (1, 10)),
        ],
    ),
    *(
        (
            # Kimi-Linear modeling_kimi.py (KimiDeltaAttention): 10 heads of 24; the gate of Kimi-K3 is one matrix
            f"kda, full_rank_gate={full_rank}",
            kda(full_rank_gate=True) if full_rank else kda(),
            [
                *(
                    row
                    for name in "qkv"
                    for row in (
                        (f"{name}_proj.weight", (240, H), (0, 10)),
                        (f"{name}_conv1d.weight", (240, 1, 4), (0, 10)),
                    )
                ),
                *([("g_proj.weight", (240, H), (0, 10))] if full_rank else []),
                ("f_a_proj.weight", (24, H), None),
                ("f_b_proj.weight", (240, 24), (0, 10)),
                *([] if full_rank else [("g_a_proj.weight", (24, H), None), ("g_b_proj.weight", (240, 24), (0, 10))]),
                ("b_proj.weight", (10, H), (0, 10)),
                ("A_log", (10,), (0, 10)),
                ("dt_bias", (240,), (0, 10)),
                ("o_norm.weight", (24,), None),
                ("o_proj.weight", (H, 240), (1, 10)),
            ],
        )
        for full_rank in (False, True)
    ),
    (
        # MiniMax-Text-01 modeling_minimax_text_01.py (MiniMaxText01LightningAttention): 10 heads of 24
        "lightning",
        lightning(),
        [
            ("qkv_proj.weight", (3 * 240, H), (0, 10)),
            ("output_gate.weight", (240, H), (0, 10)),
            ("norm.weight", (240,), (0, 10)),
            ("out_proj.weight", (H, 240), (1, 10)),
        ],
    ),
    *(
        (
            # models/lfm2 (Lfm2ShortConv): 700 channels, 3 taps; B, C and x in one matrix
            f"short convolution, conv_bias={bias}",
            short_conv(conv_bias=True) if bias else short_conv(),
            [
                ("in_proj.weight", (3 * 700, H), (0, 700)),
                *([("in_proj.bias", (3 * 700,), (0, 700))] if bias else []),
                ("conv.weight", (700, 1, 3), (0, 700)),
                ("out_proj.weight", (H, 700), (1, 700)),
                *([("out_proj.bias", (H,), None), ("conv.bias", (700,), (0, 700))] if bias else []),
            ],
        )
        for bias in (False, True)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "rows"), [pytest.param(kind, rows, id=name) for name, kind, rows in LAYERS])
def test_a_layer_has_these_weights(kind: Attention, rows: list[Row]) -> None:
    found = kind.tensors(H)
    assert [(t.name, t.shape, t.split and (t.split.axis, t.split.units)) for t in found] == rows
    keeps_a_state = not any(stream.extent.grows or stream.extent.saturation for stream in kind.streams())
    part = Component.STATE if keeps_a_state and kind != cross() else Component.ATTENTION
    assert {t.component for t in found} == {part}
    # Quantisation takes the matrices, but for those that choose: routers, indexers' head weights, V4's compressors.
    matrices = {t.name for t in found if t.quantizable}
    kept = {t.name for t in found if "compressor" in t.name or "weights_proj" in t.name}
    assert matrices == {t.name for t in found if t.name.endswith(".weight") and len(t.shape) == 2} - kept


READERS: list[tuple[dict[str, Any], list[Row]]] = [
    # Gemma-3n's last layers: their queries alone matter, yet the checkpoint holds k and v (and a norm of k)
    ({}, [("q_proj.weight", (7 * 96, H), (0, 7)), ("o_proj.weight", (H, 7 * 96), (1, 7)), ("q_norm", (96,), None)]),
    (
        {"kv_proj": True},
        [
            ("q_proj.weight", (7 * 96, H), (0, 7)),
            ("k_proj.weight", (3 * 96, H), (0, 3)),
            ("v_proj.weight", (3 * 96, H), (0, 3)),
            ("o_proj.weight", (H, 7 * 96), (1, 7)),
            ("q_norm", (96,), None),
            ("k_norm", (96,), None),
        ],
    ),
    # Hunyuan-Large: a norm of keys without their projection
    (
        {"k_norm": True},
        [
            ("q_proj.weight", (7 * 96, H), (0, 7)),
            ("o_proj.weight", (H, 7 * 96), (1, 7)),
            ("q_norm", (96,), None),
            ("k_norm", (96,), None),
        ],
    ),
]


@pytest.mark.parametrize(("options", "rows"), READERS)
def test_a_layer_that_reads_anothers_cache_has_its_own_queries(options: dict[str, Any], rows: list[Row]) -> None:
    reader = shared(num_attention_heads=7, **options).resolve({"layer0": full(qk_norm="head")})
    assert [(t.name, t.shape, t.split and (t.split.axis, t.split.units)) for t in reader.tensors(H)] == rows


def test_a_layer_that_reads_a_latent_has_all_weights_of_its_kind() -> None:
    reader = shared(num_attention_heads=7).resolve({"layer0": mla()})
    assert reader.tensors(H) == mla().tensors(H)


def test_no_step_reads_the_projections_of_the_encoders_rows() -> None:
    unread = {tensor.name for tensor in cross(attention_bias=True).tensors(H) if not tensor.in_decode}
    assert unread == {"k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"}
    assert all(tensor.in_decode for tensor in full().tensors(H))


def test_a_kind_that_leaves_out_an_answer_fails_when_asked() -> None:
    """Not silently: zero streams would be zero bytes."""
    forgetful, headed = Attention(), HeadedAttention(num_attention_heads=1, num_key_value_heads=1, head_dim=1)
    for question in (forgetful.streams, forgetful.decode_reads, forgetful.work, lambda: forgetful.tensors(H),
                     lambda: forgetful.label, headed.extent):  # fmt: skip
        with pytest.raises(NotImplementedError):
            question()
