"""A plan as it is written -> what the planner takes: names looked up, quantities read, files loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

from kvcalc.cache_dtypes import BF16, FormatChoice, parse_kv_cache_dtype
from kvcalc.calibration import load_calibration
from kvcalc.engines import find_engine
from kvcalc.engines.base import Parallel
from kvcalc.engines.sizing import parse_fraction, parse_settings
from kvcalc.footprint import Workload
from kvcalc.importers.find import find_model
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import Pins, check_pins
from kvcalc.plan.lengths import Lengths, Trace, load_trace
from kvcalc.plan.planfile import BYTE_RATE, DURATION, GPUS, PlanFile, PlanSpec, contradictions, placed
from kvcalc.plan.planning import plan
from kvcalc.plan.report import PlanReport
from kvcalc.plan.request import OBJECTIVES, Request
from kvcalc.plan.search import MAX_GPUS
from kvcalc.plan.times import NODE_LINK
from kvcalc.problems import KvcalcError, usage_error
from kvcalc.roofline import Calibration, ceilings
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.spec.model import ModelSpec
from kvcalc.units import parse_bytes, parse_count, parse_decimal
from kvcalc.weights.ledger import weight_scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A request, and the kinds of GPU it is made for."""

    request: Request
    hardware: tuple[HardwareSpec, ...]
    remarks: tuple[str, ...] = ()
    """What the import of a config.json or GGUF file took on whose word."""


def resolve(
    spec: PlanSpec,
    file: PlanFile | None = None,
    *,
    model: ModelSpec | None = None,
    hardware: Sequence[HardwareSpec] = (),
    alternatives: bool = True,
) -> Resolved:
    """The planner's request.

    Args:
        file: where the plan stands, so that errors have a place in it.
        model, hardware: in place of those that the plan names, already loaded.
        alternatives: whether the plan shall also say what would take fewer GPUs.

    Raises:
        KvcalcError: an unknown name, a quantity that cannot be read, or what no number of GPUs could give.
    """
    for loc, message, hint in contradictions(spec):
        raise placed(usage_error(message, help=hint), file, loc)
    at = _Places(file)
    gpus = tuple(hardware) or tuple({each.name: each for each in _gpus(spec, at)}.values())
    with at("model"):
        found, remarks = (model, ()) if model else find_model(spec.model)
    with at("engine"):
        engine = find_engine(spec.engine)
    with at("settings"):
        options = parse_settings(engine, [f"{name}={_written(value)}" for name, value in (spec.settings or {}).items()])
    with at("kv_cache_dtype"):
        formats = parse_kv_cache_dtype(spec.kv_cache_dtype)
    with at("weight_dtype"):
        scheme = weight_scheme(found, spec.weight_dtype)
    if spec.objective not in OBJECTIVES:
        raise usage_error(f"unknown objective {str(spec.objective)[:30]!r}", help=f"one of {', '.join(OBJECTIVES)}")
    demand, trace = _demand(spec, found, file)
    with at("tensor_parallel_size"):
        pins = _pins(spec)
    with at("overheads"):
        overheads = {name: parse_bytes(size) for name, size in (spec.overheads or {}).items()}
    request = Request(
        spec=found,
        engine=engine,
        scheme=scheme,
        formats=formats,
        options=options,
        demand=demand,
        trace=trace,
        target=_target(spec, at),
        encoder_len=_encoder_len(spec, found, file),
        utilization=_utilization(spec, at),
        overheads=overheads,
        pins=pins,
        node=spec.node_size,
        node_link=_node_link(spec, at),
        max_gpus=_most_gpus(spec, at),
        objective=spec.objective,
        prices=_prices(spec, at),
        calibration=_calibration(spec, gpus, at),
        alternatives=alternatives,
        remarks=tuple(_remarks(spec, found)),
    )
    with at(_pinned_key(spec)):
        check_pins(request.job().rules, pins)
    _check_engine(request, gpus[0], at)
    return Resolved(request=request, hardware=gpus, remarks=remarks)


def answer(
    spec: PlanSpec, file: PlanFile | None = None, *, model: ModelSpec | None = None, alternatives: bool = True
) -> PlanReport:
    """The plan; what else would do is looked for (if at all) only where it does not fit.

    Raises:
        KvcalcError: as `resolve`.
    """
    resolved = resolve(spec, file, model=model, alternatives=False)
    report = plan(resolved.request, resolved.hardware)
    if report.fits or not alternatives:
        return report
    return plan(replace(resolved.request, alternatives=True), resolved.hardware)


class _Places:
    """`with at(key):` gives Problems without a place that of a key of the plan file."""

    def __init__(self, file: PlanFile | None) -> None:
        self._file = file

    @contextmanager
    def __call__(self, *loc: str | int) -> Iterator[None]:
        try:
            yield
        except KvcalcError as error:
            raise placed(error, self._file, loc) from None


def _gpus(spec: PlanSpec, at: _Places) -> Iterator[HardwareSpec]:
    for index, name in enumerate(spec.gpu_names):
        with at(*(("gpu",) if isinstance(spec.gpu, str) else ("gpu", index))):
            yield find_hardware(name)


