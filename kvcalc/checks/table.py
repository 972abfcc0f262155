"""Every rule, in one table: the linter, `kvcalc explain KV201` and docs/rules.md read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kvcalc.checks import budgets, drift, expectations, geometry, hygiene, loading, plans, sources
from kvcalc.checks.rule import Rule
from kvcalc.checks.subject import HardwareFile, ModelFile, PlannedFile, TextFile
from kvcalc.problems import did_you_mean, usage_error

TEXT_RULES: tuple[Rule[TextFile], ...] = (*sources.TEXT_RULES, *hygiene.TEXT_RULES)
MODEL_RULES: tuple[Rule[ModelFile], ...] = (
    *geometry.MODEL_RULES, *expectations.RULES, *sources.MODEL_RULES, *drift.RULES, *budgets.RULES,
    *hygiene.MODEL_RULES,
)  # fmt: skip
HARDWARE_RULES: tuple[Rule[HardwareFile], ...] = (*geometry.HARDWARE_RULES, *sources.HARDWARE_RULES)
PLAN_RULES: tuple[Rule[PlannedFile], ...] = plans.RULES

_ALL: tuple[Rule[Any], ...] = (
    *loading.RULES, *geometry.LOADER_RULES, *sources.LOADER_RULES, *TEXT_RULES, *MODEL_RULES, *HARDWARE_RULES,
    *PLAN_RULES, *hygiene.RUN_RULES, *loading.ELSEWHERE,
)  # fmt: skip
RULES: Mapping[str, Rule[Any]] = {rule.code: rule for rule in sorted(_ALL, key=lambda rule: rule.code)}

GROUPS: Mapping[str, str] = {
    "KV0": "Syntax and schema",
    "KV1": "Geometry that contradicts itself or its family",
    "KV2": "Published figures that do not hold",
    "KV3": "Sources and units",
    "KV4": "Drift from the model's config.json",
    "KV5": "Budgets and plans",
    "KV6": "Hygiene",
    "KV8": "Other people's files (not part of `check`)",
    "KV9": "Usage (not part of `check`)",
}
ELSEWHERE = ("KV8", "KV9")
"""Groups of what ends any command with exit code 2: no findings, so nothing silences them."""


def parse_codes(words: Iterable[str]) -> tuple[str, ...]:
    """Codes, prefixes of codes, or `ALL`.

    Raises:
        KvcalcError: one that no rule has.
    """
    codes: list[str] = []
    for word in words:
        code = word.strip().upper()
        if code == "ALL":
            code = "KV"
        if not code.startswith("KV") or not any(known.startswith(code) for known in RULES):
            near = did_you_mean(code, RULES)
            raise usage_error(
                f"no rule has the code {word[:40]!r}", help=near or "a code such as KV201, a prefix such as KV3, or ALL"
            )
        codes.append(code)
    return tuple(codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExplanation:
    """A rule, for `kvcalc explain` and the docs."""

    code: str
    name: str
    group: str
    summary: str
    why: str
    severity: str
    default: bool
    fixable: bool
    suppressible: bool


def explain_rule(code: str) -> RuleExplanation:
    """The rule of this code.

    Raises:
        KeyError: no rule has it.
    """
    rule = RULES[code]
    return RuleExplanation(
        code=rule.code, name=rule.name, group=GROUPS[rule.code[:3]], summary=rule.summary, why=rule.why,
        severity=rule.severity.value, default=rule.default, fixable=rule.fixable, suppressible=rule.suppressible,
    )  # fmt: skip
