"""Block formats as their real bytes: GGML's 32-element blocks, NVFP4, and the OCP microscaling formats.

Layouts: ggml/src/ggml-common.h (block_q8_0 ... block_iq4_nl) and ggml-quants.c; OCP Microscaling Formats v1.0,
section 5; NVFP4: e2m1 elements, one e4m3 scale per 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels_ref.bits import pack_bits, unpack_bits
from kernels_ref.codecs import E4M3, E4M3_MAX, Parts, by_group, group_spread, own

IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""kvalues_iq4nl of ggml-common.h."""
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The eight magnitudes of a 4-bit float."""


def nearest(x: Tensor, table: tuple[float, ...]) -> Tensor:
    """Index of the closest entry of an ascending table."""
    values = torch.tensor(table, dtype=torch.float32, device=x.device)
    return torch.bucketize(x, (values[1:] + values[:-1]) / 2)


def _bytes(x: Tensor) -> Tensor:
    """The bytes of a tensor's last axis, in memory order."""
    return x.contiguous().view(torch.uint8)


def _nibbles(codes: Tensor) -> Tensor:
    """[..., 32] codes -> 16 bytes: element j low, element j + 16 high."""
    codes = codes.to(torch.uint8)
    return codes[..., :16] | (codes[..., 16:] << 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ggml:
    """One tensor of blocks [rows, heads, width / 32, bytes per block]."""

    kind: str
    bound: float

    @property
    def has_minimum(self) -> bool:
        return self.kind.endswith("_1")

    def pack(self, x: Tensor) -> Parts:
        blocks = by_group(x, 32)
        largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))  # with its sign
        if self.kind == "q8_0":
            scale = (largest.abs() / 127).to(torch.float16)
            codes = (blocks / _divisor(scale)).round().clamp(-127, 127).to(torch.int8)
            return {"blocks": torch.cat([_bytes(scale), _bytes(codes)], -1)}
        if self.kind == "iq4_nl":
            scale = (largest / IQ4_NL[0]).to(torch.float16)
            codes = nearest((blocks / _divisor(scale)).contiguous(), IQ4_NL)
            return {"blocks": torch.cat([_bytes(scale), _nibbles(codes)], -1)}
        bits = int(self.kind[1])
        top = (1 << bits) - 1
        if self.has_minimum:
            low = blocks.amin(-1, keepdim=True)
            scale = ((blocks.amax(-1, keepdim=True) - low) / top).to(torch.float16)
            codes = ((blocks - low) / _divisor(scale)).round().clamp(0, top).to(torch.int32)
            head = [_bytes(scale), _bytes(low.to(torch.float16))]
        else:
            scale = (largest / -(1 << (bits - 1))).to(torch.float16)
            codes = (blocks / _divisor(scale) + (1 << (bits - 1))).round().clamp(0, top).to(torch.int32)
            head = [_bytes(scale)]
        if bits == 5:  # the fifth bits of the 32 elements, in order
            head.append(pack_bits(codes >> 4, 1).view(*codes.shape[:-1], 4))
        return {"blocks": torch.cat([*head, _nibbles(codes & 15)], -1)}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        blocks = parts["blocks"]
        scale = blocks[..., :2].contiguous().view(torch.float16).float()
        if self.kind == "q8_0":
            return (blocks[..., 2:].contiguous().view(torch.int8).float() * scale).reshape(shape)
        low_bits = blocks[..., -16:]
        codes = torch.cat([low_bits & 15, low_bits >> 4], -1).to(torch.int32)
        if self.kind == "iq4_nl":
            table = torch.tensor(IQ4_NL, dtype=torch.float32, device=blocks.device)
            return (table[codes.long()] * scale).reshape(shape)
        bits = int(self.kind[1])
        if bits == 5:
            fifth = unpack_bits(blocks[..., -20:-16].reshape(-1), 1, codes.numel()).view(codes.shape)
            codes = codes | (fifth << 4)
        if self.has_minimum:
            low = blocks[..., 2:4].contiguous().view(torch.float16).float()
            return (codes * scale + low).reshape(shape)
        return ((codes - (1 << (bits - 1))) * scale).reshape(shape)

    def spread(self, x: Tensor) -> Tensor:
        return group_spread(x, 32)


def _divisor(scale: Tensor) -> Tensor:
    value = scale.float()
    return torch.where(value == 0, 1.0, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFloat:
    """4-bit (e2m1) or 8-bit (e4m3) floats with one 8-bit scale per group: e4m3 (NVFP4) or a power of two (MX).

    The power of two is 2^(floor(log2 max) - e_max), as OCP MX v1.0 section 6.3 has it; larger values saturate.
    """

    bits: int
    group: int
    power_of_two: bool
    bound: float

    def _scale(self, largest: Tensor) -> Tensor:
        """As stored: uint8 exponents (bias 127) or e4m3."""
        if self.power_of_two:
            highest = 2 if self.bits == 4 else 8
            exponent = torch.floor(torch.log2(largest.clamp_min(2.0**-120))) - highest
            return (exponent + 127).clamp(0, 254).to(torch.uint8)
        top = E2M1[-1] if self.bits == 4 else E4M3_MAX
        return (largest / top).clamp(2.0**-9, E4M3_MAX).to(E4M3)

    def _value(self, scale: Tensor) -> Tensor:
        return torch.exp2(scale.float() - 127) if self.power_of_two else scale.float()

    def pack(self, x: Tensor) -> Parts:
        grouped = by_group(x, self.group)
        scale = self._scale(grouped.abs().amax(-1))
        scaled = grouped / self._value(scale)[..., None]
        if self.bits == 8:
            codes = scaled.clamp(-E4M3_MAX, E4M3_MAX).to(E4M3).flatten(-2)[..., : x.shape[-1]]
            return {"codes": own(codes), "scale": own(scale)}
        signed = nearest(scaled.abs().contiguous(), E2M1) + 8 * (scaled < 0)
        return {"codes": pack_bits(signed.flatten(-2)[..., : x.shape[-1]], 4), "scale": own(scale)}

    def unpack(self, parts: Parts, shape: tuple[int, int, int]) -> Tensor:
        if self.bits == 8:
            values = parts["codes"].float()
        else:
            codes = unpack_bits(parts["codes"], 4, shape[0] * shape[1] * shape[2]).long().view(shape)
            table = torch.tensor([*E2M1, *(-value for value in E2M1)], device=codes.device)
            values = table[codes]
        grouped = by_group(values, self.group)
        return (grouped * self._value(parts["scale"])[..., None]).flatten(-2)[..., : shape[-1]]

    def spread(self, x: Tensor) -> Tensor:
        return group_spread(x, self.group)
