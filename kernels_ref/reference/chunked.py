"""Chunked attention: token i sees the tokens of its own chunk up to itself.

What is live at S tokens is the current chunk's part; kvcalc counts the room of the fullest moment, min(S, C), which
is reached at the end of a chunk. The reference therefore runs up to the last full chunk where there is one.
"""

from __future__ import annotations

import torch

from kernels_ref.reference.common import Random, Run, causal_mask
from kernels_ref.reference.headed import run_masked
from kvcalc.attention.chunked import Chunked


def run(kind: Chunked, tokens: int, random: Random) -> Run:
    size = kind.attention_chunk_size
    tokens = tokens if tokens < size else tokens // size * size
    chunk = torch.arange(tokens, device=random.device) // size
    same = chunk[:, None] == chunk[None, :]
    return run_masked(kind, tokens, random, causal_mask(tokens, random.device) & same)
