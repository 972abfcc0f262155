"""Change any single number of a shipped spec that matters to bytes: `check` finds it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvcalc.checks.engine import document_findings
from kvcalc.checks.kinds import KINDS
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings
from kvcalc.checks.subject import World
from kvcalc.problems import KvcalcError, Severity
from kvcalc.spec.build import build
from kvcalc.spec.catalog import shipped
from kvcalc.spec.document import Document, Loc
from kvcalc.spec.model import ModelSpec, contradictions
from kvcalc.spec.yamlio import load_yaml
from kvcalc.weights.count import parameter_count

DOCS = Path(__file__).parents[2] / "docs" / "check.md"
GEOMETRY = frozenset({"attention", "ffn", "layers", "encoder_layers", "mtp_layers", "hidden_size", "vocab_size"})


def numbers(part: Any, loc: Loc = ()) -> Iterator[tuple[Loc, int]]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from numbers(value, (*loc, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from numbers(value, (*loc, index))
    elif isinstance(part, int) and not isinstance(part, bool):
        yield loc, part


def changed(data: Any, loc: Loc, value: int) -> Any:
    data = copy.deepcopy(data)
    inner = data
    for part in loc[:-1]:
        inner = inner[part]
    inner[loc[-1]] = value
    return data


def stored_bytes(data: Any) -> tuple[object, object]:
    """What the cache keeps, layer by layer, and how many weights are stored: what a number must change to matter.

    A spec that contradicts itself counts as changed: no byte of it can be known.
    """
    spec = build(ModelSpec, data)
    if any(contradictions(spec)):
        return "contradiction", "contradiction"
    cache = [(group.logical_streams, group.indices) for group in spec.layout().groups]
    try:
        count = parameter_count(spec)
        weights: object = (count.total, count.mtp)
    except KvcalcError as error:
        weights = str(error)
    return cache, weights


def codes(document: Document, world: World) -> set[tuple[object, ...]]:
    findings = document_findings(document, KINDS[0], Selection(Settings()), world)
    return {f.order[1:] for f in findings if f.problem.severity is not Severity.INFO}


def mutations() -> Iterator[tuple[str, Loc, bool, bool]]:
    """(model, place, whether the cache itself changes, whether check finds it); one more, or twice as many, in turn."""
    world = World()
    for name, path in shipped().items():
        document = load_yaml(str(path), path.read_bytes())
        known, before = codes(document, world), stored_bytes(document.data)
        for index, (loc, value) in enumerate(numbers(document.data)):
            if loc[0] not in GEOMETRY:
                continue
            data = changed(document.data, loc, value + 1 if index % 2 or not value else value * 2)
            after = stored_bytes(data)
            if after != before:
                yield name, loc, after[0] != before[0], bool(codes(replace(document, data=data), world) - known)


def test_a_changed_number_is_found() -> None:
    results = list(mutations())
    missed = [(name, loc) for name, loc, _, is_found in results if not is_found]
    cache = [is_found for _, _, in_cache, is_found in results if in_cache]
    print(f"{len(results)} mutations, {len(missed)} missed; of the cache {len(cache)}, {cache.count(False)} missed")
    assert len(cache) > 400
    assert cache.count(True) >= 0.95 * len(cache)
    assert len(results) - len(missed) >= 0.95 * len(results)
    # Every number that is not found is listed, by its spec and key.
    listed = DOCS.read_text(encoding="utf-8").partition("## What `check` cannot see")[2]
    unlisted = sorted(
        {f"{name} {loc[-1]}" for name, loc in missed if f"`{name}`" not in listed or f"`{loc[-1]}`" not in listed}
    )
    assert unlisted == []
