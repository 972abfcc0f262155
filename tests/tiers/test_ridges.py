"""Ridge points and unit costs of Step-3's report (arXiv 2507.19427), tables 4 and 5."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kvcalc.roofline import ceilings, gemm_type
from kvcalc.spec.hardware_catalog import find_hardware

# GPU, operands, ratio printed in table 4, price per hour, cost per FLOP and per byte printed in table 5
TABLE = [
    ("h800-sxm", "fp8", 591, "2", "2.80e-19", "1.66e-16"),
    ("h20", "fp8", 74, "0.8", "7.51e-19", "5.56e-17"),
    ("a800-80gb", "bf16", 156, "0.75", "6.68e-19", "1.04e-16"),
    ("ascend-910b", "bf16", 175, "0.67", "6.65e-19", "1.16e-16"),
]
ROUNDED_BANDWIDTH = {"a800-80gb": 2_000_000_000_000}
"""The report rounds 2,039 GB/s to 2,000; the ridge then is 156 and not 153."""
TRUNCATED = {"h800-sxm": "2.81e-19"}
"""2 / 3600 / 1.979e15 = 2.807e-19: the report cuts where it rounds the seven others."""


@pytest.mark.parametrize(("gpu", "dtype", "ratio", "price", "per_flop", "per_byte"), TABLE)
def test_step3_table_4_and_5(gpu: str, dtype: str, ratio: int, price: str, per_flop: str, per_byte: str) -> None:
    limits = ceilings(find_hardware(gpu))
    bandwidth = ROUNDED_BANDWIDTH.get(gpu, limits.bytes_per_s)
    peak = limits.compute(dtype)[1]
    assert round(peak / bandwidth) == ratio
    second = Fraction(price) / 3600
    assert f"{float(second / peak):.2e}" == TRUNCATED.get(gpu, per_flop)
    assert f"{float(second / bandwidth):.2e}" == per_byte


def test_a800_without_rounding() -> None:
    assert round(ceilings(find_hardware("a800-80gb")).ridge("bf16")) == 153


def test_gla_roof_of_an_h100() -> None:
    """GLA (arXiv 2505.21487) prints a roof of about 295 FLOP/B: 989 TFLOP/s / 3.35 TB/s."""
    assert round(ceilings(find_hardware("h100-sxm")).ridge("bf16")) == 295


def test_missing_units_widen() -> None:
    """An A100 has no fp8 unit: fp8 weights are multiplied in bf16. A V100 has no bf16."""
    assert ceilings(find_hardware("a100-80gb")).compute("fp8") == ("bf16", 312 * 10**12)
    assert ceilings(find_hardware("v100-32gb")).compute("bf16")[0] == "fp16"
    assert [gemm_type(name) for name in ("fp8_block128", "awq_int4_g128", "nvfp4", "q4_k")] == [
        "fp8", "bf16", "fp4", "bf16",
    ]  # fmt: skip


def test_fbgemm_multiplies_in_fp8() -> None:
    """vLLM quantization/fbgemm_fp8.py: activations are quantised per token, and apply_fp8_linear multiplies."""
    assert gemm_type("fp8_fbgemm") == "fp8"
