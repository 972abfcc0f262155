"""How many bytes, against what, why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvcalc.api.arguments import (
    Bytes,
    Count,
    Dtype,
    EngineName,
    Gpu,
    Model,
    Path,
    Share,
    engine_of,
    gpu_spec,
    model_spec,
    optional_count,
    share,
    size_in_bytes,
    workload,
)
from kvcalc.problems import usage_error

if TYPE_CHECKING:
    from kvcalc.comparison import CompareReport
    from kvcalc.diffing import DiffReport
    from kvcalc.engines.sizing import EngineSizeReport, Memory
    from kvcalc.explanation import ModelExplanation
    from kvcalc.sizing import SizeReport
    from kvcalc.spec.hardware import HardwareSpec
    from kvcalc.spec.model import ModelSpec


def find_model(model: Model, *, assume: str | None = None, hub: bool = False) -> ModelSpec:
    """The validated spec of a model.

    Args:
        model: a shipped name or hub id; a path to a spec, a config.json, its folder or a .gguf; the content of a spec
            or config.json as a mapping; a spec (returned as it is).
        assume: `"dense-gqa"` reads a config of an unknown family as plain attention.
        hub: fetch the config.json of an `org/name` that is not shipped (network).

    Raises:
        KvcalcError: unknown, unreadable, or refused.
    """
    return model_spec(model, assume=assume, hub=hub)


def find_gpu(gpu: Gpu) -> HardwareSpec:
    """An accelerator by its name, an alias, or the path of its YAML file.

    Raises:
        KvcalcError: unknown name, or a file that does not hold.
    """
    return gpu_spec(gpu)


def size(
    *models: Model,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    max_model_len: Count | None = None,
    encoder_len: Count | None = None,
) -> SizeReport:
    """Logical bytes of the caches of models: `kvcalc size`.

    Args:
        batch_size: sequences at once.
        seq_len: tokens per sequence; default: each model's context.
        kv_cache_dtype: one format, or one per stream as in `"key=q8_0,value=q4_0"`.
        max_model_len: treat this as the models' context.
        encoder_len: encoder tokens of encoder-decoder models.

    Raises:
        KvcalcError: no model, no length is known, or a stream cannot be stored in the chosen format.
    """
    from kvcalc.sizing import size as size_models

    return size_models(
        _specs(models, max_model_len),
        **workload(batch_size, seq_len, kv_cache_dtype, encoder_len),
    )


def allocate(
    *models: Model,
    engine: EngineName,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    max_model_len: Count | None = None,
    encoder_len: Count | None = None,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    data_parallel_size: int = 1,
    decode_context_parallel_size: int = 1,
    gpu_memory: Bytes | None = None,
    gpu_memory_utilization: Share | None = None,
    kv_cache_memory_bytes: Bytes | None = None,
    overheads: Mapping[str, Bytes] | None = None,
    **settings: Any,
) -> EngineSizeReport:
    """What an engine reserves, and what a memory budget yields: `kvcalc size --engine`.

    Args:
        gpu_memory: total bytes of one GPU: asks for the capacity as well.
        gpu_memory_utilization: the engine's share of it.
        kv_cache_memory_bytes: bytes of the cache on one GPU, outright.
        overheads: `weights`, or an overhead of the engine, in bytes on one GPU.
        settings: the engine's own, as in `block_size=32`; docs/engines.md lists them.

    Raises:
        KvcalcError: the engine refuses the model, the format, the sharding or a setting, or has no budget.
    """
    from kvcalc.engines.base import Parallel
    from kvcalc.engines.sizing import size_in_engine

    found = engine_of(engine)
    context = optional_count(max_model_len, "max_model_len")
    parallel = Parallel(
        tensor=tensor_parallel_size,
        pipeline=pipeline_parallel_size,
        data=data_parallel_size,
        decode_context=decode_context_parallel_size,
    )
    return size_in_engine(
        _specs(models, max_model_len),
        found,
        found.configure(parallel=parallel, max_model_len=context, **settings),
        **workload(batch_size, seq_len, kv_cache_dtype, encoder_len),
        memory=_memory(gpu_memory, kv_cache_memory_bytes, gpu_memory_utilization, overheads or {}),
    )


def compare(
    *models: Model | tuple[Model, str],
    variants: Iterable[str] = (),
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    encoder_len: Count | None = None,
) -> CompareReport:
    """Models and what-ifs side by side: `kvcalc compare`.

    Args:
        models: each a model, or (model, variant) as in `("qwen-72b", "gqa:8@kv:fp8")`.
        variants: what-ifs of every model: `mha`, `mqa`, `gqa:8`, `mla:512+64`, `window:4096`, `kv:int4-g32`.
        seq_len: default: the first model's context, for all.

    Raises:
        KvcalcError: no model, no length is known, or a variant or format does not apply.
    """
    from kvcalc.comparison import compare as compare_models
    from kvcalc.variants import Variant, parse_variant

    every = [parse_variant(text) for text in variants]
    candidates: list[tuple[ModelSpec, Variant | None]] = []
    for entry in models:
        model, own = entry if isinstance(entry, tuple) else (entry, None)
        spec = model_spec(model)
        candidates.append((spec, parse_variant(own) if own is not None else None))
        candidates += [(spec, variant) for variant in every]
    _refuse_none(candidates)
    return compare_models(
        candidates,
        **workload(batch_size, seq_len, kv_cache_dtype, encoder_len),
    )


def explain(
    model: Model,
    *,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    encoder_len: Count | None = None,
) -> ModelExplanation:
    """The formulas of a model's bytes with the numbers put in, and their sources: `kvcalc explain MODEL`.

    Raises:
        KvcalcError: no length is known, or a stream cannot be stored in the chosen format.
    """
    from kvcalc.explanation import explain_model
    from kvcalc.footprint import workload_for

    spec = model_spec(model)
    asked, _ = workload_for(spec, **workload(batch_size, seq_len, kv_cache_dtype, encoder_len))
    return explain_model(spec, asked)


def diff(
    old: Model,
    new: Model,
    *,
    batch_size: Count = 1,
    seq_len: Count | None = None,
    kv_cache_dtype: Dtype = "bf16",
    encoder_len: Count | None = None,
    gpu: str | None = None,
    engine: str = "vllm",
    plan: Path | None = None,
) -> DiffReport:
    """What a change of a spec does to the bytes: `kvcalc diff`.

    Args:
        gpu: say how many of these the planner needs, by the rules of `engine`.
        plan: the path of a plan file, in place of all of these arguments.

    Raises:
        KvcalcError: a model or plan that cannot be read, a stream that cannot be stored so, an unknown name, or other
            arguments beside a plan.
    """
    from kvcalc.diffing import Question, Subject, asked_by
    from kvcalc.diffing import diff as compare_sides
    from kvcalc.plan.planfile import PlanSpec, load_plan

    if plan is not None:
        others = {"batch_size": (batch_size, 1), "seq_len": (seq_len, None), "kv_cache_dtype": (kv_cache_dtype, "bf16"),
                  "encoder_len": (encoder_len, None), "gpu": (gpu, None), "engine": (engine, "vllm")}  # fmt: skip
        given = [name for name, (value, default) in others.items() if value != default]
        if given:
            raise usage_error(f"a plan brings its own {', '.join(given)}", help="give these, or the plan")
        file = load_plan(os.fspath(plan))
        question = asked_by(file.spec, file)
    else:
        question = Question(**workload(batch_size, seq_len, kv_cache_dtype, encoder_len))
        if gpu is not None:
            question = asked_by(
                PlanSpec(
                    model="any model",
                    gpu=gpu,
                    engine=engine,
                    batch_size=question.batch_size,
                    seq_len=question.seq_len,
                    encoder_len=question.encoder_len,
                    kv_cache_dtype=question.formats.name,
                )
            )
    before, after = (
        {"": Subject(name=spec.name, model=spec, question=question)} for spec in map(model_spec, (old, new))
    )
    return compare_sides(before, after)


def _specs(models: tuple[Model, ...], max_model_len: Count | None) -> list[ModelSpec]:
    _refuse_none(models)
    specs = [model_spec(model) for model in models]
    context = optional_count(max_model_len, "max_model_len")
    return specs if context is None else [replace(spec, max_position_embeddings=context) for spec in specs]


def _refuse_none(models: Iterable[object]) -> None:
    if not any(True for _ in models):
        raise usage_error("no model is named", help='as in kvcalc.size("qwen-72b")')


def _memory(
    gpu: Bytes | None, cache: Bytes | None, utilization: Share | None, overheads: Mapping[str, Bytes]
) -> Memory:
    from kvcalc.engines.sizing import Memory

    sizes = {name: size_in_bytes(size, f"overheads[{name!r}]") for name, size in overheads.items()}
    if gpu is not None and cache is not None:
        raise usage_error("gpu_memory and kv_cache_memory_bytes exclude each other", help="give one of them")
    if gpu is None and (utilization is not None or sizes):
        raise usage_error("a share or an overhead needs gpu_memory", help='as in gpu_memory="80GiB"')
    return Memory(
        gpu_bytes=None if gpu is None else size_in_bytes(gpu, "gpu_memory"),
        cache_bytes=None if cache is None else size_in_bytes(cache, "kv_cache_memory_bytes"),
        utilization=share(utilization, "gpu_memory_utilization"),
        weights_bytes=sizes.pop("weights", None),
        overheads=sizes,
    )
