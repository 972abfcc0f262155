"""Full attention: every token's K and V are kept (MHA, MQA, GQA; V may be narrower than K)."""

from __future__ import annotations

from kernels_ref.reference.common import Random, Run, causal_mask
from kernels_ref.reference.headed import run_masked
from kvcalc.attention.full import Full


def run(kind: Full, tokens: int, random: Random) -> Run:
    return run_masked(kind, tokens, random, causal_mask(tokens, random.device))
