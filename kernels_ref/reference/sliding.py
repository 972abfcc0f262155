"""Sliding window: token i sees tokens i - W + 1 .. i, so the newest W rows are kept."""

from __future__ import annotations

import torch

from kernels_ref.reference.common import Random, Run, causal_mask
from kernels_ref.reference.headed import run_masked
from kvcalc.attention.sliding import Sliding


def run(kind: Sliding, tokens: int, random: Random) -> Run:
    at = torch.arange(tokens, device=random.device)
    near = at[:, None] - at[None, :] < kind.sliding_window
    return run_masked(kind, tokens, random, causal_mask(tokens, random.device) & near)
