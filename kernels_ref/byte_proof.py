"""Caches allocated for real: their storages add up to kvcalc's integer, to the byte."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from math import prod

import torch
from torch import Tensor

from kernels_ref.allocator import allocated_bytes
from kernels_ref.formats import codec_for
from kernels_ref.report import ByteCheck, ModelCheck
from kvcalc.attention.base import Attention
from kvcalc.cache_dtypes import CACHE_DTYPES, FormatChoice, cache_dtype, parse_kv_cache_dtype
from kvcalc.footprint import footprint, workload_for
from kvcalc.formats import Role
from kvcalc.layout import HasLayout
from kvcalc.problems import KvcalcError
from kvcalc.streams import Stream

_WHOLE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}

EXTRA_FORMATS = (
    "int2", "int3", "int6", "int2-g32-zp", "int3-g64", "int4-g32", "int4-g64-zp", "int5-g32-fp32", "int8-g128-bf16",
    "kivi2-g32-r64",
)  # fmt: skip
"""Parametric names, a sample."""


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages, each counted once."""
    storages = {tensor.untyped_storage().data_ptr() or id(tensor): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def growth_of(device: torch.device, make: Callable[[], list[Tensor]]) -> tuple[list[Tensor], int | None]:
    """Runs `make`, and how much torch's CUDA allocator then counts more (None without CUDA)."""
    if device.type != "cuda":
        return make(), None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    tensors = make()
    return tensors, torch.cuda.memory_allocated(device) - before


def stored_formats(stream: Stream) -> Iterator[str]:
    """Every format name whose rows this stream can have and that has a codec here."""
    names = [stream.dtype] if stream.dtype else [*CACHE_DTYPES, *EXTRA_FORMATS]
    for name in names:
        try:
            found = cache_dtype(name).format(stream.role, stream.width)
        except KvcalcError:
            continue
        if codec_for(found.name, stream.role, stream.width) is not None:
            yield name


def check_stream(
    kind: str, stream: Stream, dtype: str, tokens: int, device: torch.device, generator: torch.Generator
) -> ByteCheck:
    """Stores random rows of one stream and reads them back."""
    choice = parse_kv_cache_dtype(dtype)
    stored = choice.format(stream.role, stream.width, stream.dtype)
    codec = codec_for(stored.name, stream.role, stream.width)
    if codec is None:
        raise ValueError(f"no codec for {stored.name}")
    rows = stream.extent.rows(tokens, tokens)
    shape = (rows, stream.heads, stream.width)
    # Rows of unlike size, so that a scale per row matters.
    size = torch.exp(torch.randn(rows, stream.heads, 1, generator=generator))
    x = (torch.randn(shape, generator=generator) * size).to(device)
    packed = {name: part.cpu() for name, part in codec.pack(x).items()}
    parts, grown = growth_of(device, lambda: [part.to(device, copy=True) for part in packed.values()])
    back = codec.unpack(dict(zip(packed, parts, strict=True)), shape)
    error = (back - x).abs()
    sizes = [part.numel() * part.element_size() for part in packed.values()]
    return ByteCheck(
        kind=kind,
        stream=stream.name,
        format=dtype,
        rows=rows,
        heads=stream.heads,
        width=stream.width,
        predicted_bytes=stream.bytes(tokens, choice, tokens),
        storage_bytes=storage_bytes(parts),
        predicted_allocated=None if grown is None else allocated_bytes(sizes),
        allocated=grown,
        relative_error=float(error.norm() / x.norm()),
        largest_error=float((error / codec.spread(x).clamp_min(1e-12)).max()) if error.numel() else 0.0,
        explained=codec.bound,
    )


def check_kind(kind: Attention, tokens: int, device: torch.device, generator: torch.Generator) -> Iterator[ByteCheck]:
    """Every logical stream of a kind in every format it can have."""
    name = str(type(kind).__dataclass_fields__["kind"].default)
    for stream in kind.streams():
        if stream.role is not Role.BUFFER:
            for dtype in stored_formats(stream):
                yield check_stream(name, stream, dtype, tokens, device, generator)


def check_model(
    model: HasLayout, dtype: str, tokens: int, device: torch.device, encoder_tokens: int | None = None
) -> ModelCheck:
    """One sequence's cache of a whole model: a tensor per stream and layer, of the stream's own shape.

    Only formats whose rows are one torch dtype: bf16, fp16, fp32, fp8.
    """
    choice: FormatChoice = parse_kv_cache_dtype(dtype)
    workload, _ = workload_for(model, seq_len=tokens, encoder_len=encoder_tokens, formats=choice)
    report = footprint(model, workload)
    layout = model.layout()
    shapes = [
        (
            (stream.extent.rows(tokens, workload.encoder_len), stream.heads, stream.width),
            _WHOLE_DTYPES[stream.format(choice).name],
        )
        for group in layout.groups
        for _ in group.indices
        for stream in group.logical_streams
    ]
    tensors, grown = growth_of(device, lambda: [torch.empty(s, dtype=d, device=device) for s, d in shapes])
    sizes = [prod(shape) * kind.itemsize for shape, kind in shapes]
    return ModelCheck(
        model=layout.name,
        kv_cache_dtype=dtype,
        seq_len=tokens,
        layers=sum(group.count for group in layout.groups),
        tensors=len(tensors),
        predicted_bytes=report.logical_bytes,
        storage_bytes=storage_bytes(tensors),
        predicted_allocated=None if grown is None else allocated_bytes(sizes),
        allocated=grown,
    )


def longest_that_fits(model: HasLayout, dtype: str, room: int) -> int:
    """The largest power of two of tokens, up to the model's context, whose cache fits in `room` bytes."""
    choice = parse_kv_cache_dtype(dtype)
    context = model.layout().context or 2**17
    tokens = 2 ** (context.bit_length() - 1)
    while tokens > 1:
        workload, _ = workload_for(model, seq_len=tokens, formats=choice)
        if footprint(model, workload).logical_bytes <= room:
            break
        tokens //= 2
    return tokens
