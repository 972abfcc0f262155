"""What torch's CUDA allocator is predicted to count (c10/cuda/CUDACachingAllocator.cpp), worked out by hand."""

from __future__ import annotations

import pytest

from kernels_ref.allocator import MIB, allocated_bytes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], 0),
        ([0], 0),
        ([1], 512),
        ([512, 513], 512 + 1024),
        ([MIB], MIB),  # the largest small request: cut to the byte
        # Just above 1 MiB: a 20 MiB segment, whose rest is split off.
        ([MIB + 1], MIB + 512),
        # 11.5 MiB: its own segment of 12 MiB; half a MiB is too little to split off and stays with the block.
        ([11 * MIB + MIB // 2], 12 * MIB),
        # 10.5 MiB: a segment of 12 MiB, 1.5 MiB split off ...
        ([10 * MIB + MIB // 2], 10 * MIB + MIB // 2),
        # ... which serves a later request of 1.25 MiB whole, as the quarter left over is too small.
        ([10 * MIB + MIB // 2, MIB + MIB // 4], 12 * MIB),
    ],
)
def test_allocation_by_hand(sizes: list[int], expected: int) -> None:
    assert allocated_bytes(sizes) == expected
