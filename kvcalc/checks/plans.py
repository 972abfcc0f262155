"""KV5xx of plan files: what the planner answers, against what the plan asks for. It runs where a plan is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import PlannedFile
from kvcalc.problems import KvcalcError, Severity

ASKED = ("seq_len", "osl", "lengths", "batch_size", "rate")
"""Keys of a plan that a remark may be about: the first of them that is given has its line."""


def _unmet(code: str) -> Callable[[PlannedFile], Iterator[Hit]]:
    """The verdicts of one code."""

    def check(file: PlannedFile) -> Iterator[Hit]:
        from kvcalc.plan.verdict import verdicts

        if not isinstance(file.answer, KvcalcError):
            for found in verdicts(file.spec, file.answer):
                if found.code == code:
                    yield Hit(loc=found.loc, message=found.message, help=found.help)

    return check


def not_computable(file: PlannedFile) -> Iterator[Hit]:
    """A name, a file or a layout that cannot be."""
    from kvcalc.plan.planfile import Unresolved

    error = file.answer
    if not isinstance(error, KvcalcError):
        return
    loc = error.loc if isinstance(error, Unresolved) else ()
    for problem in error.problems:
        where = f"{problem.place}: " if problem.path not in (None, file.document.path) else ""
        yield Hit(loc=loc, message=where + problem.message, help=problem.help)


def remarks(file: PlannedFile) -> Iterator[Hit]:
    """What the planner itself warns of."""
    if not isinstance(file.answer, KvcalcError):
        for message in file.answer.warnings:
            place = next((key for key in ASKED if getattr(file.spec, key) is not None), "model")
            yield Hit(loc=(place,), message=message)


RULES: tuple[Rule[PlannedFile], ...] = (
    Rule(
        code="KV506",
        name="plan-does-not-fit",
        summary="a plan whose workload does not fit on the GPUs that it names",
        why="The planner tries every layout of every number of GPUs up to `gpus`, with the engine's own rules and "
        "overheads. The message says what the best of them lacks on each GPU. Where a plan is meant not to fit, "
        "`expect: {fits: false}` says so.",
        check=_unmet("KV506"),
    ),
    Rule(
        code="KV507",
        name="plan-too-slow",
        summary="a plan whose `slo` or `rate` is missed by the bound on time",
        why="Times are bounds from published (or, with `calibration`, measured) peaks: reality is slower, so what is "
        "missed here is missed for certain. The help line says what memory alone would take.",
        check=_unmet("KV507"),
    ),
    Rule(
        code="KV508",
        name="plan-differs",
        summary="a plan whose answer is not the one under `expect`",
        why="`expect: {gpus: 8}` holds the answer to exactly 8 GPUs, `expect: {fits: false}` to none: a model, an "
        "accelerator or the planner has changed. If the new answer is right, write it down.",
        check=_unmet("KV508"),
    ),
    Rule(
        code="KV509",
        name="plan-not-computable",
        summary="a plan that cannot be made",
        why="A model, GPU, engine, setting or format that does not exist, a file that cannot be read or lies outside "
        "the plan's project, a parallel size that the model cannot be split by.",
        check=not_computable,
    ),
    Rule(
        code="KV510",
        name="plan-remark",
        summary="a plan that the planner answers with a warning",
        why="Beyond the model's context the bytes are right, but no engine serves such a sequence without scaling the "
        "positions. More sequences than an engine runs at once wait for each other, unless a setting allows them, "
        "which takes memory. Encoder tokens that nobody gave are counted as none. Prices of none of the GPUs, and a "
        "calibration of a machine with another name, are likely slips.",
        severity=Severity.WARNING,
        check=remarks,
    ),
)
