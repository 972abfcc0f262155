"""Timing and the machine's ceilings: CUDA events, warm-up, medians, and data far larger than the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from kernels_ref.report import Ceilings

Run = Callable[[], object]


WARM_UP_S = 0.15
"""A GPU that has idled takes this long to reach its clocks."""
SUSTAINED_S = 1.5
"""What keeps the tensor cores busy reaches the GPU's power limit, and the clocks fall to what it allows, within this
long: a product of 8192 on an H100 falls from 790 to 670 TFLOP/s, at 700 W (kernels_ref/results/README.md)."""


def _warm_up(run: Run, at_least: float) -> None:
    start = time.perf_counter()
    run()
    while time.perf_counter() - start < at_least:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def seconds(run: Run, device: torch.device, *, repeats: int = 15, warm_up: float = WARM_UP_S) -> float:
    """Median time of one call, after at least `warm_up` seconds of them on CUDA."""
    _warm_up(run, warm_up if device.type == "cuda" else 0.0)
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return median(times)
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    torch.cuda.synchronize()
    for start_event, end_event in pairs:
        start_event.record()
        run()
        end_event.record()
    torch.cuda.synchronize()
    return median(start.elapsed_time(end) for start, end in pairs) * 1e-3


def graph_seconds(runs: Sequence[Run], *, repeats: int = 15, warm_up: float = WARM_UP_S) -> float:
    """Median time of one call on CUDA, all `runs` (on rotated data) captured in one graph: no launch gaps."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    return seconds(graph.replay, torch.device("cuda"), repeats=repeats, warm_up=warm_up) / len(runs)


def _read_ceiling(device: torch.device) -> float:
    count = 2**30 if device.type == "cuda" else 2**26
    x = torch.randn(count, device=device)
    if device.type != "cuda":
        return 4 * count / seconds(lambda: torch.sum(x), device, repeats=5)
    from kernels_ref.triton_read import read_kernel

    out = torch.empty(2**16, device=device)
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    best = min(
        seconds(
            lambda programs=processors * each, block=block, unroll=unroll: read_kernel[(programs,)](  # type: ignore[misc]
                x, out, count, BLOCK=block, UNROLL=unroll, num_warps=8
            ),
            device,
            repeats=7,
        )
        for each in (8, 16, 64)
        for block, unroll in ((2048, 4), (4096, 4), (4096, 8))
    )
    return 4 * count / best


def _gemm(device: torch.device, dtype: torch.dtype) -> float:
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    repeats = 21 if device.type == "cuda" else 5
    return 2 * size**3 / seconds(lambda: a @ b, device, repeats=repeats, warm_up=SUSTAINED_S)


def _gemm_fp8(device: torch.device) -> float:
    size = 8192
    a, b = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)

    def product() -> torch.Tensor:
        return torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)

    return 2 * size**3 / seconds(product, device, repeats=21, warm_up=SUSTAINED_S)


def _copy_ceiling(device: torch.device) -> float:
    count = 2**30 if device.type == "cuda" else 2**26
    x = torch.randn(count, device=device)
    y = torch.empty_like(x)
    return 8 * count / seconds(lambda: y.copy_(x), device, repeats=7)


def measure_ceilings(device: torch.device) -> Ceilings:
    """Read and copy bandwidth, and the rate of a large matrix product per dtype, on random data."""
    read, copy = _read_ceiling(device), _copy_ceiling(device)
    if device.type != "cuda":
        rates = {"fp32": _gemm(device, torch.float32)}
        return Ceilings(read_bytes_per_s=read, copy_bytes_per_s=copy, gemm_flops_per_s=rates)
    rates = {"bf16": _gemm(device, torch.bfloat16), "fp16": _gemm(device, torch.float16)}
    if torch.cuda.get_device_capability(device) >= (8, 9):
        rates["fp8"] = _gemm_fp8(device)
    return Ceilings(read_bytes_per_s=read, copy_bytes_per_s=copy, gemm_flops_per_s=rates)
