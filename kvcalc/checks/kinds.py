"""Kinds of file, told apart by their top-level keys. A new kind is one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kvcalc.checks.fields import key_order
from kvcalc.checks.hygiene import FOREIGN_KEYS
from kvcalc.checks.rule import Rule
from kvcalc.checks.sources import unreadable_units
from kvcalc.checks.subject import HardwareFile, ModelFile, PlannedFile, World
from kvcalc.checks.table import HARDWARE_RULES, MODEL_RULES, PLAN_RULES
from kvcalc.plan import planfile
from kvcalc.plan.planfile import PlanSpec
from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec import hardware
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec, contradictions
from kvcalc.spec.yamlio import Document, Loc


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """One kind of file: how it is recognised, validated, and which rules it meets."""

    name: str
    strong: tuple[frozenset[str], ...]
    """A file of this kind has at least one top-level key of each of these ..."""
    marks: frozenset[str]
    """... and at least two of these or those ..."""
    share: float = 0.0
    """... which are at least this part of all its keys: where the words are common, strangers have them as well."""
    schema: str
    """File name of its JSON Schema, for editors."""
    spec: type[Any]
    contradictions: Callable[[Any], Iterable[tuple[str, Loc, str, str | None]]]
    """(code, place, what is wrong, what to do)"""
    subject: Callable[..., Any]
    rules: tuple[Rule[Any], ...]
    names: Callable[[Any], tuple[tuple[Loc, str], ...]]

    @property
    def keys(self) -> tuple[str, ...]:
        return key_order(self.spec)

    def load(self, document: Document, world: World) -> tuple[Any | None, tuple[Problem, ...]]:
        """(what the kind's rules look at, what the schema has against it).

        Contradictions are returned beside the subject's absence: rules may rely on sound figures.
        """
        from kvcalc.spec.validate import validate

        try:
            spec = validate(self.spec, document)
        except KvcalcError as error:
            return None, error.problems
        faults = tuple(
            document.problem(code, loc, message, help=hint) for code, loc, message, hint in self.contradictions(spec)
        )
        return None if faults else self.subject(document=document, spec=spec, world=world), faults


_Fault = tuple[str, Loc, str, str | None]


def _model_faults(spec: ModelSpec) -> Iterator[_Fault]:
    yield from (("KV101", *fault) for fault in contradictions(spec))


def _hardware_faults(spec: HardwareSpec) -> Iterator[_Fault]:
    unreadable = set(unreadable_units(spec))
    for loc, message, hint in hardware.contradictions(spec):
        yield "KV307" if loc in unreadable else "KV101", loc, message, hint


def _plan_faults(spec: PlanSpec) -> Iterator[_Fault]:
    yield from (("KV101", *fault) for fault in planfile.contradictions(spec))


def _model_names(file: ModelFile) -> tuple[tuple[Loc, str], ...]:
    spec = file.spec
    return (
        (("name",), spec.name),
        *(((("hub_id",), spec.hub_id),) if spec.hub_id else ()),
        *(((("aliases", index), alias)) for index, alias in enumerate(spec.aliases)),
    )


def _hardware_names(file: HardwareFile) -> tuple[tuple[Loc, str], ...]:
    spec = file.spec
    return (("name",), spec.name), *((("aliases", index), alias) for index, alias in enumerate(spec.aliases))


KINDS: tuple[FileKind, ...] = (
    FileKind(
        name="model",
        strong=(frozenset({"attention", "layers"}),),
        marks=frozenset(
            {"expect", "sources", "hub_id", "hidden_size", "vocab_size", "model_type", "max_position_embeddings", "ffn",
             "budget"}
        ),
        schema="model-spec.schema.json",
        spec=ModelSpec,
        contradictions=_model_faults,
        subject=ModelFile,
        rules=MODEL_RULES,
        names=_model_names,
    ),
    FileKind(
        name="hardware",
        strong=(frozenset({"memory", "peak"}),),
        marks=frozenset(
            {"full_name", "architecture", "vendor", "sram", "l2", "host_dram", "scale_up", "host_link", "tdp",
             "compute_capability"}
        ),
        schema="hardware.schema.json",
        spec=HardwareSpec,
        contradictions=_hardware_faults,
        subject=HardwareFile,
        rules=HARDWARE_RULES,
        names=_hardware_names,
    ),
    FileKind(
        name="plan",
        strong=(frozenset({"model"}), frozenset({"gpu"})),
        marks=frozenset((*key_order(PlanSpec), *FOREIGN_KEYS["plan"][0])),
        share=0.6,
        schema="plan.schema.json",
        spec=PlanSpec,
        contradictions=_plan_faults,
        subject=PlannedFile,
        rules=PLAN_RULES,
        names=lambda file: (),
    ),
)  # fmt: skip


def recognise(data: Any) -> FileKind | None:
    """The kind whose keys a document has most of; None where it is none of ours."""
    keys: set[str] = set(data) if isinstance(data, dict) else set()
    return _best(keys)


_TOP_KEY = re.compile(rb"""^\s?['"]?([a-z_]{3,40})['"]?\s*:""", re.MULTILINE)


def sniff(content: bytes) -> FileKind | None:
    """The same question of a file that cannot be parsed."""
    return _best({match[1].decode() for match in _TOP_KEY.finditer(content[: 2**16])})


def _best(keys: set[str]) -> FileKind | None:
    scores = {kind.name: _score(kind, keys) for kind in KINDS}
    best = max(KINDS, key=lambda kind: scores[kind.name])
    return best if scores[best.name] else None


def _score(kind: FileKind, keys: set[str]) -> int:
    """How many keys speak for a kind; 0 where it is not this one."""
    known = len(keys & kind.marks.union(*kind.strong))
    fits = known >= 2 and known >= kind.share * len(keys) and all(keys & some for some in kind.strong)
    return known if fits else 0
