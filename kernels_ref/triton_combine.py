"""Joins the partial outputs of a sequence that was cut: the softmax over all stretches, from their log-sum-exps."""

# Triton's own types stand for Python's.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

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
    STEP: tl.constexpr,  # slots read at a time
    BD: tl.constexpr,
):
    place = tl.program_id(0)  # bh * G + g
    bh, g = place // G, place % G
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    # The programs that touched this row: those whose share holds its first to its last block.
    used = ((bh + 1) * row_blocks - 1) // share - bh * row_blocks // share + 1
    row0 = bh.to(tl.int64) * slots
    s = tl.arange(0, SP)
    lse = tl.load(lse_ptr + (row0 + s) * GP + g, mask=s < used, other=float("-inf"))
    top = tl.max(lse, 0)
    total = tl.sum(tl.exp2(lse - top), 0)
    result = tl.zeros([BD], tl.float32)
    for start in range(0, used, STEP):
        n = start + tl.arange(0, STEP)
        row = (row0 + n) * GP + g
        weight = tl.exp2(tl.load(lse_ptr + row, mask=n < used, other=float("-inf")) - top)
        part = tl.load(part_ptr + row[:, None] * DV + d[None, :], mask=(n < used)[:, None], other=0.0)
        result += tl.sum(part * weight[:, None], 0)
    tl.store(out_ptr + place.to(tl.int64) * DV + d, (result / total).to(out_ptr.dtype.element_ty))
