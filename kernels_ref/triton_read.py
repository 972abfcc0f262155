"""Reads a buffer and nothing else: the ceiling that streaming kernels are measured against."""

# Triton's own types stand for Python's.
# mypy: ignore-errors, allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def read_kernel(x_ptr, out_ptr, count, BLOCK: tl.constexpr, UNROLL: tl.constexpr):
    """Sums [count] fp32 elements, each program every n-th stretch of BLOCK x UNROLL."""
    program, step = tl.program_id(0), tl.num_programs(0)
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(program, count // (BLOCK * UNROLL), step):
        for part in tl.static_range(UNROLL):
            total += tl.load(x_ptr + i.to(tl.int64) * (BLOCK * UNROLL) + part * BLOCK + tl.arange(0, BLOCK))
    tl.store(out_ptr + program, tl.sum(total))
