"""How weights are stored: elements, scales and packing, to the byte.

Not the KV cache's formats (kvcalc/formats.py): a weight is a matrix with blocks in two dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from kvcalc.formats import bytes_of, ceil_div
from kvcalc.problems import did_you_mean, usage_error


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """Storage of a weight of shape (..., out, in): leading dimensions repeat the matrix, a vector is (1, n).

    bits = out x in x element_bits + ceil(out / rows) x ceil(in / columns) x block_bits
           + out x row_bits + in x column_bits + tensor_bits
    """

    name: str
    summary: str
    source: str
    element_bits: int = 0
    rows: int = 1
    columns: int | None = None
    """Elements of a block along the input; None: no blocks."""
    block_bits: int = 0
    """Scale (and zero point) of a block; for GGML types the whole block."""
    row_bits: int = 0
    """Scale per output channel."""
    column_bits: int = 0
    """What is kept per input channel (GPTQ's g_idx)."""
    tensor_bits: int = 0
    """Scales per tensor."""
    fallback: str | None = None
    """Format of rows that are no multiple of the block (llama.cpp chooses another type)."""
    operands: str = "bf16"
    """Type of both operands of a product with it where the accelerator has units for that: what is only stored in few
    bits (AWQ, GPTQ, GGML) is widened to bf16."""

    def blocks(self, shape: tuple[int, ...]) -> int:
        """Blocks of one weight, and so of its scales."""
        if self.columns is None:
            return 0
        lead, out, width = _matrix(shape)
        return lead * ceil_div(out, self.rows) * ceil_div(width, self.columns)

    def bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of one weight of this shape, metadata included."""
        lead, out, width = _matrix(shape)
        if self.fallback and self.columns and width % self.columns:
            return WEIGHT_FORMATS[self.fallback].bytes(shape)
        bits = prod(shape) * self.element_bits + self.blocks(shape) * self.block_bits
        bits += lead * (out * self.row_bits + width * self.column_bits + self.tensor_bits)
        return bytes_of(bits)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(repetitions, out, in)."""
    if len(shape) == 1:
        return 1, 1, shape[0]
    return prod(shape[:-2]), shape[-2], shape[-1]


def _plain(name: str, bits: int, summary: str, operands: str = "bf16") -> WeightFormat:
    return WeightFormat(name=name, element_bits=bits, summary=summary, source="IEEE 754; bfloat16", operands=operands)


def _ggml(name: str, elements: int, size: int, fallback: str | None = None) -> WeightFormat:
    """A GGML block of `elements` in `size` bytes, scales included."""
    return WeightFormat(
        name=name,
        columns=elements,
        block_bits=size * 8,
        fallback=fallback,
        summary=f"GGUF {name.upper()}: {size} B per {elements} weights ({size * 8 / elements:g} bits each)",
        source=f"ggml/src/ggml-common.h block_{name}; fallback: llama.cpp src/llama-quant.cpp",
    )


_INTEGER_SOURCES: Mapping[str, str] = {
    "awq_": "AutoAWQ awq/modules/linear/gemm.py (qweight, qzeros, scales)",
    "gptq_": "AutoGPTQ auto_gptq/nn_modules/qlinear (qweight, qzeros, scales, g_idx)",
    "": "compressed-tensors 0.9 pack-quantized (weight_packed, weight_scale)",
}


def _integer(method: str, bits: int, group: int) -> WeightFormat:
    """Integer codes in groups along the input, each with a 16-bit scale; AWQ and GPTQ add a zero point."""
    zero = bits if method else 0
    return WeightFormat(
        name=f"{method}int{bits}_g{group}",
        element_bits=bits,
        columns=group,
        block_bits=16 + zero,
        column_bits=32 if method == "gptq_" else 0,
        summary=f"int{bits}, a 16-bit scale{f' and a {zero}-bit zero point' if zero else ''} per {group} inputs"
        " and output channel" + (", int32 g_idx per input" if method == "gptq_" else ""),
        source=_INTEGER_SOURCES[method],
    )


_OCP = "OCP Microscaling Formats v1.0, section 5.2"
_MODELOPT = "NVIDIA ModelOpt 0.43 (weight, weight_scale e4m3 per 16, weight_scale_2 and input_scale fp32)"

_TABLE = (
    _plain("fp32", 32, "4 bytes a weight", "tf32"),
    _plain("bf16", 16, "2 bytes a weight"),
    _plain("fp16", 16, "2 bytes a weight"),
    WeightFormat(
        name="fp8", element_bits=8, operands="fp8", tensor_bits=32, summary="e4m3, one fp32 scale per matrix",
        source="vLLM 0.33.0 quantization/fp8.py",
    ),
    WeightFormat(
        name="fp8_static", element_bits=8, operands="fp8", tensor_bits=64, source=_MODELOPT,
        summary="e4m3, fp32 scales of the weight and of its input per matrix",
    ),
    WeightFormat(
        name="fp8_channel", element_bits=8, operands="fp8", row_bits=16,
        summary="e4m3, one bf16 scale per output channel",
        source="compressed-tensors 0.9 FP8_DYNAMIC (weight_scale [out, 1])",
    ),
    WeightFormat(
        name="fp8_fbgemm", element_bits=8, operands="fp8", row_bits=32,
        summary="e4m3, one fp32 scale per output channel",
        source="FBGEMM; config.json of Llama-3.1-405B-Instruct-FP8 (weight_scale [out, 1])",
    ),
    WeightFormat(
        name="fp8_block128", element_bits=8, operands="fp8", rows=128, columns=128, block_bits=32,
        summary="e4m3, one fp32 scale per 128 x 128 block",
        source="DeepSeek-V3, arXiv 2412.19437 section 3.3.2; its README_WEIGHTS.md (weight_scale_inv)",
    ),
    WeightFormat(
        name="int8_channel", element_bits=8, operands="int8", row_bits=16,
        summary="int8, one bf16 scale per output channel",
        source="compressed-tensors 0.9 W8A8 (weight_scale [out, 1])",
    ),
    WeightFormat(
        name="bnb_int8", element_bits=8, operands="int8", row_bits=32,
        summary="int8, one fp32 scale per output channel",
        source="bitsandbytes LLM.int8() (SCB), arXiv 2208.07339",
    ),
    WeightFormat(
        name="bnb_nf4", element_bits=4, columns=64, block_bits=32, summary="NF4, one fp32 absmax per 64 weights",
        source="QLoRA, arXiv 2305.14314 section 3; bitsandbytes functional.py",
    ),
    *(_integer("awq_", 4, group) for group in (32, 64, 128)),
    *(_integer("gptq_", bits, group) for bits in (4, 8) for group in (32, 64, 128)),
    *(_integer("", 4, group) for group in (32, 64, 128)),
    WeightFormat(
        name="mxfp4", element_bits=4, operands="fp4", columns=32, block_bits=8, source=_OCP,
        summary="e2m1, one e8m0 scale per 32 weights (4.25 bits each)",
    ),
    WeightFormat(
        name="mxfp8", element_bits=8, operands="fp8", columns=32, block_bits=8, source=_OCP,
        summary="e4m3, one e8m0 scale per 32 weights (8.25 bits each)",
    ),
    WeightFormat(
        name="nvfp4", element_bits=4, operands="fp4", columns=16, block_bits=8, tensor_bits=64, source=_MODELOPT,
        summary="e2m1, one e4m3 scale per 16 weights (4.5 bits each), two fp32 scales per matrix",
    ),
    _ggml("q8_0", 32, 34),
    _ggml("q5_1", 32, 24),
    _ggml("q5_0", 32, 22),
    _ggml("q4_1", 32, 20),
    _ggml("q4_0", 32, 18),
    _ggml("iq4_nl", 32, 18),
    _ggml("q6_k", 256, 210, "q8_0"),
    _ggml("q5_k", 256, 176, "q5_1"),
    _ggml("q4_k", 256, 144, "q5_0"),
    _ggml("q3_k", 256, 110, "iq4_nl"),
    _ggml("q2_k", 256, 84, "iq4_nl"),
    _ggml("iq4_xs", 256, 136, "iq4_nl"),
    _ggml("iq3_s", 256, 110, "iq4_nl"),
    _ggml("iq3_xxs", 256, 98, "iq4_nl"),
    _ggml("iq2_s", 256, 82, "iq4_nl"),
    _ggml("iq2_xs", 256, 74, "iq4_nl"),
    _ggml("iq2_xxs", 256, 66, "iq4_nl"),
    _ggml("iq1_m", 256, 56, "iq4_nl"),
    _ggml("iq1_s", 256, 50, "iq4_nl"),
)  # fmt: skip

WEIGHT_FORMATS: Mapping[str, WeightFormat] = {entry.name: entry for entry in _TABLE}
ALIASES: Mapping[str, str] = {
    "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "f32": "fp32", "f16": "fp16", "half": "fp16",
    "float8_e4m3fn": "fp8", "fp8_e4m3": "fp8", "int8": "int8_channel", "int4": "int4_g128", "awq": "awq_int4_g128",
    "gptq": "gptq_int4_g128", "fp8_block": "fp8_block128",
}  # fmt: skip


def weight_format(name: str) -> WeightFormat:
    """The format of this name, or of this other spelling of it.

    Raises:
        KvcalcError: no such format.
    """
    key = name.lower().removeprefix("torch.")
    found = WEIGHT_FORMATS.get(ALIASES.get(key, key))
    if found is None:
        near = did_you_mean(key, [*WEIGHT_FORMATS, *ALIASES])
        raise usage_error(f"{name!r} is no weight format", help=near or f"one of {', '.join(WEIGHT_FORMATS)}")
    return found
