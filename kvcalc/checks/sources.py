"""KV3xx: figures without a source, with a weak one, or without a unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import HardwareFile, ModelFile, TextFile
from kvcalc.problems import KvcalcError, Severity
from kvcalc.spec.document import Loc
from kvcalc.spec.figures import figures
from kvcalc.spec.hardware import HardwareSpec

_VACUOUS = re.compile(
    r"\W*(todo|tbd|fixme|xxx+|unknown|none|n/?a|nan|\?+|internet|web|google|source)?\W*", re.IGNORECASE
)
_OURSELVES = re.compile(r"\bkvcalc\b", re.IGNORECASE)


def no_sources(file: ModelFile) -> Iterator[Hit]:
    """Nobody can tell where the geometry comes from."""
    if not file.spec.sources:
        hint = 'as in `sources: [{source: "org/model config.json", kind: config}]`'
        yield Hit(loc=(), message="no `sources`: nobody can check this spec", help=hint)


def only_memory(file: ModelFile) -> Iterator[Hit]:
    """Memory is a lead, not a proof."""
    sources = file.spec.sources
    if sources and all(source.kind == "memory" for source in sources):
        hint = "look the figures up, and name where"
        yield Hit(loc=("sources", 0, "kind"), message="every source of this spec is memory", help=hint)


def vacuous(file: TextFile) -> Iterator[Hit]:
    """A source that names nothing."""
    for loc, text in _sources(file.raw):
        if _VACUOUS.fullmatch(text):
            hint = "name the page, paper, file or command"
            yield Hit(loc=loc, message=f"source {text[:40]!r} names nothing", help=hint)


def _sources(part: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Every text under a key `source`."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "source" and isinstance(value, str):
                yield (*loc, key), value
            else:
                yield from _sources(value, (*loc, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _sources(value, (*loc, index))


def circular(file: ModelFile) -> Iterator[Hit]:
    """A figure of ours expected of ourselves."""
    for index, expected in enumerate(file.spec.expect):
        if _OURSELVES.search(expected.source):
            message = "a figure that kvcalc computed proves nothing about kvcalc"
            hint = "expect figures of papers, engines or logs"
            yield Hit(loc=("expect", index, "source"), message=message, help=hint)


def unpinned(file: ModelFile) -> Iterator[Hit]:
    """A config.json can change under its name."""
    spec = file.spec
    if spec.hub_id and spec.revision is None:
        for index, source in enumerate(spec.sources):
            if source.kind == "config":
                message = "`revision` does not say which config.json was read"
                hint = "as in `revision: 2024-09-25` or the commit"
                yield Hit(loc=("sources", index), message=message, help=hint)
                return


def from_memory(file: HardwareFile) -> Iterator[Hit]:
    """A figure that nobody looked up."""
    for place, figure in figures(file.spec):
        if getattr(figure, "kind", None) == "memory":
            hint = "look it up, and name where"
            yield Hit(loc=(*place, "kind"), message=f"{place[-1]}: a figure from memory", help=hint)


def unreadable_units(spec: HardwareSpec) -> Iterator[Loc]:
    """Places of figures whose unit says nothing."""
    for place, figure in figures(spec):
        try:
            _ = figure.exact
        except KvcalcError:
            yield (*place, "value")


TEXT_RULES: tuple[Rule[TextFile], ...] = (
    Rule(
        code="KV303",
        name="vacuous-source",
        summary="a source that names nothing",
        why="`TODO` or `?` passes a schema and helps nobody.",
        severity=Severity.WARNING,
        check=vacuous,
    ),
)

MODEL_RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV301",
        name="no-sources",
        summary="a model spec without sources",
        why="A figure is worth what its source is worth. Name the config.json, the paper or the engine's file.",
        severity=Severity.WARNING,
        check=no_sources,
    ),
    Rule(
        code="KV302",
        name="memory-only",
        summary="a model spec whose every source is memory",
        why="What somebody remembers is a lead. One figure that was looked up makes the difference.",
        severity=Severity.WARNING,
        check=only_memory,
    ),
    Rule(
        code="KV305",
        name="circular-expectation",
        summary="an expected figure that comes from kvcalc",
        why="An expectation is there to disagree with us. Taken from our own output it never will.",
        severity=Severity.WARNING,
        check=circular,
    ),
    Rule(
        code="KV306",
        name="unpinned-config",
        summary="a config.json as source, but no revision",
        why="A config on the hub can change under its name; with `revision` the change can be seen.",
        severity=Severity.WARNING,
        check=unpinned,
    ),
)

HARDWARE_RULES: tuple[Rule[HardwareFile], ...] = (
    Rule(
        code="KV304",
        name="figure-from-memory",
        summary="a hardware figure that nobody looked up",
        why="Plans rest on these figures. `kind: memory` marks a lead that still wants a data sheet.",
        severity=Severity.WARNING,
        check=from_memory,
    ),
)

LOADER_RULES: tuple[Rule[Any], ...] = (
    Rule(
        code="KV307",
        name="unreadable-unit",
        summary="a hardware figure without a unit that can be read",
        why="`80 gb` may be bits, 10^9 or 2^30 bytes. GB = 10^9 B, GiB = 2^30 B, rates end in `/s`.",
    ),
)
