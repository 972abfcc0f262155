"""Streaming decode over 4-bit K and V in groups of 32 or 64 along the head, with fp16 scales.

What keeps the arithmetic under the memory's time:

- Codes become fp16 by one bit operation per two: a masked nibble *is* a subnormal fp16, code x 2^-24 (or x 2^-20
  for the upper nibble of a byte), which the tensor cores multiply exactly. The power of two goes into the scale.
- Four codes share 16 bits so that each nibble plane is a contiguous quarter of the head: unit u of a row holds the
  elements u, u + D/4, u + D/2, u + 3D/4. A quarter never straddles a group.
- A group's scale belongs to one token: scores are summed group by group, each times its scale, and probabilities
  are multiplied by V's scale once per group. No element is ever multiplied.
- Tokens stand along the tensor cores' rows (16) and query heads along their columns (8), so that eight query heads
  waste nothing.
- Codes stand for code - 8 (times scale) or, with a zero point, for scale x code + zero. What the offset adds is one
  term per token and group: sum(q) for scores, sum(p) for the output. V's codes are centred before they are summed,
  because tensor cores truncate: a mean of 8 would drift.
"""

# Triton's own types stand for Python's.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def planes(x, ASM: tl.constexpr):
    """The four codes of each 16-bit unit, as fp16: (c0 x 2^-24, c1 x 2^-20, c2 x 2^-24, c3 x 2^-20)."""
    if ASM:
        return tl.inline_asm_elementwise(
            """{
            .reg .b32 t;
            shr.u32 t, $4, 8;
            and.b32 $0, $4, 0x000f000f;
            and.b32 $1, $4, 0x00f000f0;
            and.b32 $2, t, 0x000f000f;
            and.b32 $3, t, 0x00f000f0;
            }""",
            "=&r,=&r,=&r,=&r,r",
            [x],
            dtype=(tl.float16, tl.float16, tl.float16, tl.float16),
            is_pure=True,
            pack=2,
        )
    return (
        (x & 0x000F).to(tl.float16, bitcast=True),
        (x & 0x00F0).to(tl.float16, bitcast=True),
        ((x >> 8) & 0x000F).to(tl.float16, bitcast=True),
        ((x >> 8) & 0x00F0).to(tl.float16, bitcast=True),
    )


