"""How fast they stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from kvcalc.api.arguments import (
    Axis,
    Count,
    Dtype,
    Gpu,
    Model,
    Path,
    Rate,
    Share,
    axis,
    bytes_per_s,
    ceilings_of,
    count,
    formats,
    gpu_spec,
    model_spec,
    share,
    workload,
)

if TYPE_CHECKING:
    from kvcalc.roofline import Calibration, RooflineReport
    from kvcalc.steps import Convention
    from kvcalc.sweep import SweepReport
    from kvcalc.tiers import TiersReport
    from kvcalc.weight_traffic import Shards


def tiers(
    model: Model,
    gpu: Gpu,
    *,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    encoder_len: Count | None = None,
    storage: Rate | None = None,
    pool: Rate | None = None,
    weight_dtype: str | None = None,
    convention: str | None = None,
    calibration: Path | Calibration | None = None,
) -> TiersReport:
    """What each tier of a GPU holds of the cache, and how fast a step reads from it: `kvcalc tiers`.

    Args:
        storage: read rate of local storage in B/s, or as in `"7GB/s"`.
        pool: read rate of a remote pool.
        weight_dtype: weight format; default: as the spec says.
        convention: how kernels work, as in `"grouped,absorbed"`.
        calibration: measured ceilings, or the path of a report of `kvcalc verify -o json`.

    Raises:
        KvcalcError: no length is known, a stream cannot be stored in the chosen format, or a rate is zero.
    """
    from kvcalc.tiers import tiers as model_tiers
    from kvcalc.weights.ledger import weight_scheme

    spec = model_spec(model)
    return model_tiers(
        spec,
        gpu_spec(gpu),
        **workload(batch_size, seq_len, kv_cache_dtype, encoder_len),
        convention=_convention(convention),
        scheme=weight_scheme(spec, weight_dtype),
        storage_bytes_per_s=bytes_per_s(storage, "storage"),
        pool_bytes_per_s=bytes_per_s(pool, "pool"),
        calibration=ceilings_of(calibration),
    )


def roofline(
    model: Model,
    gpu: Gpu,
    *,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    encoder_len: Count | None = None,
    phase: Literal["decode", "prefill"] = "decode",
    convention: str | None = None,
    compute_dtype: str = "bf16",
    weight_dtype: str | None = None,
    tensor_parallel_size: int = 1,
    data_parallel_size: int = 1,
    enable_expert_parallel: bool = False,
    decode_context_parallel_size: int = 1,
    calibration: Path | Calibration | None = None,
) -> RooflineReport:
    """What each part of a step moves and computes, and which of the two binds it: `kvcalc roofline`.

    Args:
        phase: one decode step, or the prefill of the batch.
        compute_dtype: operands of attention.

    Raises:
        KvcalcError: as `tiers`, or a type that the GPU states no peak for.
    """
    from kvcalc.problems import usage_error
    from kvcalc.roofline import roofline as model_roofline
    from kvcalc.weights.ledger import weight_scheme

    if phase not in ("decode", "prefill"):
        raise usage_error(f"unknown phase {phase!r:.40}", help="decode or prefill")
    spec = model_spec(model)
    return model_roofline(
        spec,
        gpu_spec(gpu),
        **workload(batch_size, seq_len, kv_cache_dtype, encoder_len),
        phase=phase,
        convention=_convention(convention),
        attention_dtype=compute_dtype,
        scheme=weight_scheme(spec, weight_dtype),
        shards=_shards(tensor_parallel_size, data_parallel_size, enable_expert_parallel, decode_context_parallel_size),
        calibration=ceilings_of(calibration),
    )


def sweep(
    *models: Model,
    batch_size: Axis = "1:256:*2",
    seq_len: Axis = "1K:128K:*2",
    gpus: Iterable[Gpu] = (),
    kv_cache_dtypes: Sequence[Dtype] = ("bf16",),
    encoder_len: Count = 0,
    weight_dtype: str | None = None,
    convention: str | None = None,
    tensor_parallel_sizes: Sequence[int] = (1,),
    data_parallel_size: int = 1,
    enable_expert_parallel: bool = False,
    decode_context_parallel_size: int = 1,
    gpu_memory_utilization: Share = 0.9,
    calibration: Path | Calibration | None = None,
) -> SweepReport:
    """The whole plane of batch sizes and lengths, in NumPy: `kvcalc sweep`.

    Every combination of model, GPU, format and tensor-parallel size is a plane of its own; `plane.blocks()` expands
    it a bounded number of points at a time.

    Args:
        batch_size: a sequence of counts, or a range as in `"1:256:*2"`, `"8:64:8"`, `"1,4,32"`.
        seq_len: tokens per sequence, likewise.
        gpus: for times, and for what fits.
        gpu_memory_utilization: the share of a GPU's memory that may be used.

    Raises:
        KvcalcError: no model, an empty or too large grid, or a stream that cannot be stored in a chosen format.
    """
    from kvcalc.problems import usage_error
    from kvcalc.sweep import sweep as sweep_planes

    if not models:
        raise usage_error("no model is named", help='as in kvcalc.sweep("qwen-72b")')
    return sweep_planes(
        [model_spec(model) for model in models],
        axis(batch_size, "batch_size"),
        axis(seq_len, "seq_len"),
        gpus=[gpu_spec(gpu) for gpu in gpus],
        formats=[formats(dtype) for dtype in kv_cache_dtypes],
        shards=[
            _shards(tensor, data_parallel_size, enable_expert_parallel, decode_context_parallel_size)
            for tensor in tensor_parallel_sizes
        ],
        encoder_len=count(encoder_len, "encoder_len", minimum=0),
        convention=_convention(convention),
        weight_dtype=weight_dtype,
        memory_share=share(gpu_memory_utilization, "gpu_memory_utilization") or Fraction(1),
        calibration=ceilings_of(calibration),
    )


def _convention(text: str | None) -> Convention | None:
    from kvcalc.steps import parse_convention

    return None if text is None else parse_convention(text)


def _shards(tensor: int, data: int, experts: bool, context: int) -> Shards:
    from kvcalc.weight_traffic import Shards
    from kvcalc.weights.sharding import WeightSharding

    sharding = WeightSharding(
        tensor=count(tensor, "tensor_parallel_size"),
        data=count(data, "data_parallel_size"),
        expert_parallel=experts,
    )
    return Shards(weights=sharding, decode_context=count(context, "decode_context_parallel_size"))
