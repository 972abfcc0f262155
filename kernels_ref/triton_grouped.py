"""Streaming decode over K and V per head: MHA, GQA and MQA, whole or windowed, in bf16, fp8 and int8.

All rows (batch x KV heads) are laid end to end and cut into equal shares of blocks, one share per program, so
that every program streams the same bytes whatever the batch. For each row that a share touches, the program
reads its stretch once, for all the query heads that use it, and leaves a partial output with its log-sum-exp;
`triton_combine` joins the stretches (split over the sequence, as in Flash-Decoding, Dao et al. 2023).

8-bit values are turned into fp16 in registers and their per-token scales are applied to scores and
probabilities, never to elements. V is stored so that tokens, the axis a probability row is contracted over, are
contiguous within a block (as in vLLM's paged V): no transposition of bytes is needed.
"""

# Triton's own types stand for Python's.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

BF16, FP8, INT8 = 0, 1, 2
"""What `CODE` of the kernel means."""


@triton.jit
def int8_to_fp16(x, ASM: tl.constexpr):
    """Signed bytes to fp16, four per register: 0x6400 | u is 1024 + u in fp16, so no conversion unit is asked."""
    if ASM:
        return tl.inline_asm_elementwise(
            """{
            .reg .b32 t, m, c;
            xor.b32 t, $2, 0x80808080;
            mov.b32 m, 0x64646464;
            mov.b32 c, 0x64806480;
            prmt.b32 $0, t, m, 0x4140;
            prmt.b32 $1, t, m, 0x4342;
            sub.f16x2 $0, $0, c;
            sub.f16x2 $1, $1, c;
            }""",
            "=&r,=&r,r",
            [x],
            dtype=tl.float16,
            is_pure=True,
            pack=4,
        )
    return x.to(tl.float16)


@triton.jit
def _half(x, CODE: tl.constexpr, ASM: tl.constexpr):
    if CODE == 2:
        return int8_to_fp16(x, ASM)
    return x.to(tl.float16)


@triton.jit
def grouped_split_kernel(
    q_ptr,  # [BH, G, D]          bf16 (CODE 0) or fp16
    k_ptr,  # [BH, C, D]
    v_ptr,  # [BH, C, DV] for CODE 0, else [BH, C / BN, DV, BN]
    k_scale_ptr,  # [BH, C] fp32  (CODE 1, 2)
    v_scale_ptr,  # [BH, C] fp32
    out_ptr,  # [BH, SLOTS, GP, DV] fp32
    lse_ptr,  # [BH, SLOTS, GP] fp32, base 2
    scale_log2,
    first,  # tokens first..last-1 are attended to
    last,
    rows,  # BH
    row_blocks,  # blocks of BN tokens per row
    share,  # blocks per program
    slots,
    capacity,  # C, multiple of BN
    G: tl.constexpr,
    GP: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    BN: tl.constexpr,
    CODE: tl.constexpr,
    ASM: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    g, d, dv, n = tl.arange(0, GP), tl.arange(0, D), tl.arange(0, DV), tl.arange(0, BN)
    block = program * share
    end = tl.minimum(block + share, rows * row_blocks)
    while block < end:
        row = block // row_blocks
        stretch_end = tl.minimum(end, (row + 1) * row_blocks)
        start = first // BN * BN + (block - row * row_blocks) * BN
        stop = tl.minimum(start + (stretch_end - block) * BN, last)
        bh = row.to(tl.int64)
        q = tl.load(q_ptr + bh * G * D + g[:, None] * D + d[None, :], mask=g[:, None] < G, other=0.0)
        k_base = k_ptr + bh * capacity * D
        v_base = v_ptr + bh * capacity * DV
        top = tl.full([GP], float("-inf"), tl.float32)
        total = tl.zeros([GP], tl.float32)
        acc = tl.zeros([GP, DV], tl.float32)
        for t in tl.range(start, stop, BN, num_stages=STAGES):
            t = tl.multiple_of(t, BN)
            k = tl.load(k_base + (t + n)[:, None].to(tl.int64) * D + d[None, :])  # [BN, D]
            if CODE == 0:
                s = tl.dot(q, k.T)
            else:
                s = tl.dot(q, _half(k, CODE, ASM).T)
            s *= scale_log2
            if CODE != 0:
                s *= tl.load(k_scale_ptr + bh * capacity + t + n)[None, :]
            s = tl.where(((t + n >= first) & (t + n < last))[None, :], s, float("-inf"))
            new_top = tl.maximum(top, tl.max(s, 1))
            p = tl.exp2(s - new_top[:, None])
            shrink = tl.exp2(top - new_top)
            total = total * shrink + tl.sum(p, 1)
            acc *= shrink[:, None]
            if CODE == 0:
                v = tl.load(v_base + (t + n)[:, None].to(tl.int64) * DV + dv[None, :])  # [BN, DV]
                acc = tl.dot(p.to(v.dtype), v, acc)
            else:
                p *= tl.load(v_scale_ptr + bh * capacity + t + n)[None, :]
                v = tl.load(v_base + t.to(tl.int64) * DV + dv[None, :] * BN + n[:, None])  # [BN, DV]
                acc = tl.dot(p.to(tl.float16), _half(v, CODE, ASM), acc)
            top = new_top
        place = (bh * slots + program - row * row_blocks // share) * GP + g
        tl.store(out_ptr + place[:, None] * DV + dv[None, :], acc / total[:, None])
        tl.store(lse_ptr + place, top + tl.log2(total))
        block = stretch_end