@triton.jit
def _centred(x, UPPER: tl.constexpr, ASM: tl.constexpr):
    """(code - 8), in the plane's own power of two: 8 x 2^-24 is fp16 0x0008, 8 x 2^-20 is 0x0080."""
    if ASM:
        if UPPER:
            return tl.inline_asm_elementwise(
                "{ .reg .b32 c; mov.b32 c, 0x00800080; sub.f16x2 $0, $1, c; }",
                "=r,r", [x], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
        return tl.inline_asm_elementwise(
            "{ .reg .b32 c; mov.b32 c, 0x00080008; sub.f16x2 $0, $1, c; }",
            "=r,r", [x], dtype=tl.float16, is_pure=True, pack=2,
        )  # fmt: skip
    return x - (tl.full([1, 1], 0x80 if UPPER else 0x08, tl.int16)).to(tl.float16, bitcast=True)


@triton.jit
def _scores(dots, q_sum, scale_ptr, zero_ptr, ZERO: tl.constexpr):
    """One group's share of the scores [BN, GP], from q . code x 2^-24."""
    scale = tl.load(scale_ptr).to(tl.float32)[:, None]
    if ZERO:
        return dots * (scale * 16777216.0) + q_sum[None, :] * tl.load(zero_ptr).to(tl.float32)[:, None]
    return (dots * 16777216.0 - 8.0 * q_sum[None, :]) * scale


@triton.jit
def _weights(p, offset, scale_ptr, zero_ptr, ZERO: tl.constexpr):
    """Probabilities times one group's V scale, and the running sum of what code 8 stands for [GP]."""
    scale = tl.load(scale_ptr).to(tl.float32)
    if ZERO:
        middle = tl.load(zero_ptr).to(tl.float32) + 8.0 * scale
        offset += tl.sum(p * middle[:, None], 0)
    return (p * scale[:, None]).to(tl.float16), offset


@triton.jit
def int4_split_kernel(
    q_ptr,  # [BH, G, D] fp16
    k_ptr,  # [BH, C, D / 4] int16, four codes per unit
    v_ptr,  # the same
    k_scale_ptr,  # [BH, D / GS, C] fp16
    k_zero_ptr,  # the same, where ZERO
    v_scale_ptr,
    v_zero_ptr,
    out_ptr,  # [BH, SLOTS, GP, D] fp32
    lse_ptr,  # [BH, SLOTS, GP] fp32, base 2
    scale_log2,
    last,
    rows,  # BH
    row_blocks,  # blocks of BN tokens per row
    share,  # blocks per program
    slots,
    capacity,  # C, multiple of BN
    G: tl.constexpr,
    GP: tl.constexpr,  # query heads, at least 8
    D: tl.constexpr,
    GROUPS: tl.constexpr,  # D / GS: 2 or 4
    BN: tl.constexpr,
    ZERO: tl.constexpr,
    ASM: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    U: tl.constexpr = D // 4
    FOUR: tl.constexpr = GROUPS == 4
    g, u, n = tl.arange(0, GP), tl.arange(0, U), tl.arange(0, BN)
    block = program * share
    end = tl.minimum(block + share, rows * row_blocks)
    while block < end:
        row = block // row_blocks
        stretch_end = tl.minimum(end, (row + 1) * row_blocks)
        start = (block - row * row_blocks) * BN
        stop = tl.minimum(start + (stretch_end - block) * BN, last)
        bh = row.to(tl.int64)
        q_at, inside = q_ptr + bh * G * D + g[None, :] * D + u[:, None], g[None, :] < G
        q0 = tl.load(q_at, mask=inside, other=0.0)  # [U, GP]
        q1 = tl.load(q_at + U, mask=inside, other=0.0)
        q2 = tl.load(q_at + 2 * U, mask=inside, other=0.0)
        q3 = tl.load(q_at + 3 * U, mask=inside, other=0.0)
        sum0, sum1 = tl.sum(q0.to(tl.float32), 0), tl.sum(q1.to(tl.float32), 0)
        sum2, sum3 = tl.sum(q2.to(tl.float32), 0), tl.sum(q3.to(tl.float32), 0)
        q1 = (q1.to(tl.float32) * 0.0625).to(tl.float16)  # upper nibbles count sixteenfold
        q3 = (q3.to(tl.float32) * 0.0625).to(tl.float16)
        k_base, v_base, meta = k_ptr + bh * capacity * U, v_ptr + bh * capacity * U, bh * GROUPS * capacity
        top = tl.full([GP], float("-inf"), tl.float32)
        total = tl.zeros([GP], tl.float32)
        a0 = tl.zeros([U, GP], tl.float32)
        a1 = tl.zeros([U, GP], tl.float32)
        a2 = tl.zeros([U, GP], tl.float32)
        a3 = tl.zeros([U, GP], tl.float32)
        o0 = tl.zeros([GP], tl.float32)
        o1 = tl.zeros([GP], tl.float32)
        o2 = tl.zeros([GP], tl.float32)
        o3 = tl.zeros([GP], tl.float32)
        for t in tl.range(start, stop, BN, num_stages=STAGES):
            t = tl.multiple_of(t, BN)
            units = (t + n)[:, None].to(tl.int64) * U + u[None, :]
            ks, kz = k_scale_ptr + meta + t + n, k_zero_ptr + meta + t + n
            y0, y1, y2, y3 = planes(tl.load(k_base + units), ASM)  # [BN, U]
            if FOUR:
                s = _scores(tl.dot(y0, q0), sum0, ks, kz, ZERO)
                s += _scores(tl.dot(y1, q1), sum1, ks + capacity, kz + capacity, ZERO)
                s += _scores(tl.dot(y2, q2), sum2, ks + 2 * capacity, kz + 2 * capacity, ZERO)
                s += _scores(tl.dot(y3, q3), sum3, ks + 3 * capacity, kz + 3 * capacity, ZERO)
            else:
                s = _scores(tl.dot(y1, q1, tl.dot(y0, q0)), sum0 + sum1, ks, kz, ZERO)
                s += _scores(tl.dot(y3, q3, tl.dot(y2, q2)), sum2 + sum3, ks + capacity, kz + capacity, ZERO)
            s = tl.where((t + n < last)[:, None], s * scale_log2, float("-inf"))  # [BN, GP]
            new_top = tl.maximum(top, tl.max(s, 0))
            p = tl.exp2(s - new_top[None, :])
            shrink = tl.exp2(top - new_top)
            total = total * shrink + tl.sum(p, 0)
            vs, vz = v_scale_ptr + meta + t + n, v_zero_ptr + meta + t + n
            # Loaded as [U, BN]: the transposition is left to the load from shared memory.
            z0, z1, z2, z3 = planes(tl.load(v_base + (t + n)[None, :].to(tl.int64) * U + u[:, None]), ASM)
            w0, o0 = _weights(p, o0 * shrink, vs, vz, ZERO)
            a0 = tl.dot(_centred(z0, False, ASM), w0, a0 * shrink[None, :])
            if FOUR:
                w1, o1 = _weights(p, o1 * shrink, vs + capacity, vz + capacity, ZERO)
                a1 = tl.dot(_centred(z1, True, ASM), w1, a1 * shrink[None, :])
                w2, o2 = _weights(p, o2 * shrink, vs + 2 * capacity, vz + 2 * capacity, ZERO)
                a2 = tl.dot(_centred(z2, False, ASM), w2, a2 * shrink[None, :])
                w3, o3 = _weights(p, o3 * shrink, vs + 3 * capacity, vz + 3 * capacity, ZERO)
                a3 = tl.dot(_centred(z3, True, ASM), w3, a3 * shrink[None, :])
            else:
                a1 = tl.dot(_centred(z1, True, ASM), w0, a1 * shrink[None, :])
                w2, o2 = _weights(p, o2 * shrink, vs + capacity, vz + capacity, ZERO)
                a2 = tl.dot(_centred(z2, False, ASM), w2, a2 * shrink[None, :])
                a3 = tl.dot(_centred(z3, True, ASM), w2, a3 * shrink[None, :])
            top = new_top
        if not FOUR:
            o1, o3 = o0, o2
        inverse = 1.0 / total
        place = (bh * slots + program - row * row_blocks // share) * GP + g
        out = out_ptr + place[None, :] * D + u[:, None]
        tl.store(out, (a0 * 16777216.0 + o0[None, :]) * inverse[None, :])
        tl.store(out + U, (a1 * 1048576.0 + o1[None, :]) * inverse[None, :])
        tl.store(out + 2 * U, (a2 * 16777216.0 + o2[None, :]) * inverse[None, :])
        tl.store(out + 3 * U, (a3 * 1048576.0 + o3[None, :]) * inverse[None, :])
        tl.store(lse_ptr + place, top + tl.log2(total))
        block = stretch_end
