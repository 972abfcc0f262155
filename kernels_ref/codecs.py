"""Quantise and dequantise for each storage format, into storages that hold exactly the format's bytes.

A codec turns one stream, x [rows, heads, width] in floating point, into named tensors and back. Nothing here asks
kvcalc for sizes: that the tensors' storages add up to kvcalc's integer is what `byte_proof` checks.

`bound` is the largest error a codec's own rounding explains, as a share of the largest magnitude in the group that
shares a scale (for formats without a scale: of the element itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kernels_ref.bits import pack_bits, unpack_bits

Parts = Mapping[str, Tensor]

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0


class Codec(Protocol):
    """One storage format of one stream."""

    @property
    def bound(self) -> float:
        """Largest error that rounding explains, as a share of `spread`."""
        ...

    def pack(self, x: Tensor) -> Parts:
        """x [rows, heads, width] -> the stored tensors."""
        ...

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        """The stored tensors -> float32 [rows, heads, width]."""
        ...

    def spread(self, x: Tensor) -> Tensor:
        """What `bound` is a share of, broadcast to x's shape."""
        ...


def own(x: Tensor) -> Tensor:
    """A copy whose storage holds x and nothing else (a slice shares its parent's)."""
    return x.clone(memory_format=torch.contiguous_format)


def by_group(x: Tensor, group: int) -> Tensor:
    """[..., width] -> [..., groups, group], the last group filled up with zeros."""
    short = -x.shape[-1] % group
    return torch.nn.functional.pad(x.float(), (0, short)).unflatten(-1, (-1, group))


