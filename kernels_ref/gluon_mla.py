"""Absorbed MLA decode for many heads on Hopper, where the tensor cores bind rather than the memory.

A program holds 64 heads. Its three partitions run side by side:

- a loader fills two slots of 64 latent rows by TMA, each in three pieces that are freed one by one;
- the first warpgroup computes scores and softmax, and the left half of the output;
- the second warpgroup computes the right half of the output from the probabilities it is handed, as soon as the next
  block's scores are done: so the tensor cores have its work, and only its, while the first one exponentiates.

The latent is read once for scores and output. Scores read both operands from shared memory and need its whole bandwidth
(2 x 64 x 16 x 2 B in the 32 cycles of a 64 x 64 x 16 product: 128 B a cycle), so beside the right half they would slow
each other down; the rotary part of the queries is kept in registers. An arrival at a barrier first waits for all warps
of its partition, so what they wrote or read is done. Written in Gluon, Triton's explicit dialect (measured with Triton
3.6); Hopper only.
"""

# Triton's own types stand for Python's.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

tma_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
"""Its name since Triton 3.7, and before."""


@gluon.jit
def _loader(
    q_wide, kv_wide, kv_rope, qa, qb, ka, kb, kr,
    q_full, q_empty, a_full, b_full, r_full, a_empty, b_empty, r_empty,
    first, end, row_blocks, capacity, head0,
    H: gl.constexpr, BN: gl.constexpr, HALF: gl.constexpr, ROPE: gl.constexpr,
):  # fmt: skip
    i = 0
    segment = 0
    block = first
    while block < end:
        row = block // row_blocks
        stop = gl.minimum(end, (row + 1) * row_blocks)
        mbarrier.wait(q_empty, (segment & 1) ^ 1)
        mbarrier.expect(q_full, 64 * 2 * HALF * 2)
        tma_load(q_wide, [row * H + head0, 0], q_full, qa)
        tma_load(q_wide, [row * H + head0, HALF], q_full, qb)
        token = row * capacity + (block - row * row_blocks) * BN
        for _ in range(block, stop):
            s = i % 2
            phase = ((i // 2) & 1) ^ 1
            mbarrier.wait(r_empty.index(s), phase)
            mbarrier.expect(r_full.index(s), BN * ROPE * 2)
            tma_load(kv_rope, [token, 2 * HALF], r_full.index(s), kr.index(s))
            mbarrier.wait(a_empty.index(s), phase)
            mbarrier.expect(a_full.index(s), BN * HALF * 2)
            tma_load(kv_wide, [token, 0], a_full.index(s), ka.index(s))
            mbarrier.wait(b_empty.index(s), phase)
            mbarrier.expect(b_full.index(s), BN * HALF * 2)
            tma_load(kv_wide, [token, HALF], b_full.index(s), kb.index(s))
            token += BN
            i += 1
        segment += 1
        block = stop


@gluon.jit
def _left(
    q_ptr, out_ptr, lse_ptr, qa, qb, ka, kb, kr, p_smem, alpha_smem,
    q_full, q_empty, a_full, b_full, r_full, a_empty, r_empty, p_full, p_empty, scored,
    first, end, row_blocks, share, slots, program, head0, last, scale_log2,
    H: gl.constexpr, BN: gl.constexpr, HALF: gl.constexpr, ROPE: gl.constexpr,
):  # fmt: skip
    s_layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BN, 16])
    o_layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, HALF, 16])
    s_rows: gl.constexpr = gl.SliceLayout(1, s_layout)
    s_cols: gl.constexpr = gl.SliceLayout(0, s_layout)
    o_rows: gl.constexpr = gl.SliceLayout(1, o_layout)
    o_cols: gl.constexpr = gl.SliceLayout(0, o_layout)
    W: gl.constexpr = 2 * HALF + ROPE
    q_layout: gl.constexpr = gl.DotOperandLayout(0, s_layout, 2)
    i = 0
    handed = 0
    segment = 0
    block = first
    while block < end:
        row = block // row_blocks
        stop = gl.minimum(end, (row + 1) * row_blocks)
        top = gl.full([64], float("-inf"), gl.float32, s_rows)
        total = gl.zeros([64], gl.float32, s_rows)
        acc = gl.zeros([64, HALF], gl.float32, o_layout)
        q_line = q_ptr + (row * H + head0).to(gl.int64) * W + 2 * HALF
        q_heads = gl.arange(0, 64, gl.SliceLayout(1, q_layout))
        qr = gl.load(q_line + q_heads[:, None] * W + gl.arange(0, ROPE, gl.SliceLayout(0, q_layout))[None, :])
        mbarrier.wait(q_full, segment & 1)
        token = (block - row * row_blocks) * BN
        for j in range(block, stop):
            slot = i % 2
            phase = (i // 2) & 1
            zero = gl.zeros([64, BN], gl.float32, s_layout)
            mbarrier.wait(r_full.index(slot), phase)
            part = warpgroup_mma(qr, kr.index(slot).permute((1, 0)), zero, use_acc=False, is_async=True)
            mbarrier.wait(a_full.index(slot), phase)
            part = warpgroup_mma(qa, ka.index(slot).permute((1, 0)), part, is_async=True)
            mbarrier.wait(b_full.index(slot), phase)
            part = warpgroup_mma(qb, kb.index(slot).permute((1, 0)), part, is_async=True)
            s = warpgroup_mma_wait(0, [part])
            mbarrier.arrive(r_empty.index(slot))
            mbarrier.arrive(scored, pred=j > block)
            if token + BN > last:
                n = token + gl.arange(0, BN, s_cols)
                s = gl.where((n < last)[None, :], s, float("-inf"))
            new_top = gl.maximum(top, gl.max(s, 1) * scale_log2)
            p = gl.exp2(s * scale_log2 - new_top[:, None])
            alpha = gl.exp2(top - new_top)
            top = new_top
            p16 = p.to(gl.bfloat16)
            half = handed & 1
            mbarrier.wait(p_empty.index(half), ((handed >> 1) & 1) ^ 1)
            p_smem.index(half).store(p16)
            alpha_smem.index(half).store(alpha)
            fence_async_shared()
            mbarrier.arrive(p_full.index(half))
            handed += 1
            acc = acc * gl.convert_layout(alpha, o_rows)[:, None]
            p_operand = gl.convert_layout(p16, gl.DotOperandLayout(0, o_layout, 2))
            wait_acc = warpgroup_mma(p_operand, ka.index(slot), acc, is_async=True)
            total = total * alpha + gl.sum(p, 1)
            acc = warpgroup_mma_wait(0, [wait_acc])
            mbarrier.arrive(a_empty.index(slot))
            token += BN
            i += 1
        mbarrier.arrive(q_empty)
        mbarrier.arrive(scored)
        inverse = 1.0 / total
        half = handed & 1
        mbarrier.wait(p_empty.index(half), ((handed >> 1) & 1) ^ 1)
        alpha_smem.index(half).store(inverse)
        mbarrier.arrive(p_full.index(half))
        handed += 1
        place = (row.to(gl.int64) * slots + program - row * row_blocks // share) * H + head0
        heads = gl.arange(0, 64, o_rows)
        columns = gl.arange(0, HALF, o_cols)
        acc = acc * gl.convert_layout(inverse, o_rows)[:, None]
        gl.store(out_ptr + (place + heads)[:, None] * (2 * HALF) + columns[None, :], acc)
        gl.store(lse_ptr + place + gl.arange(0, 64, s_rows), top + gl.log2(total))
        segment += 1
        block = stop


@gluon.jit
def _right(
    out_ptr, kb, p_smem, alpha_smem, b_empty, p_full, p_empty, scored,
    first, end, row_blocks, share, slots, program, head0,
    H: gl.constexpr, HALF: gl.constexpr,
):  # fmt: skip
    o_layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, HALF, 16])
    o_rows: gl.constexpr = gl.SliceLayout(1, o_layout)
    o_cols: gl.constexpr = gl.SliceLayout(0, o_layout)
    i = 0
    handed = 0
    block = first
    while block < end:
        row = block // row_blocks
        stop = gl.minimum(end, (row + 1) * row_blocks)
        acc = gl.zeros([64, HALF], gl.float32, o_layout)
        for _ in range(block, stop):
            half = handed & 1
            mbarrier.wait(p_full.index(half), (handed >> 1) & 1)
            acc = acc * alpha_smem.index(half).load(o_rows)[:, None]
            mbarrier.wait(scored, i & 1)
            wait_acc = warpgroup_mma(p_smem.index(half), kb.index(i % 2), acc, is_async=True)
            acc = warpgroup_mma_wait(0, [wait_acc])
            mbarrier.arrive(p_empty.index(half))
            mbarrier.arrive(b_empty.index(i % 2))
            handed += 1
            i += 1
        half = handed & 1
        mbarrier.wait(p_full.index(half), (handed >> 1) & 1)
        acc = acc * alpha_smem.index(half).load(o_rows)[:, None]
        mbarrier.arrive(p_empty.index(half))
        handed += 1
        place = (row.to(gl.int64) * slots + program - row * row_blocks // share) * H + head0
        columns = HALF + gl.arange(0, HALF, o_cols)
        gl.store(out_ptr + (place + gl.arange(0, 64, o_rows))[:, None] * (2 * HALF) + columns[None, :], acc)
        block = stop


@gluon.jit
def mla_hopper_kernel(
    q_ptr,  # q [B * H, RANK + ROPE], bf16
    q_wide,  # descriptors over q and the latent [B * C, RANK + ROPE], bf16
    kv_wide,
    kv_rope,
    out_ptr,  # [B, SLOTS, H, RANK] fp32
    lse_ptr,  # [B, SLOTS, H] fp32, base 2
    scale_log2,
    last,
    rows,  # B
    row_blocks,  # blocks of BN tokens per row
    share,  # blocks per program
    slots,
    capacity,  # C, multiple of BN
    H: gl.constexpr,
    RANK: gl.constexpr,
    ROPE: gl.constexpr,
    BN: gl.constexpr,
):
    HALF: gl.constexpr = RANK // 2
    head0 = gl.program_id(0) * 64
    program = gl.program_id(1)
    first = program * share
    end = gl.minimum(first + share, rows * row_blocks)

    qa = gl.allocate_shared_memory(gl.bfloat16, [64, HALF], q_wide.layout)
    qb = gl.allocate_shared_memory(gl.bfloat16, [64, HALF], q_wide.layout)
    ka = gl.allocate_shared_memory(gl.bfloat16, [2, BN, HALF], kv_wide.layout)
    kb = gl.allocate_shared_memory(gl.bfloat16, [2, BN, HALF], kv_wide.layout)
    kr = gl.allocate_shared_memory(gl.bfloat16, [2, BN, ROPE], kv_rope.layout)
    p_layout: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    p_smem = gl.allocate_shared_memory(gl.bfloat16, [2, 64, BN], p_layout)
    alpha_smem = gl.allocate_shared_memory(gl.float32, [2, 64], gl.SwizzledSharedLayout(1, 1, 1, [0]))

    q_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    p_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    p_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    scored = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(scored, count=1)
    a_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    b_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    r_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    a_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    b_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    r_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_full, count=1)
    mbarrier.init(q_empty, count=1)
    for slot in gl.static_range(2):
        mbarrier.init(p_full.index(slot), count=1)
        mbarrier.init(p_empty.index(slot), count=1)
        mbarrier.init(a_full.index(slot), count=1)
        mbarrier.init(b_full.index(slot), count=1)
        mbarrier.init(r_full.index(slot), count=1)
        mbarrier.init(a_empty.index(slot), count=1)
        mbarrier.init(b_empty.index(slot), count=1)
        mbarrier.init(r_empty.index(slot), count=1)
    fence_async_shared()

    gl.warp_specialize(
        [
            (
                _left,
                (
                    q_ptr, out_ptr, lse_ptr, qa, qb, ka, kb, kr, p_smem, alpha_smem,
                    q_full, q_empty, a_full, b_full, r_full, a_empty, r_empty, p_full, p_empty, scored,
                    first, end, row_blocks, share, slots, program, head0, last, scale_log2, H, BN, HALF, ROPE,
                ),
            ),
            (
                _right,
                (
                    out_ptr, kb, p_smem, alpha_smem, b_empty, p_full, p_empty, scored,
                    first, end, row_blocks, share, slots, program, head0, H, HALF,
                ),
            ),
            (
                _loader,
                (
                    q_wide, kv_wide, kv_rope, qa, qb, ka, kb, kr,
                    q_full, q_empty, a_full, b_full, r_full, a_empty, b_empty, r_empty,
                    first, end, row_blocks, capacity, head0, H, BN, HALF, ROPE,
                ),
            ),
        ],
        [4, 1],
        [216, 24],
    )  # fmt: skip
