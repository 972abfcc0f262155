"""The streaming kernels as families: an attention kind in a format, with random caches of any batch and length.

A family holds one pool of random storage and reads caches of different shapes from it, so that many cases can be
timed on cold data without filling memory anew. Every tensor of a cache is a stretch of the pool, and their bytes
add up to what kvcalc predicts for the kind's streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from kernels_ref import decode, triton_grouped
from kernels_ref.decode import GroupedCache, Int4Cache, Launch, Shape
from kvcalc.attention.base import Attention, HeadedAttention
from kvcalc.attention.full import Full
from kvcalc.attention.mla import Mla
from kvcalc.attention.sliding import Sliding
from kvcalc.cache_dtypes import parse_kv_cache_dtype


class Pool:
    """Flat random storage per part of a cache; `take` cuts the next stretch, wrapping around."""

    def __init__(self, parts: dict[str, Tensor]) -> None:
        self.parts = parts
        self.at = dict.fromkeys(parts, 0)

    def take(self, name: str, *shape: int) -> Tensor:
        """The next prod(shape) elements of a part, in that shape.

        Raises:
            ValueError: the pool is smaller than that.
        """
        flat, count = self.parts[name], prod(shape)
        if count > flat.numel():
            raise ValueError(f"the pool holds {flat.numel()} elements of {name}, {count} are asked for")
        start = self.at[name]
        if start + count > flat.numel():
            start = 0
        self.at[name] = start + -(-count // 1024) * 1024
        return flat[start : start + count].view(shape)


def bytes_read(kind: Attention, dtype: str, batch: int, tokens: int) -> int:
    """kvcalc's bytes of what one decode step reads of this kind's streams."""
    choice = parse_kv_cache_dtype(dtype)
    return batch * sum(stream.bytes(tokens, choice) for stream in kind.streams())


class Family(Protocol):
    """A kernel for one kind and format."""

    @property
    def kind(self) -> Attention:
        """The attention whose bytes are predicted."""
        ...

    @property
    def dtype(self) -> str:
        """kvcalc's name of the format."""
        ...

    @property
    def kernel(self) -> str:
        """The file that holds it."""
        ...

    def fill(self, tokens: int, device: torch.device) -> Pool:
        """Random storage for `tokens` tokens of one KV head (or latent)."""
        ...

    def prepare(self, pool: Pool, batch: int, tokens: int) -> tuple[Launch, Tensor, Tensor, object]:
        """(launch, out [rows, G, DV], q [rows, G, D], cache) for a batch of sequences of `tokens` tokens."""
        ...

    def tensors(self, cache: object) -> Iterable[Tensor]:
        """What a step reads of a cache: their bytes are the measured ones."""
        ...

    def dense(self, cache: object, row: int) -> tuple[Tensor, Tensor]:
        """One row's K [N, D] and V [N, DV] in float64."""
        ...

    def rows(self, batch: int) -> int:
        """Sequences x KV heads (x 1 for a latent): what the kernel splits its work over."""
        ...

    def flops(self, batch: int, tokens: int) -> int:
        """FLOPs of one decode step: a multiply-add is two."""
        ...


