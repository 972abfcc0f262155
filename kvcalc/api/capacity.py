"""How many GPUs, or how much on given GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from kvcalc.api.arguments import (
    Bytes,
    Count,
    Gpu,
    Model,
    Path,
    Rate,
    Seconds,
    Share,
    bytes_per_s,
    gpu_spec,
    model_spec,
    optional_count,
    say,
    seconds,
    share,
    size_in_bytes,
)

if TYPE_CHECKING:
    from kvcalc.plan.report import FitReport, PlanReport
    from kvcalc.plan.resolving import Resolved


def plan(
    model: Model,
    gpu: Gpu | Iterable[Gpu],
    *,
    batch_size: Count | None = None,
    seq_len: Count | None = None,
    isl: Count | None = None,
    osl: Count | None = None,
    encoder_len: Count | None = None,
    rate: float | None = None,
    lengths: Path | None = None,
    tpot: Seconds | None = None,
    ttft: Seconds | None = None,
    max_gpus: Count | None = None,
    objective: Literal["gpus", "tpot", "throughput", "cost"] = "gpus",
    prices: Mapping[str, float] | None = None,
    kv_cache_dtype: str = "bf16",
    weight_dtype: str | None = None,
    engine: str = "vllm",
    settings: Mapping[str, bool | int | float | str] | None = None,
    gpu_memory_utilization: Share | None = None,
    overheads: Mapping[str, Bytes] | None = None,
    tensor_parallel_size: Count | None = None,
    pipeline_parallel_size: Count | None = None,
    data_parallel_size: Count | None = None,
    decode_context_parallel_size: Count | None = None,
    enable_expert_parallel: bool | None = None,
    tensor_across_nodes: bool = False,
    node_size: Count | None = None,
    node_link: Rate | None = None,
    calibration: Path | None = None,
    alternatives: bool = True,
    frontier: bool = False,
) -> PlanReport:
    """The fewest GPUs for a batch, a length and a speed: `kvcalc plan`.

    Args:
        gpu: one kind of GPU, or several to set side by side.
        batch_size: sequences at once; 1 unless there is a `rate`.
        seq_len: tokens of each; else `isl` + `osl`, or the model's context.
        isl, osl: tokens of a prompt and of an answer.
        rate: requests per second, in place of `batch_size`.
        lengths: trace of real requests (CSV, or JSON lines), in place of `seq_len`.
        tpot: time per output token to reach, in seconds or as in `"50ms"`.
        ttft: time to the first token to reach; needs `isl`.
        max_gpus: look no further.
        prices: GPU -> price of one per hour.
        overheads: of one GPU, in bytes, by name as in `{"activation": "1.5GiB"}`.
        tensor_parallel_size: and its sisters: decided already, rather than searched.
        tensor_across_nodes: whether tensor parallelism may leave the node.
        node_size: GPUs of a node; default: those that the GPU's own links reach.
        node_link: B/s from one GPU to another node.
        calibration: the path of a report of `kvcalc verify -o json`.
        alternatives: also say what would take fewer GPUs.
        frontier: also look at all batch sizes: tokens per second of a user against those of a GPU.

    Raises:
        KvcalcError: an unknown name, arguments that exclude each other, or what no number of GPUs could give.
    """
    from kvcalc.plan.planning import plan as make_plan

    several = gpu if isinstance(gpu, Iterable) and not isinstance(gpu, str) else (gpu,)
    question = _Question(
        model, tuple(several), engine, kv_cache_dtype, weight_dtype, settings, gpu_memory_utilization, overheads
    )
    target = {"tpot": _duration(tpot, "tpot"), "ttft": _duration(ttft, "ttft")}
    resolved = question.resolve(
        alternatives=alternatives,
        gpus=optional_count(max_gpus, "max_gpus"),
        batch_size=optional_count(batch_size, "batch_size"),
        seq_len=optional_count(seq_len, "seq_len"),
        isl=optional_count(isl, "isl"),
        osl=optional_count(osl, "osl"),
        encoder_len=optional_count(encoder_len, "encoder_len", minimum=0),
        rate=_written(rate),
        lengths=None if lengths is None else os.fspath(lengths),
        slo=target if any(target.values()) else None,
        objective=objective,
        prices=prices and {name: _written(price) for name, price in prices.items()},
        tensor_parallel_size=optional_count(tensor_parallel_size, "tensor_parallel_size"),
        pipeline_parallel_size=optional_count(pipeline_parallel_size, "pipeline_parallel_size"),
        data_parallel_size=optional_count(data_parallel_size, "data_parallel_size"),
        decode_context_parallel_size=optional_count(decode_context_parallel_size, "decode_context_parallel_size"),
        enable_expert_parallel=enable_expert_parallel,
        tensor_across_nodes=tensor_across_nodes,
        node_size=optional_count(node_size, "node_size"),
        node_link=None if node_link is None else f"{bytes_per_s(node_link, 'node_link')}B/s",
        calibration=None if calibration is None else os.fspath(calibration),
    )
    return make_plan(replace(resolved.request, frontier=frontier), resolved.hardware)


def plan_file(path: Path) -> PlanReport:
    """The plan that a file asks for: `kvcalc plan -f`. Whether its `expect:` holds is `kvcalc check`'s to say.

    Raises:
        KvcalcError: every Problem found in the file, with line and column.
    """
    from kvcalc.plan.planfile import load_plan
    from kvcalc.plan.planning import plan as make_plan
    from kvcalc.plan.resolving import resolve

    found = load_plan(os.fspath(path))
    resolved = resolve(found.spec, found)
    say(resolved.remarks)
    return make_plan(resolved.request, resolved.hardware)


def fit(
    model: Model,
    gpu: Gpu,
    *,
    gpus: Count = 1,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    encoder_len: Count | None = None,
    kv_cache_dtype: str = "bf16",
    weight_dtype: str | None = None,
    engine: str = "vllm",
    settings: Mapping[str, bool | int | float | str] | None = None,
    gpu_memory_utilization: Share | None = None,
    overheads: Mapping[str, Bytes] | None = None,
    tensor_parallel_size: Count | None = None,
    pipeline_parallel_size: Count | None = None,
    data_parallel_size: Count | None = None,
    decode_context_parallel_size: Count | None = None,
    enable_expert_parallel: bool | None = None,
    tensor_across_nodes: bool = False,
    node_size: Count | None = None,
) -> FitReport:
    """What given GPUs hold: largest batch, longest context, tokens of cache: `kvcalc fit`.

    Args:
        gpus: how many there are.
        batch_size: sequences that the longest context is asked for.
        seq_len: tokens per sequence that the largest batch is asked for; default: the model's context.

    Raises:
        KvcalcError: an unknown name, no known length, or no layout of this many GPUs is one that engines take.
    """
    from kvcalc.plan.fit import fit as fit_model

    question = _Question(
        model, (gpu,), engine, kv_cache_dtype, weight_dtype, settings, gpu_memory_utilization, overheads
    )
    resolved = question.resolve(
        gpus=optional_count(gpus, "gpus"),
        batch_size=optional_count(batch_size, "batch_size"),
        seq_len=optional_count(seq_len, "seq_len"),
        encoder_len=optional_count(encoder_len, "encoder_len", minimum=0),
        tensor_parallel_size=optional_count(tensor_parallel_size, "tensor_parallel_size"),
        pipeline_parallel_size=optional_count(pipeline_parallel_size, "pipeline_parallel_size"),
        data_parallel_size=optional_count(data_parallel_size, "data_parallel_size"),
        decode_context_parallel_size=optional_count(decode_context_parallel_size, "decode_context_parallel_size"),
        enable_expert_parallel=enable_expert_parallel,
        tensor_across_nodes=tensor_across_nodes,
        node_size=optional_count(node_size, "node_size"),
    )
    request = resolved.request
    demand = request.demand
    return fit_model(request, resolved.hardware[0], request.max_gpus, demand.batch_size or 1, demand.lengths.longest)


@dataclass(frozen=True, slots=True)
class _Question:
    """What `plan` and `fit` are both asked."""

    model: Model
    gpus: tuple[Gpu, ...]
    engine: str
    kv_cache_dtype: str
    weight_dtype: str | None
    settings: Mapping[str, bool | int | float | str] | None
    utilization: Share | None
    overheads: Mapping[str, Bytes] | None

    def resolve(
        self, *, alternatives: bool = True, slo: Mapping[str, str | None] | None = None, **rest: Any
    ) -> Resolved:
        """The planner's request, by the same path as a plan file's."""
        from kvcalc.plan.planfile import PlanSpec, Slo
        from kvcalc.plan.resolving import resolve

        spec, hardware = model_spec(self.model), [gpu_spec(gpu) for gpu in self.gpus]
        sizes = {
            name: f"{size_in_bytes(size, f'overheads[{name!r}]')}B" for name, size in (self.overheads or {}).items()
        }
        asked = PlanSpec(
            model=spec.name,
            gpu=tuple(gpu.name for gpu in hardware),
            engine=self.engine,
            kv_cache_dtype=self.kv_cache_dtype,
            weight_dtype=self.weight_dtype,
            settings=self.settings,
            gpu_memory_utilization=_decimal(share(self.utilization, "gpu_memory_utilization")),
            overheads=sizes or None,
            slo=Slo(**slo) if slo else None,
            **rest,
        )
        return resolve(asked, model=spec, hardware=hardware, alternatives=alternatives)


def _duration(value: Seconds | None, what: str) -> str | None:
    """As a plan file writes it."""
    if value is None or isinstance(value, str):
        return value
    return f"{max(1, round((seconds(value, what) or 0) * 10**9))}ns"


def _written(value: float | None) -> Any:
    """A float in digits alone, without an exponent; anything else is left to the plan to judge."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else value


def _decimal(value: Fraction | None) -> str | None:
    return None if value is None else f"{float(value):.15g}"
