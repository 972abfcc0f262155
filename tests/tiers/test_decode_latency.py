"""Kernels that others measured against our bounds.

An extract of InferSim's decode-attention tables (github.com/alibaba/InferSim, bench_data; their harness was not seen).
The whole of it is compared by benchmarks/decode_latency.py; docs/bandwidth.md shows the result.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import pytest
from traffic_models import gqa, mla

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from decode_latency import bound, read

# gpu, kernel, batch, tokens, measured us
EXTRACT = [
    ("h800", gqa(128, 2), 64, 131072, 2755.888),
    ("h800", gqa(128, 2), 128, 65536, 2732.15),
    ("h800", gqa(128, 2), 512, 8192, 1403.813),
    ("h800", gqa(16, 2), 16, 131072, 686.864),
    ("h800", gqa(16, 2), 32, 16384, 183.984),
    ("h20", mla(128), 64, 8192, 1361.822),
    ("h20", mla(128), 128, 65536, 21496.396),
    ("h20", mla(128), 64, 131072, 21506.971),
]


@pytest.mark.parametrize(("gpu", "kind", "batch", "tokens", "microseconds"), EXTRACT)
def test_no_kernel_beats_its_bound(gpu: str, kind: object, batch: int, tokens: int, microseconds: float) -> None:
    limit = bound(gpu, kind, batch, tokens, "bf16", "bf16")  # type: ignore[arg-type]
    assert 1 <= microseconds * 1e-6 / limit.seconds < 1.6


def test_the_limiting_resource_flips() -> None:
    """H20 has 148 TFLOP/s for 4 TB/s: 37 FLOP/B. 128 query heads over 2 KV heads need 64 FLOP/B, MLA 241.7.

    Measured on H20, MLA with 128 heads moves 449 GB/s, 11 % of the bandwidth, at 108.6 TFLOP/s, 73 % of the peak.
    On H800 (295 FLOP/B) both are bound by memory.
    """
    for kind in (gqa(128, 2), mla(128)):
        assert bound("h20", kind, 128, 65536, "bf16", "bf16").bound_by == "compute"
        assert bound("h800", kind, 128, 65536, "bf16", "bf16").bound_by == "memory"
    assert bound("h20", gqa(16, 2), 128, 65536, "bf16", "bf16").bound_by == "memory"
    limit = bound("h20", mla(128), 128, 65536, "bf16", "bf16")
    assert float(limit.bytes) / 21496.396e-6 / 4e12 == pytest.approx(0.112, abs=0.001)
    assert limit.flops / 21496.396e-6 / 148e12 == pytest.approx(0.734, abs=0.001)


def test_every_measurement() -> None:
    """The whole table, where its file is at hand (KVCALC_DECODE_LATENCY)."""
    path = os.environ.get("KVCALC_DECODE_LATENCY")
    if not path:
        pytest.skip("set KVCALC_DECODE_LATENCY to the table's path")
    with open(path, encoding="utf-8", newline="") as handle:
        found = list(read(csv.DictReader(handle)))
    assert len(found) > 300
    assert [each for each in found if each.ratio < 1] == []
