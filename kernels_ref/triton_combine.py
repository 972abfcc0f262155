"""Joins the partial outputs of a sequence that was cut: the softmax over all stretches, from their log-sum-exps."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine_kernel(
    part_ptr,  # [BH, SLOTS, GP, DV] fp32, each normalised over its own stretch
    lse_ptr,  # [BH, SLOTS, GP] fp32, base 2
    out_ptr,  # [BH, G, DV]
    row_blocks,
    share,
    slots,
    G: tl.constexpr,
    GP: tl.constexpr,
    DV: tl.constexpr,
    SP: tl.constexpr,  # slots, rounded up to a power of two
    BD: tl.constexpr,
):
    place = tl.program_id(0)  # bh * G + g
    bh, g = place // G, place % G
    s, d = tl.arange(0, SP), tl.program_id(1) * BD + tl.arange(0, BD)
    # The programs that touched this row: those whose share holds its first to its last block.
    used = ((bh + 1) * row_blocks - 1) // share - bh * row_blocks // share + 1
    row = (bh.to(tl.int64) * slots + s) * GP + g
    lse = tl.load(lse_ptr + row, mask=s < used, other=float("-inf"))
    weight = tl.exp2(lse - tl.max(lse, 0))
    weight /= tl.sum(weight, 0)
    part = tl.load(part_ptr + row[:, None] * DV + d[None, :], mask=(s < used)[:, None], other=0.0)
    result = tl.sum(part * weight[:, None], 0)
    tl.store(out_ptr + place.to(tl.int64) * DV + d, result.to(out_ptr.dtype.element_ty))
