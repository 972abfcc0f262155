"""Whether the answer is the one that a plan file asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvcalc.plan.demand import Target
from kvcalc.plan.planfile import Expected, PlanSpec
from kvcalc.plan.report import GpuPlan, PlanReport
from kvcalc.spec.document import Loc
from kvcalc.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is not as asked. `code` is that of the rule in `kvcalc check`."""

    code: str
    loc: Loc
    message: str
    help: str | None = None


def verdicts(spec: PlanSpec, report: PlanReport) -> Iterator[Verdict]:
    """Nothing where the workload fits as asked, or does not as expected."""
    expect = spec.expect or Expected()
    best = report.plans[report.best]
    if not report.fits:
        if expect.fits:
            yield _unmet(spec, report)
        return
    answer = f"{best.gpus:,} x {best.gpu} ({best.choices[0].label})"
    if not expect.fits:
        yield Verdict(code="KV508", loc=("expect", "fits"), message=f"{report.model} fits on {answer}; expected not to")
    elif expect.gpus is not None and expect.gpus != best.gpus:
        message = f"{report.model} takes {answer}, not the expected {expect.gpus:,}"
        yield Verdict(code="KV508", loc=("expect", "gpus"), message=message)


def _unmet(spec: PlanSpec, report: PlanReport) -> Verdict:
    """No kind of GPU is enough: which bound is missed where memory suffices, or how many bytes are missing."""
    slow = next((plan for plan in report.plans if missed_bound(plan, report)), None)
    plan = slow or report.plans[0]
    others = "".join(f", nor on {other.gpu}" for other in report.plans if other is not plan)
    where = f"up to {report.max_gpus:,} x {plan.gpu}{others}"
    bound = missed_bound(plan, report)
    if bound:
        loc, detail = bound
        message = f"{report.model} is not fast enough on {where}: {detail}"
        return Verdict(code="KV507", loc=loc, message=message, help=_alternatives(plan))
    most = plan.nearest_miss
    assert most is not None, "what does not fit was looked at"
    short = f" ({most.short_bytes:,} B short per GPU)" if most.short_bytes else ""
    return Verdict(
        code="KV506", loc=("gpus",) if spec.gpus is not None else ("gpu",), help=_alternatives(plan),
        message=f"{report.model} does not fit on {where}: {most.detail}{short}",
    )  # fmt: skip


def missed_bound(plan: GpuPlan, report: PlanReport) -> tuple[Loc, str] | None:
    """(key, by how much) of the bound on time that the best layout misses; None where memory does not suffice."""
    if plan.nearest is not None:
        target = Target(tpot_s=report.tpot_s, ttft_s=report.ttft_s)
        _, name = target.excess(plan.nearest.speed)
        took, asked = getattr(plan.nearest.speed, f"{name}_s"), getattr(target, f"{name}_s")
        best = f"{plan.nearest.gpus:,} x {plan.gpu} ({plan.nearest.label})"
        detail = f"{name.upper()} is at least {format_seconds(took)} on {best}, {format_seconds(asked)} asked for"
        return ("slo", name), detail
    overloaded = next((short for short in plan.proof if short.breaks == "rate"), None)
    return (("rate",), overloaded.detail) if overloaded else None


def _alternatives(plan: GpuPlan) -> str | None:
    """What would do, as far as the plan has looked."""
    found = [f"{near.change}: {near.gpus:,} x {near.gpu}" for near in plan.alternatives]
    return "; ".join(found[:3]) or None
