"""Step-3 report, tables 2 and 3: FLOPs of the projections around attention and of the feed-forward blocks."""

from __future__ import annotations

import pytest
from traffic_models import workload

from kvcalc.spec.catalog import shipped_model
from kvcalc.traffic import traffic

TABLE = [
    ("deepseek-v3", "2.28e+10", "4.84e+10"),
    ("kimi-k2", "1.23e+10", "4.84e+10"),
    ("qwen3-235b-a22b", "1.34e+10", "2.84e+10"),
    ("qwen3-32b", "1.21e+10", "5.03e+10"),
    ("llama-4-maverick-17b-128e", "6.04e+09", "2.42e+10"),
    ("step3", "2.07e+10", "5.33e+10"),
]


@pytest.mark.parametrize(("name", "linear", "ffn"), TABLE)
def test_projections_and_ffn(name: str, linear: str, ffn: str) -> None:
    parts = {part.component: 0 for part in traffic(shipped_model(name), workload(100)).weights}
    for part in traffic(shipped_model(name), workload(100)).weights:
        parts[part.component] += part.flops
    assert f"{parts['attention']:.2e}" == linear
    assert f"{sum(parts.get(p, 0) for p in ('dense_ffn', 'routed_experts', 'shared_experts')):.2e}" == ffn
