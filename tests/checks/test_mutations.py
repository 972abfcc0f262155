"""Change any single number of a shipped spec that matters to bytes: `check` finds it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
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
CLAIMS = frozenset({"expect", "budget"})
"""Keys that state nothing of the model, but what must come out."""
CHANGES: tuple[Callable[[int], int], ...] = (lambda n: n + 1, lambda n: n * 2 or 2, lambda n: max(n - 1, min(n, 1)))


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
    """(model, place, whether the cache itself changes, whether check finds it), for each change of each number."""
    world = World()
    for name, path in shipped().items():
        document = load_yaml(str(path), path.read_bytes())
        known, before = codes(document, world), stored_bytes(document.data)
        for (loc, value), change in product(numbers(document.data), CHANGES):
            if loc[0] in CLAIMS or change(value) == value:
                continue
            data = changed(document.data, loc, change(value))
            after = stored_bytes(data)
            if after != before:
                yield name, loc, after[0] != before[0], bool(codes(replace(document, data=data), world) - known)


def test_a_changed_number_is_found() -> None:
    results = list(mutations())
    missed = [(name, loc) for name, loc, _, is_found in results if not is_found]
    cache = [is_found for _, _, in_cache, is_found in results if in_cache]
    assert len(cache) > 400
    assert len(results) - len(missed) >= 0.95 * len(results)
    found = len(results) - len(missed)
    figures = (
        f"Of {len(results):,} such changes {found:,} are found ({found / len(results):.1%}), and all {len(cache):,}"
    )
    assert cache.count(False) == 0
    page = " ".join(DOCS.read_text(encoding="utf-8").replace(" %)", "%)").split())
    assert figures in page, f"docs/check.md has other figures: {figures}"
    # Every number that is not found is listed, by its spec and key.
    listed = DOCS.read_text(encoding="utf-8").partition("## What `check` cannot see")[2]
    unlisted = sorted(
        {f"{name} {loc[-1]}" for name, loc in missed if f"`{name}`" not in listed or f"`{loc[-1]}`" not in listed}
    )
    assert unlisted == []