def _written(value: object) -> str:
    """A setting as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def count_of(spec: PlanSpec, key: str, file: PlanFile | None = None, *, minimum: int = 1) -> int | None:
    """A key that holds a count; None where it is left out.

    Raises:
        KvcalcError: no count.
    """
    value = getattr(spec, key)
    with _Places(file)(key):
        return None if value is None else parse_count(str(value), key, minimum=minimum)


def _most_gpus(spec: PlanSpec, at: _Places) -> int:
    with at("gpus"):
        most: int = MAX_GPUS if spec.gpus is None else GPUS.read(str(spec.gpus))
        return most


def length_of(spec: PlanSpec, file: PlanFile | None = None) -> tuple[int | None, Trace | None]:
    """(tokens of a sequence, the trace that they are of); None where the model's context is meant.

    Raises:
        KvcalcError: no count, or a trace that cannot be read.
    """
    tokens, isl, osl = (count_of(spec, key, file) for key in ("seq_len", "isl", "osl"))
    if spec.lengths is not None:
        with _Places(file)("lengths"):
            trace = load_trace(spec.lengths)
        return trace.totals.longest, trace
    return (isl + osl if tokens is None and isl is not None and osl is not None else tokens), None


def _demand(spec: PlanSpec, model: ModelSpec, file: PlanFile | None) -> tuple[Demand, Trace | None]:
    """Sequences and their lengths; a trace also says how long prompts and answers are, unless the plan does."""
    at = _Places(file)
    batch, isl, osl = (count_of(spec, key, file) for key in ("batch_size", "isl", "osl"))
    tokens, trace = length_of(spec, file)
    tokens = tokens or model.max_position_embeddings
    if tokens is None:
        with at("model"):
            raise usage_error(f"{model.name} states no context length", help="give seq_len, or isl and osl")
    if trace is None and isl is not None and isl > tokens:
        with at("isl"):
            message = f"a prompt of {isl:,} tokens exceeds the context of {model.name} ({tokens:,})"
            raise usage_error(message, help="give osl, or seq_len, as well")
    rate = None
    if spec.rate is not None:
        with at("rate"):
            rate = float(parse_decimal(str(spec.rate), "rate"))
    elif batch is None:
        batch = 1
    decoded = int(trace.mean_decoded) if trace and isl is None and osl is None else None
    with at("lengths"):
        demand = Demand(
            lengths=trace.bucketed if trace else Lengths.of(tokens), batch_size=batch, rate=rate, decoded=decoded,
            isl=isl if isl is not None or trace is None else trace.isl,
            osl=osl if osl is not None or trace is None else trace.osl,
        )  # fmt: skip
        if spec.slo and spec.slo.ttft is not None and demand.isl is None:
            raise usage_error("a time to the first token needs the length of the prompt", help="give isl")
    return demand, trace


def _target(spec: PlanSpec, at: _Places) -> Target:
    seconds: dict[str, float | None] = {}
    for key in ("tpot", "ttft"):
        text = getattr(spec.slo, key) if spec.slo else None
        with at("slo", key):
            seconds[f"{key}_s"] = None if text is None else DURATION.read(str(text)) / 10**9
    return Target(**seconds)


def _encoder_len(spec: PlanSpec, model: ModelSpec, file: PlanFile | None) -> int:
    given = count_of(spec, "encoder_len", file, minimum=0)
    return given if given is not None else model.layout().encoder_context or 0


def _remarks(spec: PlanSpec, model: ModelSpec) -> Iterator[str]:
    layout = model.layout()
    if spec.encoder_len is None and layout.has_encoder and not layout.encoder_context:
        yield f"{model.name} has cross-attention: counted with 0 encoder tokens; give --encoder-len"


def _check_engine(request: Request, hardware: HardwareSpec, at: _Places) -> None:
    """Refuse what the engine does not take, however many GPUs there are: a setting, a format, a kind of cache."""
    longest = request.demand.lengths.longest

    def asked(formats: FormatChoice) -> KvcalcError | None:
        try:
            job = replace(request, formats=formats).job()
            settings = job.settings(Parallel(), longest, job.gpu_defaults(hardware))
            workload = Workload(batch_size=1, seq_len=longest, encoder_len=request.encoder_len, formats=formats)
            request.engine.allocate(request.spec, workload, settings)
        except KvcalcError as error:
            return error
        return None

    refused = asked(request.formats)
    if refused is not None:
        of_format = request.formats != BF16 and asked(BF16) is None
        with at("kv_cache_dtype" if of_format else "settings" if request.options else "engine"):
            raise refused


def _utilization(spec: PlanSpec, at: _Places) -> Fraction | None:
    with at("gpu_memory_utilization"):
        given = spec.gpu_memory_utilization
        return None if given is None else parse_fraction(str(given), "gpu_memory_utilization")


def _node_link(spec: PlanSpec, at: _Places) -> int:
    with at("node_link"):
        rate: int = NODE_LINK if spec.node_link is None else BYTE_RATE.read(spec.node_link)
        return rate


def _prices(spec: PlanSpec, at: _Places) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, price in (spec.prices or {}).items():
        with at("prices", name):
            found[find_hardware(name).name] = float(parse_decimal(str(price), f"price of {name[:40]}"))
    return found


def _calibration(spec: PlanSpec, gpus: Sequence[HardwareSpec], at: _Places) -> Calibration | None:
    with at("calibration"):
        if spec.calibration is None:
            return None
        found = load_calibration(spec.calibration)
        for hardware in gpus:
            ceilings(hardware, found)  # refuses those of another GPU
        return found


_PINS = {
    "tensor": "tensor_parallel_size",
    "pipeline": "pipeline_parallel_size",
    "data": "data_parallel_size",
    "decode_context": "decode_context_parallel_size",
    "expert_parallel": "enable_expert_parallel",
    "tensor_across_nodes": "tensor_across_nodes",
}


def _pins(spec: PlanSpec) -> Pins:
    return Pins(**{pin: getattr(spec, key) for pin, key in _PINS.items()})


def _pinned_key(spec: PlanSpec) -> str:
    """The first key that pins something: where what cannot be is reported."""
    return next((key for key in _PINS.values() if getattr(spec, key)), "model")
