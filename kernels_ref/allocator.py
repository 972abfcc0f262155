"""What torch's CUDA allocator counts for a list of tensors, predicted.

Sizes are rounded up to 512 B. Requests up to 1 MiB are cut from 2 MiB segments to the byte; larger ones from
segments of 20 MiB (below 10 MiB) or of their own size rounded up to 2 MiB, and a rest of at most 1 MiB stays with
the block. Source: PyTorch c10/cuda/CUDACachingAllocator.cpp (round_size, get_allocation_size, should_split).
"""

from __future__ import annotations

from collections.abc import Iterable

MIB = 2**20
SMALL = MIB
"""Largest request served from small segments, and the largest rest that is not split off."""


def round_up(size: int, step: int) -> int:
    """The next multiple of `step` bytes."""
    return -(-size // step) * step


def allocated_bytes(sizes: Iterable[int]) -> int:
    """Growth of `torch.cuda.memory_allocated` for tensors of these sizes, in order, from an emptied cache."""
    total = 0
    rests: list[int] = []  # free ends of large segments
    for size in sizes:
        if size == 0:
            continue
        wanted = round_up(size, 512)
        if wanted <= SMALL:
            total += wanted
            continue
        fitting = [rest for rest in rests if rest >= wanted]
        if fitting:
            block = min(fitting)
            rests.remove(block)
        else:
            block = 20 * MIB if wanted < 10 * MIB else round_up(wanted, 2 * MIB)
        if block - wanted > SMALL:
            rests.append(block - wanted)
            block = wanted
        total += block
    return total
