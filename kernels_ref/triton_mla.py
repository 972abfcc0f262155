"""Streaming decode over MLA's latent: each row is read once, as key for all its elements and as value for its rank.

The absorbed form (DeepSeek-V2, arXiv 2405.04434, section 2.1.2): q already holds q_nope W_UK beside q_rope, and
the output is in the latent space, before W_UV.
"""

# Triton's own types stand for Python's.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def mla_split_kernel(
    q_ptr,  # [B, H, RANK + ROPE] bf16
    c_ptr,  # [B, C, RANK + ROPE] bf16
    out_ptr,  # [B, SLOTS, H, RANK] fp32
    lse_ptr,  # [B, SLOTS, H] fp32, base 2
    scale_log2,
    last,
    rows,  # B
    row_blocks,  # blocks of BN tokens per row
    share,  # blocks per program
    slots,
    capacity,  # C, multiple of BN
    H: tl.constexpr,
    RANK: tl.constexpr,
    ROPE: tl.constexpr,
    BH: tl.constexpr,  # heads per program, at least 16
    BN: tl.constexpr,
    STAGES: tl.constexpr,
):
    head_block, program = tl.program_id(0), tl.program_id(1)
    W: tl.constexpr = RANK + ROPE
    h = head_block * BH + tl.arange(0, BH)
    r, p, n = tl.arange(0, RANK), tl.arange(0, ROPE), tl.arange(0, BN)
    block = program * share
    end = tl.minimum(block + share, rows * row_blocks)
    while block < end:
        row = block // row_blocks
        stretch_end = tl.minimum(end, (row + 1) * row_blocks)
        start = (block - row * row_blocks) * BN
        stop = tl.minimum(start + (stretch_end - block) * BN, last)
        b = row.to(tl.int64)
        q_base = q_ptr + b * H * W
        q_c = tl.load(q_base + h[:, None] * W + r[None, :], mask=h[:, None] < H, other=0.0)
        q_r = tl.load(q_base + h[:, None] * W + RANK + p[None, :], mask=h[:, None] < H, other=0.0)
        base = c_ptr + b * capacity * W
        top = tl.full([BH], float("-inf"), tl.float32)
        total = tl.zeros([BH], tl.float32)
        acc = tl.zeros([BH, RANK], tl.float32)
        for t in tl.range(start, stop, BN, num_stages=STAGES):
            latent = base + (t + n)[:, None].to(tl.int64) * W
            c = tl.load(latent + r[None, :])  # [BN, RANK]: key and value
            k_r = tl.load(latent + RANK + p[None, :])  # [BN, ROPE]
            s = tl.dot(q_c, c.T)
            s = tl.dot(q_r, k_r.T, s) * scale_log2
            s = tl.where((t + n < last)[None, :], s, float("-inf"))
            new_top = tl.maximum(top, tl.max(s, 1))
            prob = tl.exp2(s - new_top[:, None])
            shrink = tl.exp2(top - new_top)
            total = total * shrink + tl.sum(prob, 1)
            acc = tl.dot(prob.to(c.dtype), c, acc * shrink[:, None])
            top = new_top
        place = (b * slots + program - row * row_blocks // share) * H + h
        tl.store(out_ptr + place[:, None] * RANK + r[None, :], acc / total[:, None], mask=h[:, None] < H)
        tl.store(lse_ptr + place, top + tl.log2(total), mask=h < H)
        block = stretch_end