def _random(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard normal numbers in 16 bits, made in stretches."""
    out = torch.empty(count, dtype=dtype, device=device)
    for start in range(0, count, 2**28):
        part = out[start : start + 2**28]
        part.copy_(torch.randn(part.numel(), device=device))
    return out


def _scales(count: int, typical: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return (typical * (0.75 + 0.5 * torch.rand(count, device=device))).to(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedFamily:
    """K and V per head in bf16 (fp16 where the interpreter runs), or 8 bits with a scale per token and head."""

    kind: HeadedAttention
    dtype: str
    shape: Shape
    window: int | None = None
    """Only the newest tokens are read, of a cache that holds all of them."""

    @property
    def kernel(self) -> str:
        return "triton_grouped"

    @property
    def code(self) -> int:
        return {"fp8_per_token_head": triton_grouped.FP8, "int8_per_token_head": triton_grouped.INT8}.get(
            self.dtype, triton_grouped.BF16
        )

    @property
    def _widths(self) -> tuple[int, int]:
        return self.kind.head_dim, self.kind.v_head_dim or self.kind.head_dim

    def rows(self, batch: int) -> int:
        return batch * self.kind.num_key_value_heads

    def flops(self, batch: int, tokens: int) -> int:
        return 2 * batch * self.kind.num_attention_heads * min(tokens, self.window or tokens) * sum(self._widths)

    def fill(self, tokens: int, device: torch.device) -> Pool:
        width, v_width = self._widths
        if self.code == triton_grouped.BF16:
            dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float16
            return Pool({"k": _random(tokens * width, dtype, device), "v": _random(tokens * v_width, dtype, device)})
        typical = 1 / 64

        def codes(count: int) -> Tensor:
            out = torch.empty(
                count, dtype=torch.int8 if self.code == triton_grouped.INT8 else torch.float8_e4m3fn, device=device
            )
            for start in range(0, count, 2**28):
                part = out[start : start + 2**28]
                values = torch.randn(part.numel(), device=device).mul_(1 / typical)
                part.copy_(values.round_().clamp_(-127, 127) if self.code == triton_grouped.INT8 else values)
            return out

        return Pool(
            {
                "k": codes(tokens * width),
                "v": codes(tokens * v_width),
                "k_scale": _scales(tokens, typical, torch.float32, device),
                "v_scale": _scales(tokens, typical, torch.float32, device),
            }
        )

    def prepare(self, pool: Pool, batch: int, tokens: int) -> tuple[Launch, Tensor, Tensor, GroupedCache]:
        rows, (width, v_width) = self.rows(batch), self._widths
        group = self.kind.num_attention_heads // self.kind.num_key_value_heads
        eight = self.code != triton_grouped.BF16
        block = self.shape.block
        v_shape = (rows, tokens // block, v_width, block) if eight else (rows, tokens, v_width)
        cache = GroupedCache(
            code=self.code,
            k=pool.take("k", rows, tokens, width),
            v=pool.take("v", *v_shape),
            k_scale=pool.take("k_scale", rows, tokens) if eight else None,
            v_scale=pool.take("v_scale", rows, tokens) if eight else None,
        )
        q = torch.randn(rows, group, width, device=cache.k.device).to(torch.float16 if eight else cache.k.dtype)
        out = torch.full((rows, group, v_width), float("nan"), device=q.device)
        first = max(0, tokens - self.window) if self.window else 0
        launch = decode.grouped(q, cache, out, first=first, last=tokens, scale=width**-0.5, shape=self.shape)
        return launch, out, q, cache

    def tensors(self, cache: object) -> Iterable[Tensor]:
        assert isinstance(cache, GroupedCache)
        parts = [part for part in (cache.k, cache.v, cache.k_scale, cache.v_scale) if part is not None]
        return [part[:, -self.window :] for part in parts] if self.window else parts

    def dense(self, cache: object, row: int) -> tuple[Tensor, Tensor]:
        assert isinstance(cache, GroupedCache)
        k, v = cache.k[row].double(), cache.v[row].double()
        if cache.k_scale is not None and cache.v_scale is not None:
            k = k * cache.k_scale[row].double()[:, None]
            v = v.transpose(-1, -2).reshape(k.shape[0], -1) * cache.v_scale[row].double()[:, None]
        keep = slice(-self.window, None) if self.window else slice(None)
        return k[keep], v[keep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Family:
    """K and V per head in 4 bits, grouped along the head."""

    kind: Full
    dtype: str
    shape: Shape
    group: int
    zero: bool

    @property
    def kernel(self) -> str:
        return "triton_int4"

    def rows(self, batch: int) -> int:
        return batch * self.kind.num_key_value_heads

    def flops(self, batch: int, tokens: int) -> int:
        return 4 * batch * self.kind.num_attention_heads * tokens * self.kind.head_dim

    def fill(self, tokens: int, device: torch.device) -> Pool:
        units, groups = tokens * self.kind.head_dim // 4, tokens * self.kind.head_dim // self.group
        parts: dict[str, Tensor] = {}
        for side in ("k", "v"):
            parts[side] = torch.randint(-(2**15), 2**15, (units,), dtype=torch.int16, device=device)
            parts[f"{side}_scale"] = _scales(groups, 0.22, torch.float16, device)
            if self.zero:
                parts[f"{side}_zero"] = -_scales(groups, 1.65, torch.float16, device)
        return Pool(parts)

    def prepare(self, pool: Pool, batch: int, tokens: int) -> tuple[Launch, Tensor, Tensor, Int4Cache]:
        rows, width = self.rows(batch), self.kind.head_dim
        heads, groups = self.kind.num_attention_heads // self.kind.num_key_value_heads, width // self.group

        def side(name: str) -> tuple[Tensor, Tensor, Tensor | None]:
            zero = pool.take(f"{name}_zero", rows, groups, tokens) if self.zero else None
            return pool.take(name, rows, tokens, width // 4), pool.take(f"{name}_scale", rows, groups, tokens), zero

        k, k_scale, k_zero = side("k")
        v, v_scale, v_zero = side("v")
        cache = Int4Cache(k=k, v=v, k_scale=k_scale, v_scale=v_scale, k_zero=k_zero, v_zero=v_zero)
        q = torch.randn(rows, heads, width, device=k.device).to(torch.float16)
        out = torch.full((rows, heads, width), float("nan"), device=q.device)
        return decode.int4(q, cache, out, last=tokens, scale=width**-0.5, shape=self.shape), out, q, cache

    def tensors(self, cache: object) -> Iterable[Tensor]:
        assert isinstance(cache, Int4Cache)
        parts = (cache.k, cache.v, cache.k_scale, cache.v_scale, cache.k_zero, cache.v_zero)
        return [part for part in parts if part is not None]

    def dense(self, cache: object, row: int) -> tuple[Tensor, Tensor]:
        assert isinstance(cache, Int4Cache)

        def side(units: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
            places = torch.arange(0, 16, 4, device=units.device)
            codes = (units[row].to(torch.int32)[:, None, :] >> places[:, None]) & 15  # [N, 4, D / 4]
            groups = codes.flatten(1).unflatten(1, (-1, self.group)).double()  # [N, groups, group]
            steps = scale[row].T[..., None].double()
            base = -8.0 * steps if zero is None else zero[row].T[..., None].double()
            return (groups * steps + base).flatten(1)

        return side(cache.k, cache.k_scale, cache.k_zero), side(cache.v, cache.v_scale, cache.v_zero)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFamily:
    """MLA's latent in 16 bits; `hopper` takes the kernel for many heads on Hopper."""

    kind: Mla
    dtype: str
    shape: Shape
    hopper: bool = False

    @property
    def kernel(self) -> str:
        return "gluon_mla" if self.hopper else "triton_mla"

    @property
    def _width(self) -> int:
        return self.kind.kv_lora_rank + self.kind.qk_rope_head_dim

    def rows(self, batch: int) -> int:
        return batch

    def flops(self, batch: int, tokens: int) -> int:
        return 2 * batch * tokens * self.kind.num_attention_heads * (self._width + self.kind.kv_lora_rank)

    def fill(self, tokens: int, device: torch.device) -> Pool:
        dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float16
        return Pool({"latent": _random(tokens * self._width, dtype, device)})

    def prepare(self, pool: Pool, batch: int, tokens: int) -> tuple[Launch, Tensor, Tensor, Tensor]:
        heads, rank = self.kind.num_attention_heads, self.kind.kv_lora_rank
        cache = pool.take("latent", batch, tokens, self._width)
        q = torch.randn(batch, heads, self._width, device=cache.device).to(cache.dtype)
        out = torch.full((batch, heads, rank), float("nan"), device=q.device)
        scale = self._width**-0.5
        if self.hopper:
            return decode.mla_hopper(q, cache, out, rank=rank, last=tokens, scale=scale), out, q, cache
        per_program = min(64, -(-heads // 16) * 16)
        launch = decode.mla(
            q, cache, out, rank=rank, last=tokens, scale=scale, shape=self.shape, heads_per_program=per_program
        )
        return launch, out, q, cache

    def tensors(self, cache: object) -> Iterable[Tensor]:
        assert isinstance(cache, Tensor)
        return [cache]

    def dense(self, cache: object, row: int) -> tuple[Tensor, Tensor]:
        assert isinstance(cache, Tensor)
        latent = cache[row].double()
        return latent, latent[:, : self.kind.kv_lora_rank]


def expected(family: Family, cache: object, q: Tensor) -> Tensor:
    """The float64 reference, row by row: [rows, G, DV]."""
    out = []
    for row in range(q.shape[0]):
        k, v = family.dense(cache, row)
        scores = q[row].double() @ k.T * q.shape[-1] ** -0.5
        out.append(scores.softmax(-1) @ v)
    return torch.stack(out)


def _full(heads: int, kv_heads: int) -> Full:
    return Full(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=128)


def _mla(heads: int) -> Mla:
    return Mla(num_attention_heads=heads, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)


_STREAM = Shape(block=64, warps=4, stages=3, per_sm=2)
_EIGHT = Shape(block=64, warps=1, stages=3, per_sm=4)
_FOUR = Shape(block=64, warps=1, stages=3, per_sm=8)
_LATENT = Shape(block=64, warps=4, stages=3, per_sm=1)

FAMILIES: dict[str, Family] = {
    "MHA bf16": GroupedFamily(kind=_full(8, 8), dtype="bf16", shape=_STREAM),
    "GQA-8 bf16": GroupedFamily(kind=_full(64, 8), dtype="bf16", shape=_STREAM),
    "GQA-16 bf16": GroupedFamily(kind=_full(128, 8), dtype="bf16", shape=_STREAM),
    "sliding-4096 bf16": GroupedFamily(
        kind=Sliding(num_attention_heads=64, num_key_value_heads=8, head_dim=128, sliding_window=4096),
        dtype="bf16", shape=_STREAM, window=4096,
    ),
    "MQA-64 bf16": GroupedFamily(kind=_full(64, 1), dtype="bf16", shape=Shape(block=64, warps=4, stages=4, per_sm=1)),
    "GQA-8 fp8": GroupedFamily(kind=_full(64, 8), dtype="fp8_per_token_head", shape=_EIGHT),
    "GQA-8 int8": GroupedFamily(kind=_full(64, 8), dtype="int8_per_token_head", shape=_EIGHT),
    "GQA-8 int4-g64": Int4Family(kind=_full(64, 8), dtype="int4-g64", shape=_FOUR, group=64, zero=False),
    "GQA-8 int4-g32": Int4Family(kind=_full(64, 8), dtype="int4-g32", shape=_FOUR, group=32, zero=False),
    "GQA-8 int4-g64-zp": Int4Family(kind=_full(64, 8), dtype="int4-g64-zp", shape=_FOUR, group=64, zero=True),
    "GQA-8 int4-g32-zp": Int4Family(kind=_full(64, 8), dtype="int4-g32-zp", shape=_FOUR, group=32, zero=True),
    "MLA-16 bf16": LatentFamily(kind=_mla(16), dtype="bf16", shape=_LATENT),
    "MLA-128 bf16": LatentFamily(kind=_mla(128), dtype="bf16", shape=_LATENT, hopper=True),
}  # fmt: skip
