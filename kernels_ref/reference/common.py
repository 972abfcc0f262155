"""What the references share. Everything is float64 on any device: these files define, they do not race."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One decode step of one layer for one sequence of S tokens."""

    cache: Mapping[str, Tensor]
    """What the layer keeps after S tokens: stream name -> [rows, heads, width], as kvcalc names and shapes it."""
    decoded: Tensor
    """The step's output, computed from the cache alone."""
    expected: Tensor
    """The same, computed without a cache, from all S tokens and by another formula where there is one."""

    @property
    def error(self) -> float:
        """Relative difference of the two."""
        return relative_error(self.decoded, self.expected)


class Random:
    """Fresh normal numbers, reproducible from a seed."""

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.generator = torch.Generator(device="cpu").manual_seed(seed)
        self.device = torch.device(device)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.device)

    def gate(self, *shape: int) -> Tensor:
        """Numbers in (0, 1), towards 1: decay and write strengths."""
        return torch.sigmoid(self(*shape) + 2.0)


def relative_error(out: Tensor, expected: Tensor) -> float:
    """|out - expected| / |expected| in float64; NaN if any element is not finite."""
    difference = torch.linalg.vector_norm(out.double() - expected.double())
    return float(difference / torch.linalg.vector_norm(expected.double()))


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Tensor | None = None) -> Tensor:
    """Softmax attention of each query head: q [H, D], k [N, Hkv, D], v [N, Hkv, DV] -> [H, DV].

    `seen` [N]: which rows take part. Query head h reads KV head h // (H / Hkv).
    """
    group = q.shape[0] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("hd,nhd->hn", q, k) * scale
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return torch.einsum("hn,nhv->hv", scores.softmax(-1), v)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, visible: Tensor) -> Tensor:
    """Whole-sequence attention, expanded: q [S, H, D], k [S, Hkv, D], v [S, Hkv, DV], visible [S, S] -> [S, H, DV]."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    mask = torch.zeros(visible.shape, dtype=q.dtype, device=q.device).masked_fill(~visible, float("-inf"))
    out = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=mask, scale=scale
    )
    return out.transpose(0, 1)


def causal_mask(tokens: int, device: torch.device) -> Tensor:
    """visible[i, j]: token i sees token j <= i."""
    at = torch.arange(tokens, device=device)
    return at[:, None] >= at[None, :]


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Causal depthwise convolution over the whole sequence: x [S, C], weight [C, K] -> [S, C]."""
    kernel = weight.shape[1]
    padded = torch.nn.functional.pad(x.T[None], (kernel - 1, 0))
    return torch.nn.functional.conv1d(padded, weight[:, None, :], groups=x.shape[1])[0].T


def depthwise_step(past: Tensor, newest: Tensor, weight: Tensor) -> Tensor:
    """The same for the newest token alone, from the K - 1 inputs kept: past [K - 1, C], newest [C] -> [C]."""
    return (torch.cat([past, newest[None]]) * weight.T).sum(0)


def last_rows(x: Tensor, rows: int) -> Tensor:
    """The newest rows, zeros before the sequence's start: x [S, ...] -> [rows, ...]."""
    short = max(0, rows - x.shape[0])
    blank = x.new_zeros(short, *x.shape[1:])
    return torch.cat([blank, x[max(0, x.shape[0] - rows) :]])
