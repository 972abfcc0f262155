"""The answer of `kvcalc list`: what is shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import CACHE_DTYPES, PARAMETRIC
from kvcalc.engines import all_engines
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


def _gpus() -> ListReport:
    from kvcalc.spec.hardware_catalog import list_hardware

    rows: list[tuple[str | int | None, ...]] = []
    for spec in list_hardware():
        rate = spec.memory.rate
        bf16 = spec.peak_ops_per_s("bf16") or spec.peak_ops_per_s("fp16")
        rows.append(
            (
                spec.name,
                spec.memory.plan_bytes,
                spec.memory.plan_basis,
                None if rate is None else rate.bytes_per_s,
                bf16,
                spec.peak_ops_per_s("fp8"),
                spec.scale_up.per_direction.exact if spec.scale_up else None,
                spec.full_name + (" (announced)" if spec.announced else ""),
            )
        )
    columns = (
        "gpu", "memory [B]", "as reported by", "bandwidth [B/s]", "16-bit peak [FLOP/s]", "fp8 peak [FLOP/s]",
        "link, one direction [B/s]", "name",
    )  # fmt: skip
    return ListReport(what="gpus", columns=columns, rows=tuple(rows))


def _engines() -> ListReport:
    rows = tuple((engine.name, engine.version, engine.summary, engine.source) for engine in all_engines())
    return ListReport(what="engines", columns=("engine", "version", "allocates", "source"), rows=rows)


LISTS: Mapping[str, Callable[[], ListReport]] = {
    "models": _models,
    "gpus": _gpus,
    "kinds": _kinds,
    "formats": _formats,
    "engines": _engines,
}
