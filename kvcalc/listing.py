"""The answer of `kvcalc list`: what is shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import CACHE_DTYPES, PARAMETRIC
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc.spec.model import layer_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReport:
    """Rows of names and short texts under `columns`."""

    what: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | None, ...], ...]


def _models() -> ListReport:
    rows: list[tuple[str | int | None, ...]] = []
    for name in shipped():
        spec = shipped_model(name)
        groups = layer_groups(spec)
        kept = [group for group in groups if group.attention]
        attention = "; ".join(f"{group.count} x {group.label}" for group in kept)
        rows.append((name, spec.max_position_embeddings, sum(group.count for group in groups), attention))
    return ListReport(what="models", columns=("model", "context", "layers", "attention"), rows=tuple(rows))


def _kinds() -> ListReport:
    rows = tuple((name, kind.summary, kind.source) for name, kind in KINDS.items())
    return ListReport(what="kinds", columns=("kind", "keeps", "source"), rows=rows)


def _formats() -> ListReport:
    rows = [(dtype.name, dtype.summary, dtype.source) for dtype in CACHE_DTYPES.values()]
    rows += [(name, summary, "") for name, summary in PARAMETRIC.items()]
    return ListReport(what="formats", columns=("format", "bytes", "source"), rows=tuple(rows))


LISTS: Mapping[str, Callable[[], ListReport]] = {"models": _models, "kinds": _kinds, "formats": _formats}
