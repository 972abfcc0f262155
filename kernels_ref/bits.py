"""Codes of 1 to 8 bits, packed without gaps into bytes, lowest bit first."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes 0..2^bits - 1 (any shape, read in order) -> uint8 [ceil(n * bits / 8)]."""
    flat = codes.reshape(-1).to(torch.int32)
    if bits == 8:
        return flat.to(torch.uint8)
    whole = -(-flat.numel() // 8) * 8  # eight codes are `bits` bytes
    padded = torch.nn.functional.pad(flat, (0, whole - flat.numel())).view(-1, 8)
    places = torch.arange(bits, device=flat.device, dtype=torch.int32)
    stream = ((padded[:, :, None] >> places) & 1).view(-1, bits, 8)
    weights = torch.tensor([1 << place for place in range(8)], device=flat.device, dtype=torch.int32)
    packed = (stream * weights).sum(-1).to(torch.uint8).view(-1)
    return packed[: -(-flat.numel() * bits // 8)].clone()


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes, int32 [count]."""
    if bits == 8:
        return packed[:count].to(torch.int32)
    whole = -(-count // 8) * bits
    padded = torch.nn.functional.pad(packed.to(torch.int32), (0, whole - packed.numel()))
    places = torch.arange(8, device=packed.device, dtype=torch.int32)
    stream = ((padded[:, None] >> places) & 1).view(-1, bits)
    weights = torch.tensor([1 << place for place in range(bits)], device=packed.device, dtype=torch.int32)
    return (stream * weights).sum(-1)[:count]
