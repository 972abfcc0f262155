"""Launches the streaming kernels: how the work is shared out, and with which shapes each kernel runs.

The shapes were chosen by measurement on an H200; any of them computes the same on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kernels_ref import triton_grouped, triton_int4, triton_mla
from kernels_ref.triton_combine import combine_kernel

Launch = Callable[[], None]
"""Runs the prepared kernels once; the output tensor is written in place."""

LOG2_E = 1.4426950408889634


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one kernel is launched."""

    block: int
    """Tokens per step (BN)."""
    warps: int
    stages: int
    per_sm: int
    """Programs per multiprocessor that the work is shared among, all waves together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """`rows` sequences of `row_blocks` blocks, laid end to end and cut into shares of `share` blocks."""

    rows: int
    row_blocks: int
    share: int

    @property
    def programs(self) -> int:
        return -(-self.rows * self.row_blocks // self.share)

    @property
    def slots(self) -> int:
        """Most programs that touch one row."""
        return (self.row_blocks - 2) // self.share + 2 if self.row_blocks > 1 else 1


def share_out(rows: int, tokens: int, block: int, programs: int) -> Shares:
    """Equal shares of whole blocks for about `programs` programs."""
    row_blocks = -(-tokens // block)
    return Shares(rows=rows, row_blocks=row_blocks, share=max(1, -(-rows * row_blocks // programs)))


def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of a CUDA device; 2 elsewhere (interpreter)."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partial:
    """Partial outputs [rows, slots, padded, width] with their log-sum-exps, and the kernel that joins them."""

    shares: Shares
    out: Tensor  # [rows, group, width]
    part: Tensor
    lse: Tensor

    @classmethod
    def of(cls, shares: Shares, out: Tensor, padded: int) -> _Partial:
        size = (shares.rows, shares.slots, padded)
        return cls(
            shares=shares,
            out=out,
            part=torch.empty(*size, out.shape[-1], dtype=torch.float32, device=out.device),
            lse=torch.empty(size, dtype=torch.float32, device=out.device),
        )

    def join(self) -> None:
        rows, group, width = self.out.shape
        slots, padded = self.part.shape[1:3]
        power = triton.next_power_of_2(slots)
        # Many slots mean few rows: then narrow columns give more programs.
        columns = min(width, 128 if slots <= 16 else 32)
        combine_kernel[(rows * group, -(-width // columns))](
            self.part, self.lse, self.out, self.shares.row_blocks, self.shares.share, slots,
            G=group, GP=padded, DV=width, SP=power, STEP=min(32, power), BD=columns, num_warps=2,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedCache:
    """K and V of `rows` = batch x KV heads, as the streaming kernels read them."""

    code: int
    k: Tensor  # [rows, C, D]
    v: Tensor  # [rows, C, DV] in 16 bits, else [rows, C / block, DV, block]
    k_scale: Tensor | None = None  # [rows, C] fp32
    v_scale: Tensor | None = None


def grouped(
    q: Tensor, cache: GroupedCache, out: Tensor, *, first: int, last: int, scale: float, shape: Shape
) -> Launch:
    """Decode over tokens `first`..`last`-1: q [rows, G, D], out [rows, G, DV].

    Raises:
        ValueError: the cache's capacity is no multiple of the block.
    """
    rows, group, width = q.shape
    capacity = cache.k.shape[1]
    if capacity % shape.block:
        raise ValueError(f"a capacity of {capacity} tokens is no multiple of the block of {shape.block}")
    padded = max(16, triton.next_power_of_2(group))
    span = last - first // shape.block * shape.block
    shares = share_out(rows, span, shape.block, shape.per_sm * multiprocessors(q.device))
    partial = _Partial.of(shares, out, padded)
    on_gpu = q.device.type == "cuda"
    k_scale = cache.k_scale if cache.k_scale is not None else partial.lse
    v_scale = cache.v_scale if cache.v_scale is not None else partial.lse

    def launch() -> None:
        triton_grouped.grouped_split_kernel[(shares.programs,)](
            q, cache.k, cache.v, k_scale, v_scale, partial.part, partial.lse, scale * LOG2_E, first, last,
            shares.rows, shares.row_blocks, shares.share, shares.slots, capacity,
            G=group, GP=padded, D=width, DV=out.shape[-1], BN=shape.block, CODE=cache.code, ASM=on_gpu,
            STAGES=shape.stages, num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
        partial.join()

    return launch


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Cache:
    """Codes of 4 bits in groups along the head; `zero` tensors are None where codes are symmetric."""

    k: Tensor  # [rows, C, D / 4] int16: four codes per unit
    v: Tensor
    k_scale: Tensor  # [rows, groups, C] fp16
    v_scale: Tensor
    k_zero: Tensor | None = None
    v_zero: Tensor | None = None


def int4(q: Tensor, cache: Int4Cache, out: Tensor, *, last: int, scale: float, shape: Shape) -> Launch:
    """Decode over 4-bit codes: q [rows, G, D] fp16, out [rows, G, D]."""
    rows, group, width = q.shape
    capacity = cache.k.shape[1]
    padded = max(8, triton.next_power_of_2(group))
    shares = share_out(rows, last, shape.block, shape.per_sm * multiprocessors(q.device))
    partial = _Partial.of(shares, out, padded)
    on_gpu, has_zero = q.device.type == "cuda", cache.k_zero is not None
    k_zero = cache.k_zero if cache.k_zero is not None else cache.k_scale
    v_zero = cache.v_zero if cache.v_zero is not None else cache.v_scale

    def launch() -> None:
        triton_int4.int4_split_kernel[(shares.programs,)](
            q, cache.k, cache.v, cache.k_scale, k_zero, cache.v_scale, v_zero, partial.part, partial.lse,
            scale * LOG2_E, last, shares.rows, shares.row_blocks, shares.share, shares.slots, capacity,
            G=group, GP=padded, D=width, GROUPS=cache.k_scale.shape[1], BN=shape.block, ZERO=has_zero,
            ASM=on_gpu, STAGES=shape.stages, num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
        partial.join()

    return launch


def mla(
    q: Tensor, cache: Tensor, out: Tensor, *, rank: int, last: int, scale: float, shape: Shape, heads_per_program: int
) -> Launch:
    """Absorbed MLA: q [B, H, rank + rope], cache [B, C, rank + rope], out [B, H, rank]."""
    batch, heads, width = q.shape
    head_blocks = -(-heads // heads_per_program)
    programs = shape.per_sm * multiprocessors(q.device) // head_blocks
    shares = share_out(batch, last, shape.block, programs)
    partial = _Partial.of(shares, out, heads)

    def launch() -> None:
        triton_mla.mla_split_kernel[(head_blocks, shares.programs)](
            q, cache, partial.part, partial.lse, scale * LOG2_E, last, shares.rows, shares.row_blocks, shares.share,
            shares.slots, cache.shape[1], H=heads, RANK=rank, ROPE=width - rank, BH=heads_per_program,
            BN=shape.block, STAGES=shape.stages, num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
        partial.join()

    return launch


def mla_hopper(q: Tensor, cache: Tensor, out: Tensor, *, rank: int, last: int, scale: float) -> Launch:
    """Absorbed MLA for many heads on Hopper: q [B, H, rank + rope], cache [B, C, rank + rope], H a multiple of 64.

    Raises:
        ImportError: this Triton has no Gluon.
    """
    from triton.experimental.gluon.language import NVMMASharedLayout
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    from kernels_ref.gluon_mla import mla_hopper_kernel

    batch, heads, width = q.shape
    block = 64
    layout = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    shares = share_out(batch, last, block, multiprocessors(q.device) // (heads // 64))
    partial = _Partial.of(shares, out, heads)
    q2, c2 = q.view(batch * heads, width), cache.view(-1, width)
    descriptors = [
        TensorDescriptor.from_tensor(tensor, [64, columns], layout)
        for tensor, columns in ((q2, rank // 2), (c2, rank // 2), (c2, width - rank))
    ]

    def launch() -> None:
        mla_hopper_kernel[(heads // 64, shares.programs)](
            q2, *descriptors, partial.part, partial.lse, scale * LOG2_E, last, shares.rows, shares.row_blocks,
            shares.share, shares.slots, cache.shape[1], H=heads, RANK=rank, ROPE=width - rank, BN=block, num_warps=4,
        )  # fmt: skip
        partial.join()

    return launch