def group_spread(x: Tensor, group: int) -> Tensor:
    """The largest magnitude in each element's group: [..., width], as x."""
    grouped = by_group(x, group)
    return grouped.abs().amax(-1, keepdim=True).expand_as(grouped).flatten(-2)[..., : x.shape[-1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Elements in a torch dtype, no metadata (fp8's per-tensor scale is a weight, here 1)."""

    dtype: torch.dtype
    bound: float

    def pack(self, x: Tensor) -> Parts:
        return {"values": own(x.to(self.dtype))}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        return parts["values"].float().view(shape)

    def spread(self, x: Tensor) -> Tensor:
        # Below the smallest normal number the step is constant.
        return x.float().abs().clamp_min(torch.finfo(self.dtype).smallest_normal)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainInteger:
    """N-bit elements without metadata: one step for the whole stream (here for -8 to 8), a weight and not cache."""

    bits: int

    @property
    def step(self) -> float:
        return 16.0 / (1 << self.bits)

    @property
    def bound(self) -> float:
        return 0.5 + 2.0**-16  # half a step, and float32's own rounding of it

    def pack(self, x: Tensor) -> Parts:
        half = 1 << (self.bits - 1)
        codes = (x.float() / self.step).round().clamp(-half, half - 1) + half
        return {"codes": pack_bits(codes, self.bits)}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        count = shape[0] * shape[1] * shape[2]
        return (unpack_bits(parts["codes"], self.bits, count).float() - (1 << (self.bits - 1))).view(shape) * self.step

    def spread(self, x: Tensor) -> Tensor:
        """One step, and what lies beyond the last code."""
        half = (1 << (self.bits - 1)) - 1
        return self.step + 2 * (x.float().abs() - half * self.step).clamp_min(0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """N-bit integers in groups along the width, with a scale and, where `zero`, the value of code 0.

    `group` None: one group per row and head (vLLM's per_token_head).
    """

    bits: int
    group: int | None
    scale_dtype: torch.dtype = torch.float16
    zero: bool = False

    @property
    def bound(self) -> float:
        steps = (1 << self.bits) - 1 if self.zero else 2 * ((1 << (self.bits - 1)) - 1)
        # Scale (over a range of twice the magnitude) and zero point are rounded too.
        return 1.0 / steps + 1.5 * torch.finfo(self.scale_dtype).eps

    def _width(self, x: Tensor) -> int:
        return self.group or x.shape[-1]

    def pack(self, x: Tensor) -> Parts:
        grouped = by_group(x, self._width(x))
        top = (1 << self.bits) - 1
        if self.zero:
            low = grouped.amin(-1).to(self.scale_dtype)
            scale = ((grouped.amax(-1) - low.float()) / top).to(self.scale_dtype)
            base = low.float()
        else:
            low = None
            scale = (grouped.abs().amax(-1) / (top // 2)).to(self.scale_dtype)
            base = -(top // 2 + 1) * scale.float()
        divisor = torch.where(scale.float() == 0, 1.0, scale.float())
        codes = ((grouped - base[..., None]) / divisor[..., None]).round().clamp(0, top)
        parts = {"codes": pack_bits(codes.flatten(-2)[..., : x.shape[-1]], self.bits), "scale": own(scale)}
        return parts if low is None else {**parts, "zero": own(low)}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        codes = unpack_bits(parts["codes"], self.bits, shape[0] * shape[1] * shape[2]).float().view(shape)
        scale = parts["scale"].float()
        base = parts["zero"].float() if self.zero else -float(1 << (self.bits - 1)) * scale
        grouped = by_group(codes, self.group or shape[-1])
        return (grouped * scale[..., None] + base[..., None]).flatten(-2)[..., : shape[-1]]

    def spread(self, x: Tensor) -> Tensor:
        return group_spread(x, self._width(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledFp8:
    """fp8 (e4m3) elements with one scale per group along the width; `group` None: per row and head."""

    group: int | None
    scale_dtype: torch.dtype = torch.float32
    bound: float = 2.0**-4

    def pack(self, x: Tensor) -> Parts:
        grouped = by_group(x, self.group or x.shape[-1])
        scale = (grouped.abs().amax(-1) / E4M3_MAX).clamp_min(1e-20).to(self.scale_dtype)
        codes = (grouped / scale.float()[..., None]).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)
        return {"codes": own(codes.flatten(-2)[..., : x.shape[-1]]), "scale": own(scale)}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        grouped = by_group(parts["codes"].float(), self.group or shape[-1])
        return (grouped * parts["scale"].float()[..., None]).flatten(-2)[..., : shape[-1]]

    def spread(self, x: Tensor) -> Tensor:
        return group_spread(x, self.group or x.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A row in two stretches, each with its own codec, `pad` bytes behind (DeepSeek's latent rows)."""

    at: int
    left: Codec
    right: Codec
    pad: int = 0

    @property
    def bound(self) -> float:
        return max(self.left.bound, self.right.bound)

    def pack(self, x: Tensor) -> Parts:
        left = {f"left_{name}": part for name, part in self.left.pack(x[..., : self.at]).items()}
        right = {f"right_{name}": part for name, part in self.right.pack(x[..., self.at :]).items()}
        blank = torch.zeros(*x.shape[:-1], self.pad, dtype=torch.uint8, device=x.device)
        return {**left, **right, **({"pad": blank} if self.pad else {})}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        def side(prefix: str) -> Parts:
            return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}

        left = self.left.unpack(side("left_"), (*shape[:2], self.at))
        return torch.cat([left, self.right.unpack(side("right_"), (*shape[:2], shape[2] - self.at))], -1)

    def spread(self, x: Tensor) -> Tensor:
        return torch.cat([self.left.spread(x[..., : self.at]), self.right.spread(x[..., self.at :])], -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kivi:
    """KIVI: old rows in N-bit groups, the newest in fp16. Keys are grouped along tokens, values along the width.

    Whole residuals of R key rows are coded at a time; the newest R value rows stay full (arXiv 2402.02750, section 4).
    """

    bits: int
    along_tokens: bool
    group: int = 32
    residual: int = 128

    @property
    def inner(self) -> Grouped:
        return Grouped(bits=self.bits, group=self.group, zero=True)

    @property
    def bound(self) -> float:
        return self.inner.bound

    def _coded(self, rows: int) -> int:
        return rows // self.residual * self.residual if self.along_tokens else max(rows - self.residual, 0)

    def pack(self, x: Tensor) -> Parts:
        old = x[: self._coded(x.shape[0])]
        turned = old.permute(1, 2, 0) if self.along_tokens else old
        return {**self.inner.pack(turned), "tail": x[self._coded(x.shape[0]) :].to(torch.float16).clone()}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        rows, heads, width = shape
        coded = self._coded(rows)
        if self.along_tokens:
            old = self.inner.unpack(parts, (heads, width, coded)).permute(2, 0, 1)
        else:
            old = self.inner.unpack(parts, (coded, heads, width))
        return torch.cat([old, parts["tail"].float()])

    def spread(self, x: Tensor) -> Tensor:
        coded = self._coded(x.shape[0])
        old = x[:coded]
        turned = (
            group_spread(old.permute(1, 2, 0), self.group).permute(2, 0, 1)
            if self.along_tokens
            else group_spread(old, self.group)
        )
        tail = x[coded:].float().abs().clamp_min(torch.finfo(torch.float16).smallest_normal)
        return torch.cat([turned.view(old.shape), tail])
