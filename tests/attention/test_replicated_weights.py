"""Which weights more TP ranks than units may hold copies of; of all others a rank has its own units, or none fits.

vLLM 0.33.0 layers/linear.py QKVParallelLinear (num_kv_head_replicas) and mamba_mixer2.py (groups are repeated so that
every rank's heads have one).
"""

from __future__ import annotations

import pytest
from factories import chunked, full, gated_delta_net, mamba2, mla, sliding

from kvcalc.attention import Attention

HEADS_OF_K_AND_V = {"k_proj.weight", "v_proj.weight"}
KINDS = {
    "full": (full(), HEADS_OF_K_AND_V),
    "biased": (full(attention_bias=True), HEADS_OF_K_AND_V | {"k_proj.bias", "v_proj.bias"}),
    "sliding": (sliding(), HEADS_OF_K_AND_V),
    "chunked": (chunked(), HEADS_OF_K_AND_V),
    "mla": (mla(), set()),
    "gated_delta_net": (gated_delta_net(), set()),
    "mamba2": (
        mamba2(use_bias=True, use_conv_bias=True),
        {"in_proj.b_c.weight", "in_proj.b_c.bias", "conv1d.b_c.weight", "conv1d.b_c.bias"},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_heads_of_k_and_v_and_groups_of_mamba2_replicate_and_nothing_else(name: str) -> None:
    kind: Attention = KINDS[name][0]
    found = {tensor.name for tensor in kind.tensors(72) if tensor.split is not None and tensor.split.replicates}
    assert found == KINDS[name][1]
