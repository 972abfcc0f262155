"""The options of `plan` and `fit`: one table, by the key of a plan file that each stands for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from kvcalc.cli.engine_options import ENGINE_PANEL, MEMORY_PANEL, SetOption

if TYPE_CHECKING:
    from kvcalc.plan.planfile import PlanFile, PlanSpec

WORKLOAD_PANEL = "Workload"
SPEED_PANEL = "Speed and cost"
NODE_PANEL = "GPUs and nodes"


def _option(panel: str, *names: str, metavar: str | None = None, text: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, show_default=False, **more)


def _size(long: str, short: str, text: str) -> Any:
    names = (f"--{long}", f"-{short}")
    return Annotated[int | None, _option(ENGINE_PANEL, *names, metavar="N", text=text, min=1)]


def _text(panel: str, *names: str, metavar: str, text: str) -> Any:
    return Annotated[str | None, _option(panel, *names, metavar=metavar, text=text)]


def _texts(panel: str, *names: str, metavar: str, text: str) -> Any:
    return Annotated[list[str] | None, _option(panel, *names, metavar=metavar, text=text)]


def _switch(panel: str, *names: str, text: str) -> Any:
    return Annotated[bool | None, _option(panel, *names, text=text)]


OPTIONS: Mapping[str, Any] = {
    "gpu": _texts(
        NODE_PANEL, "--gpu", metavar="GPU,...", text="Catalogue names, aliases or YAML files; see `list gpus`."
    ),
    "gpus": _text(NODE_PANEL, "--gpus", "--max-gpus", metavar="N", text="How many there are (plan: 1024; fit: 1)."),
    "node_size": Annotated[
        int | None,
        _option(NODE_PANEL, "--node-size", metavar="N", min=1, text="GPUs of a node; default: those its links reach."),
    ],
    "node_link": _text(
        NODE_PANEL, "--node-link", metavar="RATE", text="From one GPU to another node, as in 50GB/s (the default)."
    ),
    "batch_size": _text(
        WORKLOAD_PANEL, "--batch-size", "-b", "--concurrency", metavar="N", text="Sequences at once (1)."
    ),
    "seq_len": _text(
        WORKLOAD_PANEL, "--seq-len", "-s", metavar="TOKENS",
        text="Of each: 32K = 32,768, 32k = 32,000. Default: ISL + OSL, or the model's context.",
    ),
    "encoder_len": _text(WORKLOAD_PANEL, "--encoder-len", metavar="TOKENS", text="Of encoder-decoder models."),
    "rate": _text(WORKLOAD_PANEL, "--rate", metavar="R", text="Requests per second, in place of a batch size."),
    "isl": _text(WORKLOAD_PANEL, "--isl", metavar="TOKENS", text="Prompt."),
    "osl": _text(WORKLOAD_PANEL, "--osl", metavar="TOKENS", text="Answer."),
    "lengths": _text(
        WORKLOAD_PANEL, "--lengths", metavar="FILE",
        text="Trace of real requests, in place of a length: CSV with a heading, or JSON lines.",
    ),
    "kv_cache_dtype": _text(
        WORKLOAD_PANEL, "--kv-cache-dtype", metavar="FORMAT", text="As in fp8 (bf16); see `list formats`."
    ),
    "weight_dtype": _text(
        WORKLOAD_PANEL, "--weight-dtype", metavar="FORMAT", text="As in fp8. Default: as the spec says."
    ),
    "tpot": _text(SPEED_PANEL, "--tpot", metavar="TIME", text="Per output token at most, as in 50ms."),
    "ttft": _text(SPEED_PANEL, "--ttft", metavar="TIME", text="To the first token at most; needs --isl."),
    "objective": _text(
        SPEED_PANEL, "--objective", metavar="WORD",
        text="What is best: the fewest gpus (the default), the lowest tpot, the most throughput per GPU, or cost.",
    ),
    "prices": _texts(
        SPEED_PANEL, "--price", metavar="GPU=PRICE,...", text="Of one per hour, as in h200=2.50,h100=1.90."
    ),
    "calibration": _text(
        SPEED_PANEL, "--calibration", metavar="FILE", text="Measured ceilings: a report of `verify -o json`."
    ),
    "engine": _text(ENGINE_PANEL, "--engine", metavar="NAME[@VERSION]", text="Whose rules (vllm)."),
    "settings": SetOption,
    "tensor_parallel_size": _size("tensor-parallel-size", "tp", "Ranks that share each layer."),
    "pipeline_parallel_size": _size("pipeline-parallel-size", "pp", "Ranks that split the layers."),
    "data_parallel_size": _size("data-parallel-size", "dp", "Ranks that split the sequences."),
    "decode_context_parallel_size": _size(
        "decode-context-parallel-size", "dcp", "Tensor-parallel ranks that share a sequence's tokens."
    ),
    "enable_expert_parallel": _switch(
        ENGINE_PANEL, "--enable-expert-parallel/--no-expert-parallel", "-ep", text="Whole experts on a rank, or slices."
    ),
    "tensor_across_nodes": _switch(
        ENGINE_PANEL, "--tensor-across-nodes", text="Let tensor parallelism leave the node."
    ),
    "gpu_memory_utilization": _text(
        MEMORY_PANEL, "--gpu-memory-utilization", metavar="F", text="The engine's fraction (vLLM: 0.92 of the total)."
    ),
    "overheads": _texts(
        MEMORY_PANEL, "--overhead", metavar="NAME=SIZE,...",
        text="Of one GPU, as in activation=1.5GiB; --details names them.",
    ),
}  # fmt: skip
"""Key of PlanSpec (or of its `slo`) -> the option. Left out everywhere: nothing given."""

SPEED_ALONE = ("rate", "isl", "osl", "lengths", "slo", "objective", "prices", "calibration", "expect")
"""Keys of a plan that `fit` does not ask about."""
FIT_OPTIONS = tuple(name for name in OPTIONS if name not in (*SPEED_ALONE, "tpot", "ttft", "node_link"))

FileOption = Annotated[
    str | None, typer.Option("--file", "-f", metavar="PLAN", help="A plan file, or -; flags override its keys.")
]
DetailsOption = Annotated[
    bool, typer.Option("--details", help="Every layout and kind of GPU, memory term by term with its source.")
]
ModelArgument = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="Catalogue name, hub id or spec file.", show_default=False),
]

Given = Mapping[str, Any]
"""Options that the user gave, by their names in OPTIONS (and `model`)."""


def takes(names: Iterable[str], *, model: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command MODEL and the named options; it receives those that were given as its first argument."""
    shared = {**({"model": ModelArgument} if model else {}), **{name: OPTIONS[name] for name in names}}

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(body).parameters.values())[1:]
        hints = get_type_hints(body, include_extras=True)

        @wraps(body)
        def command(**values: Any) -> None:
            given = {name: values.pop(name) for name in shared}
            body({name: value for name, value in given.items() if value not in (None, [])}, **values)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            *(inspect.Parameter(name, keyword, default=None, annotation=hint) for name, hint in shared.items()),
            *(parameter.replace(kind=keyword, annotation=hints[parameter.name]) for parameter in own),
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


