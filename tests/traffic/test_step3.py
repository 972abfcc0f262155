"""Step-3 system report (arXiv 2507.19427), tables 2 and 3: memory access and FLOPs of one decoded token."""

from __future__ import annotations

import pytest
from traffic_models import (
    DEEPSEEK_V3,
    ERNIE_45,
    KIMI_K2,
    LLAMA4_CHUNKED,
    LLAMA4_GLOBAL,
    MINIMAX_FULL,
    MINIMAX_LINEAR,
    PANGU_PRO,
    QWEN3_32B,
    QWEN3_235B,
    STEP_3,
    workload,
)

from kvcalc.spec.model import ModelSpec
from kvcalc.traffic import Traffic, traffic


def step(spec: ModelSpec, tokens: int, dtype: str) -> Traffic:
    return traffic(spec, workload(tokens, dtype))


def work(counted: Traffic, name: str) -> int:
    return sum(
        w.flops * group.layers for group in counted.groups for k in group.kernels for w in k.work if w.name == name
    )


# bytes at 8K and 32K (fp8 KV), FLOPs at 8K and 32K
GQA = [
    (QWEN3_235B, "7.89e+08", "3.15e+09", "2.52e+10", "1.01e+11"),
    (QWEN3_32B, "1.07e+09", "4.29e+09", "1.72e+10", "6.87e+10"),
    (ERNIE_45, "9.06e+08", "3.62e+09", "1.45e+10", "5.80e+10"),
    (PANGU_PRO, "8.05e+08", "3.22e+09", "8.05e+09", "3.22e+10"),
    (STEP_3, "2.56e+08", "1.02e+09", "3.27e+10", "1.31e+11"),
]


@pytest.mark.parametrize(("spec", "bytes8", "bytes32", "flops8", "flops32"), GQA)
def test_grouped_attention(spec: ModelSpec, bytes8: str, bytes32: str, flops8: str, flops32: str) -> None:
    short, long = step(spec, 8192, "fp8"), step(spec, 32768, "fp8")
    assert f"{short.cache_read_bytes:.2e}" == bytes8
    assert f"{long.cache_read_bytes:.2e}" == bytes32
    assert f"{short.attention_flops:.2e}" == flops8
    assert f"{long.attention_flops:.2e}" == flops32


@pytest.mark.parametrize(
    ("spec", "flops8", "flops32"),
    [(DEEPSEEK_V3, "1.47e+11", "5.89e+11"), (KIMI_K2, "7.37e+10", "2.95e+11")],
)
def test_latent_attention(spec: ModelSpec, flops8: str, flops32: str) -> None:
    """The report multiplies the values over rank + rope (576): twice our scores. We count them over the rank (512)."""
    short, long = step(spec, 8192, "fp8"), step(spec, 32768, "fp8")
    assert f"{short.cache_read_bytes:.2e}" == "2.88e+08"
    assert f"{long.cache_read_bytes:.2e}" == "1.15e+09"
    assert f"{2 * work(short, 'scores'):.2e}" == flops8
    assert f"{2 * work(long, 'scores'):.2e}" == flops32
    assert short.attention_flops * (2 * 576) == 2 * work(short, "scores") * (576 + 512)


def test_llama4_maverick() -> None:
    """Global layers in bf16, chunked ones in fp8, as the report assumes."""
    for tokens, size, flops in ((8192, "1.01e+09", "8.05e+09"), (32768, "2.21e+09", "1.41e+10")):
        parts = step(LLAMA4_GLOBAL, tokens, "bf16"), step(LLAMA4_CHUNKED, tokens, "fp8")
        assert f"{sum(part.cache_read_bytes for part in parts):.2e}" == size
        assert f"{sum(part.attention_flops for part in parts):.2e}" == flops


def test_minimax_m1() -> None:
    """The states (fp32) are read and written; the report counts 10 FLOPs per state element where the rule needs 5."""
    for tokens, size, flops in ((8192, "9.23e+08", "3.42e+09"), (32768, "1.93e+09", "1.15e+10")):
        full, linear = step(MINIMAX_FULL, tokens, "bf16"), step(MINIMAX_LINEAR, tokens, "bf16")
        assert f"{float(full.cache_read_bytes + linear.cache_read_bytes + linear.written_bytes):.2e}" == size
        assert f"{full.attention_flops + 2 * linear.attention_flops:.2e}" == flops


def test_arithmetic_intensity() -> None:
    """Section 5.1 of the report, 8-bit KV: MFA 128, Qwen3's GQA 32, DeepSeek-V3's MLA 512 FLOP per byte.

    For MLA the report rounds: its own count is 4 x 128 x 576 / 576 = 512; with values over the rank it is 483.6.
    """
    for spec, published in ((STEP_3, 128), (QWEN3_235B, 32)):
        counted = step(spec, 8192, "fp8")
        assert counted.attention_flops == published * counted.cache_read_bytes
    counted = step(DEEPSEEK_V3, 8192, "fp8")
    assert 2 * work(counted, "scores") == 512 * counted.cache_read_bytes
    assert round(counted.attention_flops / counted.cache_read_bytes, 1) == 483.6
