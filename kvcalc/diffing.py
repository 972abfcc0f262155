"""The answer of `kvcalc diff`: what a change of specs (or of plans) does to the bytes, and to the GPUs they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from kvcalc.cache_dtypes import BF16, FormatChoice, parse_kv_cache_dtype
from kvcalc.footprint import footprint, workload_for
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec

if TYPE_CHECKING:
    from kvcalc.plan.planfile import PlanFile, PlanSpec
    from kvcalc.plan.report import PlanReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The workload that a model is sized for; with a plan also the GPUs that hold it, by the planner's rules."""

    batch_size: int | None = 1
    """None: the plan gives a rate."""
    seq_len: int | None = None
    """None: the model's own context."""
    encoder_len: int | None = None
    formats: FormatChoice = BF16
    plan: PlanSpec | None = None
    file: PlanFile | None = None
    """Where the plan stands, so that errors have a place in it."""
    gpus: tuple[str, ...] = ()
    """Kinds of GPU of the plan, by their names in the catalogue."""
    engine: str | None = None
    """Of the plan, with its version."""

    @property
    def is_one_length(self) -> bool:
        """Whether batch and length say it all: a rate, or a trace, only the planner can size."""
        return self.batch_size is not None and (self.plan is None or self.plan.lengths is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One side of a comparison: a model, and what is asked of it."""

    name: str
    """Of the model, or of the plan and its model."""
    model: ModelSpec
    question: Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """The planner's answer for one kind of GPU."""

    gpu: str
    gpus: int | None
    """The fewest; None: as many as there may be are not enough."""
    label: str | None
    """Their layout, as in TP8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model before or after."""

    batch_size: int | None
    """None where a rate is asked for, and no layout serves it."""
    seq_len: int | None
    """Tokens per sequence (the longest of a trace); None where none was given and the model states no context."""
    kv_cache_dtype: str
    bytes_per_token: Fraction
    """Of one sequence, once windows have filled."""
    fixed_bytes: int
    """Of one sequence: windows, states, encoder."""
    logical_bytes: int | None
    """Of the whole batch; None where there is no length or no batch."""
    needed: tuple[Needed, ...]
    """Empty where no GPU was named, or the weights cannot be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChange:
    """One model (or plan); a side is None where it was added or removed."""

    model: str
    old: Side | None
    new: Side | None

    @property
    def changes_figures(self) -> bool:
        """Whether any figure differs (a side that is missing differs)."""
        return self.old != self.new


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    """Every model or plan of either side, by its key."""

    models: tuple[ModelChange, ...]
    batch_size: int | None
    """None: a plan's rate."""
    seq_len: int | None
    """None: each model's own context."""
    kv_cache_dtype: str
    gpus: tuple[str, ...]
    """Kinds of GPU that were asked about."""
    engine: str | None
    """Whose rules say how many are needed; None where no GPU was named."""
    warnings: tuple[str, ...]

    @property
    def changes_figures(self) -> bool:
        """Whether any figure of any of them differs."""
        return any(model.changes_figures for model in self.models)


def asked_by(plan: PlanSpec, file: PlanFile | None = None) -> Question:
    """The question that a plan asks of any model.

    Raises:
        KvcalcError: an unknown GPU or engine, or a quantity that cannot be read.
    """
    from kvcalc.engines import find_engine
    from kvcalc.plan.resolving import count_of, length_of
    from kvcalc.spec.hardware_catalog import find_hardware

    # An unknown name is the user's mistake, and none of each model; weights that cannot be counted are the model's.
    engine = find_engine(plan.engine)
    return Question(
        batch_size=None if plan.rate is not None else count_of(plan, "batch_size", file) or 1,
        seq_len=length_of(plan, file)[0],
        encoder_len=count_of(plan, "encoder_len", file, minimum=0),
        formats=parse_kv_cache_dtype(plan.kv_cache_dtype),
        plan=plan,
        file=file,
        gpus=tuple(dict.fromkeys(find_hardware(gpu).name for gpu in plan.gpu_names)),
        engine=f"{engine.name} {engine.version}",
    )


def diff(old: Mapping[str, Subject], new: Mapping[str, Subject]) -> DiffReport:
    """Both sides of each model or plan, by the keys of the mappings.

    Raises:
        KvcalcError: no length is known, or a stream cannot be stored so.
    """
    warnings: list[str] = []
    changes: list[ModelChange] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        last = _side(after, warnings) if after else None
        first = last if _ask_the_same(before, after) else _side(before, warnings) if before else None
        shown = after or before
        assert shown is not None
        changes.append(ModelChange(model=shown.name, old=first, new=last))
    subject = next(iter((*new.values(), *old.values())), None)
    question = subject.question if subject else Question()
    return DiffReport(
        models=tuple(changes),
        batch_size=question.batch_size,
        seq_len=question.seq_len,
        kv_cache_dtype=question.formats.name,
        gpus=question.gpus,
        engine=question.engine,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _ask_the_same(one: Subject | None, two: Subject | None) -> bool:
    """Whether two sides have one answer: only what is claimed of the model differs, or nothing does."""
    if one is None or two is None:
        return False
    return one.question == two.question and _bare(one.model) == _bare(two.model)


def _bare(spec: ModelSpec) -> ModelSpec:
    """Without what no byte depends on."""
    return replace(spec, aliases=(), revision=None, sources=(), notes=None, expect=(), budget=None)


def _side(subject: Subject, warnings: list[str]) -> Side:
    """The figures of one side. A change of the context itself must show: without a length, each is sized at its own."""
    spec, question = subject.model, subject.question
    known = question.seq_len is not None or spec.max_position_embeddings is not None
    workload, said = workload_for(
        spec, batch_size=question.batch_size or 1, seq_len=question.seq_len if known else 1,
        encoder_len=question.encoder_len, formats=question.formats,
    )  # fmt: skip
    warnings += said
    if not known:
        warnings.append(f"{spec.name} states no context length: give --seq-len for its bytes")
    counted = footprint(spec, workload)
    side = Side(
        batch_size=question.batch_size,
        seq_len=counted.seq_len if known else None,
        kv_cache_dtype=question.formats.name,
        bytes_per_token=Fraction(counted.growth.step_bytes, counted.growth.step_tokens),
        fixed_bytes=counted.growth.fixed_bytes,
        logical_bytes=counted.logical_bytes if known and question.is_one_length else None,
        needed=(),
    )
    answer = _planned(subject, warnings) if question.plan and known else None
    return _with_plan(side, answer) if answer else side


def _planned(subject: Subject, warnings: list[str]) -> PlanReport | None:
    """The planner's answer; None, with a warning, where there can be none of this model."""
    # The planner takes longer to import than two models to size.
    from kvcalc.plan.resolving import answer

    question = subject.question
    assert question.plan is not None
    try:
        return answer(question.plan, question.file, model=subject.model, alternatives=False)
    except KvcalcError as error:
        message = error.problems[0].message
        warnings.append(message if subject.model.name in message else f"{subject.model.name}: {message}")
        return None


def _with_plan(side: Side, report: PlanReport) -> Side:
    needed = tuple(
        Needed(gpu=plan.gpu, gpus=plan.gpus, label=plan.choices[0].label if plan.choices else None)
        for plan in report.plans
    )
    served = report.batch_size
    if served is None and report.fits:
        served = report.plans[report.best].choices[0].batch_size
    return replace(side, batch_size=served, logical_bytes=report.cache_bytes, needed=needed)