REPLACES: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("rate",),
    "rate": ("batch_size",),
    "seq_len": ("lengths",),
    "lengths": ("seq_len",),
}
"""A flag takes the place of these keys of a plan file as well: they answer the same question."""


def asked(given: Given, file: str | None) -> tuple[PlanSpec, PlanFile | None]:
    """(the plan that flags describe, or that of a file with what flags change of it; where it stands).

    What a flag has changed is no longer what the file expects, so `expect` goes then.

    Raises:
        KvcalcError: the file does not hold, or model and GPU are missing.
    """
    from kvcalc.plan.planfile import PlanSpec, load_plan
    from kvcalc.problems import usage_error

    if file is None:
        if "model" not in given:
            raise usage_error("no MODEL is named", help="name one, as in qwen3-8b, or a plan file with -f")
        if "gpu" not in given:
            raise usage_error("no GPU is named", help="as in --gpu h200; see `kvcalc list gpus`")
        return PlanSpec(**_fields(given, None)), None
    found = load_plan(file)
    if not given:
        return found.spec, found
    fields = _fields(given, found.spec)
    dropped: dict[str, Any] = {key: None for name in given for key in REPLACES.get(name, ()) if key not in fields}
    if found.spec.expect is not None:
        dropped["expect"] = None
    spec = replace(found.spec, **dropped, **fields)
    return spec, replace(found, spec=spec, changed=frozenset((*dropped, *fields)))


def _fields(given: Given, spec: PlanSpec | None) -> dict[str, Any]:
    """Options as fields of a PlanSpec; a name within a mapping replaces that of the file."""
    from kvcalc.plan.planfile import Slo

    fields = {name: value for name, value in given.items() if name not in ("tpot", "ttft")}
    speed = {name: given[name] for name in ("tpot", "ttft") if name in given}
    if speed:
        fields["slo"] = replace((spec.slo if spec else None) or Slo(), **speed)
    examples = {"settings": "n_ctx=8192", "overheads": "activation=1.5GiB", "prices": "h200=2.50"}
    for name, example in examples.items():
        if name in given:
            texts = given[name] if name == "settings" else _listed(given[name])  # a setting's value may hold commas
            fields[name] = {**((getattr(spec, name) if spec else None) or {}), **_pairs(texts, example)}
    if "gpu" in given:
        fields["gpu"] = tuple(dict.fromkeys(_listed(given["gpu"])))
    return fields


def _listed(texts: Iterable[str]) -> list[str]:
    """What a repeated option, or one with commas, lists."""
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _pairs(texts: Iterable[str], example: str) -> dict[str, str]:
    from kvcalc.problems import usage_error

    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise usage_error(f"{text[:60]!r} is no NAME=VALUE", help=f"write it like {example}")
        found[name.strip()] = value.strip()
    return found
