"""Options that say which engine, how it is sharded, and how much memory it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvcalc.engines.base import Engine
    from kvcalc.engines.sizing import Memory

ENGINE_PANEL = "Engine and sharding"
MEMORY_PANEL = "Memory of a GPU"


def _sharding(long: str, short: str, meaning: str) -> Any:
    return typer.Option(f"--{long}", f"-{short}", metavar="N", min=1, help=meaning, rich_help_panel=ENGINE_PANEL)


EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME[@VERSION]",
        help="Count what it reserves: ideal, vllm, sglang, tensorrt-llm, lmdeploy, llama.cpp, transformers.",
        rich_help_panel=ENGINE_PANEL,
    ),
]
TensorOption = Annotated[int | None, _sharding("tensor-parallel-size", "tp", "Ranks that split the heads.")]
PipelineOption = Annotated[int | None, _sharding("pipeline-parallel-size", "pp", "Ranks that split the layers.")]
DataOption = Annotated[int | None, _sharding("data-parallel-size", "dp", "Replicas that split the sequences.")]
ContextOption = Annotated[
    int | None,
    _sharding("decode-context-parallel-size", "dcp", "Tensor-parallel ranks that share a sequence's tokens."),
]
BlockOption = Annotated[
    str | None,
    typer.Option(
        "--block-size", metavar="TOKENS", help="Tokens per block or page (the engine's default).",
        rich_help_panel=ENGINE_PANEL,
    ),
]  # fmt: skip
BatchedTokensOption = Annotated[
    str | None,
    typer.Option(
        "--max-num-batched-tokens", metavar="N", help="vLLM: tokens of one prefill step (8192).",
        rich_help_panel=ENGINE_PANEL,
    ),
]  # fmt: skip
SpeculativeOption = Annotated[
    str | None,
    typer.Option(
        "--num-speculative-tokens", metavar="N", help="Run the model's extra prediction layers (MTP).",
        rich_help_panel=ENGINE_PANEL,
    ),
]  # fmt: skip
HybridOption = Annotated[
    bool,
    typer.Option(
        "--disable-hybrid-kv-cache-manager", help="vLLM: charge windows in full.", rich_help_panel=ENGINE_PANEL
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Another setting of the engine, as in n_ctx=32K; see docs/engines.md.",
        rich_help_panel=ENGINE_PANEL,
    ),
]  # fmt: skip
GpuMemoryOption = Annotated[
    str | None,
    typer.Option("--gpu-memory", metavar="SIZE", help="Total of one GPU, as in 80GiB.", rich_help_panel=MEMORY_PANEL),
]
UtilizationOption = Annotated[
    str | None,
    typer.Option(
        "--gpu-memory-utilization", metavar="F", help="The engine's fraction (vLLM: 0.92 of the total).",
        rich_help_panel=MEMORY_PANEL,
    ),
]  # fmt: skip
CacheMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--kv-cache-memory-bytes", metavar="SIZE", help="The cache's bytes on one GPU, outright.",
        rich_help_panel=MEMORY_PANEL,
    ),
]  # fmt: skip
OverheadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--overhead", metavar="NAME=SIZE", help="weights, or an overhead of the engine, on one GPU.",
        rich_help_panel=MEMORY_PANEL,
    ),
]  # fmt: skip


def chosen_engine(
    engine: str | None, pairs: list[str] | None, parallel: dict[str, int | None], **options: Any
) -> tuple[Engine, Any]:
    """The engine (ideal where none is named) and its settings.

    Raises:
        KvcalcError: unknown engine or setting.
    """
    from kvcalc.engines import find_engine
    from kvcalc.engines.base import Parallel
    from kvcalc.engines.sizing import parse_settings

    found = find_engine(engine or "ideal")
    sharding = Parallel(**{name: count for name, count in parallel.items() if count is not None})
    return found, found.configure(parallel=sharding, **options, **parse_settings(found, pairs or []))


def given_memory(
    gpu_memory: str | None, utilization: str | None, cache: str | None, overheads: list[str] | None
) -> Memory:
    """The GPU's memory as the user gives it.

    Raises:
        KvcalcError: not a size, or an overhead without one.
    """
    from kvcalc.engines.sizing import Memory, parse_fraction
    from kvcalc.problems import usage_error
    from kvcalc.units import parse_bytes

    sizes: dict[str, int] = {}
    for pair in overheads or []:
        name, equals, size = pair.partition("=")
        if not equals:
            raise usage_error(f"{pair[:60]!r} is no overhead", help="write it like activation=1.5GiB")
        sizes[name.strip()] = parse_bytes(size)
    if gpu_memory is not None and cache is not None:
        raise usage_error("--gpu-memory and --kv-cache-memory-bytes exclude each other", help="give one of them")
    if gpu_memory is None and (utilization is not None or sizes):
        raise usage_error("a fraction or an overhead needs --gpu-memory", help="as in --gpu-memory 80GiB")
    return Memory(
        gpu_bytes=None if gpu_memory is None else parse_bytes(gpu_memory),
        cache_bytes=None if cache is None else parse_cache_bytes(cache),
        utilization=None if utilization is None else parse_fraction(utilization, "--gpu-memory-utilization"),
        weights_bytes=sizes.pop("weights", None),
        overheads=sizes,
    )


def parse_cache_bytes(text: str) -> int:
    """`53687091200`, `50GiB`, or vLLM's `50G` (2^30) and `50g` (10^9)."""
    from kvcalc.units import parse_bytes, parse_count

    return parse_bytes(text) if text.strip()[-1:] in ("B", "b") else parse_count(text, "--kv-cache-memory-bytes")
