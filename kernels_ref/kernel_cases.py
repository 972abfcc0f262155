"""The cases that streaming kernels are held to, and how one is timed and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels_ref.families import FAMILIES, Family, GroupedFamily, LatentFamily, Pool, bytes_read, expected
from kernels_ref.measure import SUSTAINED_S, WARM_UP_S, graph_seconds
from kernels_ref.reference.common import relative_error
from kernels_ref.report import Alternative, Ceilings, KernelCheck

COLD_BYTES = 2**29
"""Data that one graph walks through at least: several times any L2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table."""

    family: str
    batch_size: int
    seq_len: int
    target: float | None = None
    """Share of the ceiling that is aimed at. A miss is shown, and is no disagreement: bytes and values alone are."""
    ceiling: str = "read"
    limited_by: str = "reading memory"

    @property
    def warm_up(self) -> float:
        """Seconds: as long as its ceiling's."""
        return SUSTAINED_S if self.ceiling.startswith("gemm") else WARM_UP_S


CASES = (
    Case(family="MHA bf16", batch_size=32, seq_len=32768, target=0.96),
    Case(family="GQA-8 bf16", batch_size=32, seq_len=32768, target=0.96),
    Case(family="GQA-16 bf16", batch_size=32, seq_len=32768, target=0.96),
    Case(family="MQA-64 bf16", batch_size=128, seq_len=65536, target=0.92),
    Case(family="GQA-8 fp8", batch_size=32, seq_len=65536, target=0.88),
    Case(family="GQA-8 int8", batch_size=32, seq_len=65536, target=0.88),
    Case(family="GQA-8 int4-g64", batch_size=32, seq_len=65536, target=0.75, limited_by="unpacking codes"),
    Case(family="GQA-8 int4-g32", batch_size=32, seq_len=65536, target=0.75, limited_by="unpacking codes"),
    Case(family="GQA-8 int4-g64-zp", batch_size=32, seq_len=65536, limited_by="unpacking codes"),
    Case(family="GQA-8 int4-g32-zp", batch_size=32, seq_len=65536, limited_by="unpacking codes"),
    Case(family="MLA-16 bf16", batch_size=128, seq_len=32768, target=0.94),
    Case(
        family="MLA-128 bf16", batch_size=64, seq_len=32768, target=0.70, ceiling="gemm bf16",
        limited_by="tensor cores, and shared-memory reads of the score product",
    ),
)  # fmt: skip

WINDOW_BATCH = 32
WINDOW_CONTEXT = 131072
WINDOW_MARGIN = 0.10


def suits(family: Family, device: torch.device) -> Family:
    """The family as this device can run it: the Hopper kernel only where there is Hopper and Gluon."""
    if isinstance(family, LatentFamily) and family.hopper:
        try:
            import triton.experimental.gluon.language.nvidia.hopper  # noqa: F401
        except ImportError:
            return replace(family, hopper=False)
        if torch.cuda.get_device_capability(device)[0] != 9:
            return replace(family, hopper=False)
    return family


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One case's figures."""

    seconds: float
    relative_error: float
    storage_bytes: int
    alternatives: tuple[tuple[str, float], ...] = ()


