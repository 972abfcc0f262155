"""A plan as a file describes it (and as the flags of `kvcalc plan` do): the question, and what the answer must be.

Keys are the long flags of `kvcalc plan`, with underscores. Quantities stay as they are written (`32K`, `50ms`);
`kvcalc.plan.resolving` reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MaxLen, MinLen

from kvcalc.fields import STRICT, Name, Size, Written
from kvcalc.files import inside_project
from kvcalc.problems import KvcalcError, Problem, usage_error
from kvcalc.spec.document import Document, Loc
from kvcalc.units import (
    BYTE_RATE_UNITS,
    BYTE_UNITS,
    DURATION_UNITS,
    parse_byte_rate,
    parse_bytes,
    parse_count,
    parse_decimal,
    parse_duration_ns,
)

MOST_GPUS = 4096
"""Of one deployment. Every number of them is looked at, in many layouts: more would take minutes."""
DESCRIBED = {**STRICT, "use_attribute_docstrings": True}
"""The text below each key is what an editor shows of it."""


def _pattern(units: Mapping[str, int]) -> str:
    return rf"^\d+(\.\d+)? ?({'|'.join(sorted(units))})$"


def _above_0(read: Callable[[str], int], example: str) -> Callable[[str], int]:
    def checked(text: str) -> int:
        value = read(text)
        if value <= 0:
            raise usage_error(f"{text[:60]!r} is not more than 0", help=f"as in {example}")
        return value

    return checked


def parse_gpus(text: str) -> int:
    """A number of GPUs that a plan may use.

    Raises:
        KvcalcError: no count, or more than MOST_GPUS.
    """
    value = parse_count(text, "number of GPUs")
    if value > MOST_GPUS:
        raise usage_error(
            f"a plan is of at most {MOST_GPUS:,} GPUs, got {text.strip()[:60]}",
            help="more are several deployments: plan one",
        )
    return value


COUNT = Written(parse_count, (int, str), r"^\d+(\.\d+)?[kKmMgGtT]?$", (8, "32K"))
GPUS = Written(parse_gpus, COUNT.types, COUNT.pattern, (8,))
COUNT_0 = Written(lambda text: parse_count(text, minimum=0), COUNT.types, COUNT.pattern, COUNT.examples)
DURATION = Written(_above_0(parse_duration_ns, "50ms"), (str,), _pattern(DURATION_UNITS), ("50ms",))
BYTES = Written(parse_bytes, (str,), _pattern(BYTE_UNITS), ("1.5GiB",))
BYTE_RATE = Written(_above_0(parse_byte_rate, "50GB/s"), (str,), _pattern(BYTE_RATE_UNITS), ("50GB/s",))
DECIMAL = Written(parse_decimal, (int, float, str), r"^\d+(\.\d+)?$", (2.5, 4))
FRACTION = Written(lambda text: parse_decimal(text, most=1), (int, float, str), r"^(0?\.\d+|1(\.0*)?)$", (0.9,))

Count = Annotated[int | str, COUNT]
"""As on the command line: `8192`, `32K` (32,768), `32k` (32,000)."""
Duration = Annotated[str, DURATION]
Decimal = Annotated[int | float | str, DECIMAL]
FileName = Annotated[str, MinLen(1), MaxLen(1000)]
"""A file, relative to the plan file."""
Setting = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Speed to reach. The planner's times are bounds: a plan that misses one here misses it for certain."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DESCRIBED

    tpot: Duration | None = None
    """Time per output token."""
    ttft: Duration | None = None
    """Time to the first token; needs `isl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the answer must be; `kvcalc plan -f` exits with 1 where it is not."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DESCRIBED

    fits: bool = True
    gpus: Size | None = None
    """Of the best layout, exactly: the fewest, unless another `objective` is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """A workload, the GPUs it may run on, and what is already decided."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DESCRIBED

    model: FileName
    """Catalogue name, hub id of a shipped model, or a file."""
    gpu: Name | Annotated[tuple[Name, ...], MinLen(1), MaxLen(32)]
    """One kind of GPU, or several to set side by side: catalogue names or files."""
    gpus: Annotated[int | str, GPUS] | None = None
    """As many as there are: `plan` looks no further, `fit` uses all of them."""
    batch_size: Count | None = None
    """Sequences at once; 1 unless there is a `rate`."""
    seq_len: Count | None = None
    """Tokens of each; else `isl` + `osl`, or the model's context."""
    encoder_len: Annotated[int | str, COUNT_0] | None = None
    """Encoder tokens of each; default: the model's."""
    rate: Decimal | None = None
    """Requests per second, in place of `batch_size`."""
    isl: Count | None = None
    """Tokens of a prompt."""
    osl: Count | None = None
    """Tokens of an answer."""
    lengths: FileName | None = None
    """Trace of real requests (CSV or JSON lines), in place of `seq_len`."""
    slo: Slo | None = None
    kv_cache_dtype: Name = "bf16"
    weight_dtype: Name | None = None
    """Default: as the model's spec says."""
    engine: Name = "vllm"
    """NAME or NAME@VERSION."""
    settings: Mapping[Name, Setting] | None = None
    """Of the engine: what `--set` takes."""
    gpu_memory_utilization: Annotated[int | float | str, FRACTION] | None = None
    overheads: Mapping[Name, Annotated[str, BYTES]] | None = None
    """Of one GPU, by name: `activation: 1.5GiB`."""
    tensor_parallel_size: Size | None = None
    pipeline_parallel_size: Size | None = None
    data_parallel_size: Size | None = None
    decode_context_parallel_size: Size | None = None
    enable_expert_parallel: bool | None = None
    """Whole experts on each rank, slices of each, or (left out) whichever is better."""
    tensor_across_nodes: bool = False
    """Whether tensor parallelism may leave the node."""
    node_size: Size | None = None
    """GPUs of a node; default: those that the GPU's own links reach."""
    node_link: Annotated[str, BYTE_RATE] | None = None
    """From one GPU to another node."""
    objective: Literal["gpus", "tpot", "throughput", "cost"] = "gpus"
    prices: Mapping[Name, Decimal] | None = None
    """GPU -> price of one per hour."""
    calibration: FileName | None = None
    """Measured ceilings: a report of `kvcalc verify -o json`."""
    expect: Expected | None = None

    @property
    def gpu_names(self) -> tuple[str, ...]:
        return (self.gpu,) if isinstance(self.gpu, str) else self.gpu


Fault = tuple[Loc, str, str | None]
"""Place, message, help."""


def contradictions(spec: PlanSpec) -> Iterator[Fault]:
    """What cannot be asked together."""
    if not spec.gpu_names:
        yield ("gpu",), "no GPU is named", "as in h200; see `kvcalc list gpus`"
    if spec.batch_size is not None and spec.rate is not None:
        yield ("rate",), "a rate and a batch size: the one follows from the other", "give one of them"
    if spec.rate is not None and spec.lengths is None and (spec.isl is None or spec.osl is None):
        yield ("rate",), "a rate needs the lengths of prompt and answer", "give isl and osl, or a trace"
    if spec.osl is not None and spec.isl is None and spec.lengths is None:
        yield ("osl",), "an answer without the prompt that it follows", "give isl, or seq_len alone"
    if spec.seq_len is not None and spec.isl is not None and spec.lengths is None:
        used = sum(parse_count(str(part), key) for key, part in _parts(spec))
        if used > parse_count(str(spec.seq_len), "seq_len"):
            message = f"{' + '.join(key for key, _ in _parts(spec))} = {used:,} tokens exceed seq_len {spec.seq_len}"
            yield ("seq_len",), message, "leave out seq_len, which is isl + osl then"
    if spec.lengths is not None and spec.seq_len is not None:
        yield ("lengths",), "a trace and a length: the trace holds the lengths", "give one of them"
    if spec.slo and spec.slo.ttft is not None and spec.isl is None and spec.lengths is None:
        yield ("slo", "ttft"), "a time to the first token needs the length of the prompt", "give isl, or a trace"
    if spec.calibration is not None and len(spec.gpu_names) > 1:
        yield ("calibration",), "a calibration was measured on one kind of GPU", "give one gpu, or leave it out"
    if spec.objective == "cost" and not spec.prices:
        yield ("objective",), "the lowest cost needs prices", "as in prices: {h200: 2.50}, or --price h200=2.50"
    expect = spec.expect
    if expect and expect.gpus is not None and not expect.fits:
        yield ("expect", "gpus"), "what does not fit has no number of GPUs", "leave out one of them"
    elif expect and expect.gpus is not None and spec.gpus is not None and expect.gpus > COUNT.read(str(spec.gpus)):
        yield ("expect", "gpus"), f"{expect.gpus:,} GPUs are expected, but there are {spec.gpus}", None


def _parts(spec: PlanSpec) -> list[tuple[str, int | str]]:
    """Prompt and answer, as far as they are given."""
    return [(key, part) for key, part in (("isl", spec.isl), ("osl", spec.osl)) if part is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A plan and where each part of it stands."""

    spec: PlanSpec
    document: Document
    changed: frozenset[str] = frozenset()
    """Keys that flags have set since: they stand nowhere in the file."""

    def problem(self, code: str, loc: Loc, message: str, *, help: str | None = None) -> Problem:
        """A Problem at `loc` of the file; without a place where a flag has set it."""
        if loc and loc[0] in self.changed:
            return Problem(code=code, message=message, help=help)
        return self.document.problem(code, loc, message, help=help)


def load_plan(path: str) -> PlanFile:
    """A plan file, or standard input for `-`.

    Raises:
        KvcalcError: every Problem found, with line and column.
    """
    from kvcalc.spec.yamlio import read_bytes

    return read_plan(*read_bytes(path))


def read_plan(name: str, content: bytes) -> PlanFile:
    """A plan from a stranger's bytes; files that it names are relative to `name`.

    Raises:
        KvcalcError: every Problem found, with line and column.
    """
    from kvcalc.spec.yamlio import load_yaml

    return plan_of(load_yaml(name, content), name)


def plan_of(document: Document, path: str) -> PlanFile:
    """The plan that a document describes; files that it names are relative to `path`.

    Raises:
        KvcalcError: every Problem found, with line and column.
    """
    from kvcalc.spec.validate import validate

    spec = validate(PlanSpec, document)
    faults = [document.problem("KV101", loc, message, help=hint) for loc, message, hint in contradictions(spec)]
    if faults:
        raise KvcalcError(*faults)
    return PlanFile(spec=located(spec, document, path), document=document)


def located(spec: PlanSpec, document: Document, path: str) -> PlanSpec:
    """The same plan with paths that lead from the working directory, not from the plan file.

    A plan file may come from a stranger, and what cannot be read as a spec is quoted in messages: so it reaches no
    file outside its project (`kvcalc.files.inside_project`).

    Raises:
        KvcalcError: a path that is absolute or leads elsewhere (KV904).
    """
    folder = Path(path).parent

    def place(loc: Loc, text: str) -> str:
        found = os.path.normpath(folder / text)
        if os.path.isabs(text) or text.startswith("~") or not inside_project(str(folder), found):
            message = f"{text[:200]!r} lies outside the plan's project"
            hint = "files of a plan are relative to it and below its project's top folder; flags may name any file"
            raise Unresolved(loc, document.problem("KV904", loc, message, help=hint))
        return found

    def named(loc: Loc, text: str) -> str:
        return place(loc, text) if is_file(text) else text

    gpu = spec.gpu
    changes: dict[str, Any] = {
        "model": named(("model",), spec.model),
        "gpu": named(("gpu",), gpu)
        if isinstance(gpu, str)
        else tuple(named(("gpu", index), name) for index, name in enumerate(gpu)),
    }
    for key in ("lengths", "calibration"):
        text = getattr(spec, key)
        if text is not None:
            changes[key] = place((key,), text)
    return replace(spec, **changes)


def is_file(text: str) -> bool:
    """In a plan file a path shows that it is one: `-`, or a bare name that happens to be a file, is none."""
    return text.lower().endswith((".yaml", ".yml", ".json", ".gguf")) or text.startswith((".", "/", "~"))


class Unresolved(KvcalcError):
    """Problems with what a key of a plan names or says."""

    def __init__(self, loc: Loc, *problems: Problem) -> None:
        super().__init__(*problems)
        self.loc = loc


def placed(error: KvcalcError, file: PlanFile | None, loc: Loc) -> Unresolved:
    """The same Problems; those that have no place stand at `loc` of the plan file."""
    if file is None:
        return Unresolved(loc, *error.problems)
    return Unresolved(
        loc, *(p if p.path is not None else file.problem(p.code, loc, p.message, help=p.help) for p in error.problems)
    )
