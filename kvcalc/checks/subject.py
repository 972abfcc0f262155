"""What rules look at: one file, and what is known beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kvcalc.layout import CacheLayout
from kvcalc.problems import KvcalcError
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.yamlio import Document

if TYPE_CHECKING:
    from kvcalc.plan.planfile import PlanFile, PlanSpec
    from kvcalc.plan.report import PlanReport


@dataclass(kw_only=True)
class World:
    """What holds for a whole run. The catalogue is read on the first question that needs it."""

    against: str | None = None
    """A config.json, or a folder of them, that specs must agree with."""
    hub: bool = False
    """Whether config.json may be fetched from the hub."""

    @cached_property
    def hub_ids(self) -> Mapping[str, str]:
        """Hub id (lower case) -> name of the shipped spec."""
        from kvcalc.spec.catalog import hub_ids

        return hub_ids()

    @cached_property
    def families(self) -> Mapping[str, frozenset[str]]:
        """model_type -> attention kinds that shipped specs of this family use."""
        from kvcalc.spec.catalog import shipped, shipped_raw

        found: dict[str, set[str]] = {}
        for name in shipped():
            raw = shipped_raw(name)
            if raw.get("model_type"):
                kinds = {entry["kind"] for entry in raw["attention"].values()}
                found.setdefault(raw["model_type"], set()).update(kinds)
        return {family: frozenset(kinds) for family, kinds in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file as it is written, before anything is known to hold."""

    document: Document
    kind: str
    keys: tuple[str, ...]
    """Top-level keys of this kind of file, in their canonical order."""
    schema: str = ""
    """File name of the kind's JSON Schema."""

    @property
    def raw(self) -> Mapping[str, Any]:
        data = self.document.data
        return data if isinstance(data, dict) else {}


@dataclass(kw_only=True)
class ModelFile:
    """A model spec that its schema has accepted."""

    document: Document
    spec: ModelSpec
    world: World = field(default_factory=World)
    memo: dict[Any, Any] = field(default_factory=dict)
    """Figures that several rules ask for."""

    @cached_property
    def layout(self) -> CacheLayout:
        return self.spec.layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFile:
    """A hardware spec that its schema has accepted."""

    document: Document
    spec: HardwareSpec
    world: World = field(default_factory=World)


@dataclass(kw_only=True)
class PlannedFile:
    """A plan file that its schema has accepted."""

    document: Document
    spec: PlanSpec
    world: World = field(default_factory=World)

    @cached_property
    def file(self) -> PlanFile:
        """With the paths of what it names.

        Raises:
            KvcalcError: one leads out of the plan's project.
        """
        from kvcalc.plan.planfile import PlanFile, located

        return PlanFile(spec=located(self.spec, self.document, self.document.path), document=self.document)

    @cached_property
    def answer(self) -> PlanReport | KvcalcError:
        """The plan, made once for all rules, or why there can be none."""
        from kvcalc.plan.resolving import answer

        try:
            return answer(self.file.spec, self.file)
        except KvcalcError as error:
            return error