def run_case(
    family: Family, pool: Pool, batch: int, tokens: int, *, compare: bool = False, warm_up: float = WARM_UP_S
) -> Timed:
    """Times cold steps on rotated data, then checks every element of a poisoned output against float64."""
    first = family.prepare(pool, batch, tokens)
    bytes_each = sum(part.numel() * part.element_size() for part in family.tensors(first[3]))
    steps = [first, *(family.prepare(pool, batch, tokens) for _ in range(min(15, COLD_BYTES // bytes_each)))]
    seconds = graph_seconds([step[0] for step in steps], warm_up=warm_up)
    launch, out, q, cache = first
    out.fill_(float("nan"))
    launch()
    torch.cuda.synchronize()
    wanted = expected(family, cache, q)
    error = relative_error(out, wanted)
    others = tuple(_alternatives(q, family, cache, wanted)) if compare else ()
    return Timed(seconds=seconds, relative_error=error, storage_bytes=bytes_each, alternatives=others)


def _alternatives(q: Tensor, family: Family, cache: object, wanted: Tensor) -> Iterator[tuple[str, float]]:
    """torch's own attention on the same data, query heads packed as if they were a sequence."""
    if not (isinstance(family, GroupedFamily) and family.dtype == "bf16" and family.window is None):
        return
    k, v = family.tensors(cache)
    for name, backend in (("SDPA flash", SDPBackend.FLASH_ATTENTION), ("SDPA cuDNN", SDPBackend.CUDNN_ATTENTION)):

        def call() -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])

        try:
            with sdpa_kernel(backend):
                if relative_error(call()[:, 0], wanted) < 5e-3:
                    yield name, graph_seconds([call])
        except RuntimeError:  # not built, or not for this shape
            continue


def kernel_checks(device: torch.device, ceilings: Ceilings) -> Iterator[KernelCheck]:
    """Every row of the table."""
    rates = {"read": ceilings.read_bytes_per_s, "gemm bf16": ceilings.gemm_flops_per_s["bf16"]}
    for case in CASES:
        family = suits(FAMILIES[case.family], device)
        pool = family.fill(family.rows(case.batch_size) * case.seq_len, device)
        timed = run_case(family, pool, case.batch_size, case.seq_len, compare=True, warm_up=case.warm_up)
        del pool
        yield _check(case.family, family, case, timed, rates)
    yield _window_check(device, rates)


def _check(name: str, family: Family, case: Case, timed: Timed, rates: dict[str, float]) -> KernelCheck:
    flops = family.flops(case.batch_size, case.seq_len)
    predicted = bytes_read(family.kind, family.dtype, case.batch_size, case.seq_len)
    work = flops if case.ceiling.startswith("gemm") else predicted
    share = work / rates[case.ceiling]
    return KernelCheck(
        case=name,
        kernel=family.kernel,
        attention=family.kind.label,
        format=family.dtype,
        batch_size=case.batch_size,
        seq_len=case.seq_len,
        predicted_bytes=predicted,
        storage_bytes=timed.storage_bytes,
        flops=flops,
        seconds=timed.seconds,
        bytes_per_s=predicted / timed.seconds,
        flops_per_s=flops / timed.seconds,
        ceiling=case.ceiling,
        share_of_ceiling=share / timed.seconds,
        target=case.target,
        limited_by=case.limited_by,
        relative_error=timed.relative_error,
        alternatives=tuple(
            Alternative(name=other, seconds=seconds, share_of_ceiling=share / seconds)
            for other, seconds in timed.alternatives
        ),
    )


def _window_check(device: torch.device, rates: dict[str, float]) -> KernelCheck:
    """A window of 4,096 over 131,072 tokens against a cache of 4,096: the target is a share of that one's rate."""
    family = FAMILIES["sliding-4096 bf16"]
    assert isinstance(family, GroupedFamily)
    assert family.window
    pool = family.fill(family.rows(WINDOW_BATCH) * WINDOW_CONTEXT, device)
    timed = run_case(family, pool, WINDOW_BATCH, WINDOW_CONTEXT)
    short = run_case(FAMILIES["GQA-8 bf16"], pool, WINDOW_BATCH, family.window)
    work = bytes_read(family.kind, family.dtype, WINDOW_BATCH, WINDOW_CONTEXT)
    case = Case(family="", batch_size=WINDOW_BATCH, seq_len=WINDOW_CONTEXT, ceiling="cache of 4,096 tokens",
                target=1 / (1 + WINDOW_MARGIN), limited_by="reading memory; start-up at this size")  # fmt: skip
    return _check("sliding window 4096", family, case, timed, {**rates, case.ceiling: work / short.seconds})
