"""llama.cpp's start-up lines against the cells of the context that they print."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines.layers import layer_streams
from kvcalc.engines.llamacpp import CacheLine, Settings, caches, cells, engine_formats, stream_cells
from kvcalc.formats import STATE_ROLES
from kvcalc.reconcile.logs import LLAMACPP, Fact, Log
from kvcalc.reconcile.report import Comparison
from kvcalc.reconcile.trial import Trial
from kvcalc.spec.model import ModelSpec
from kvcalc.units import MIB

ALTERNATIVES = {
    "swa_full": (True, False),
    "n_ubatch": (128, 256, 512, 1024, 2048),
    "n_seq_max": (1, 2, 4, 8),
    "kv_unified": (True, False),
    "dtype": ("bf16", "q8_0", "q4_0", "key=q8_0,value=bf16", "fp32"),
}


def compare(log: Log, spec: ModelSpec, trial: Trial) -> Sequence[Comparison]:
    """Cells and sizes of every cache in the log.

    Raises:
        KvcalcError: rows that a format cannot store.
    """
    settings = Settings(version=trial.version, parallel=trial.parallel, **trial.options)
    if settings.n_ctx is None:
        return []
    formats = engine_formats(spec, parse_kv_cache_dtype(trial.dtype))
    context = cells(settings)
    predicted = caches(spec, formats, settings, context)
    rows = _cache_lines(log, predicted)
    whole = sum(line.bytes for line in predicted)
    if fact := log.last(LLAMACPP, "self_size"):
        rows.append(_mib(fact, "KV self size", whole))
    if fact := log.last(LLAMACPP, "state_size"):
        states = sum(
            s.rows_bytes(s.extent.rows(1, 0), formats) * stream_cells(s, context, settings)
            for layer in layer_streams(spec)
            for s in layer.streams
            if s.role in STATE_ROLES
        )
        rows.append(_mib(fact, "recurrent state", states))
    return rows


def _mib(fact: Fact, name: str, size: int) -> Comparison:
    text = f"{size / MIB:.{fact.digits}f}"
    return Comparison(name=name, predicted=text, printed=fact.text, unit="MiB", line=fact.line,
                      agrees=text == fact.text)  # fmt: skip


def _printed(log: Log) -> list[dict[str, Fact]]:
    """The lines of caches, one mapping per line."""
    names = ("size", "cells", "layers", "key", "value")
    lines: dict[int, dict[str, Fact]] = {}
    for name in names:
        for fact in log.all(LLAMACPP, name):
            lines.setdefault(fact.line, {})[name] = fact
    return [line for _, line in sorted(lines.items()) if len(line) == len(names)]


def _cache_lines(log: Log, predicted: Sequence[CacheLine]) -> list[Comparison]:
    """Each printed cache against the predicted one of as many layers, or the one in its place."""
    rows: list[Comparison] = []
    left = list(predicted)
    for printed in _printed(log)[-max(1, len(predicted)) :]:
        if not left:
            break
        line = next((c for c in left if c.layers == printed["layers"].integer), left[0])
        left.remove(line)
        name = "window cache" if line.windowed else "cache"
        for what, value in (("cells", line.cells), ("layers", line.layers)):
            fact = printed[what]
            rows.append(
                Comparison(name=f"{name}: {what}", predicted=str(value), printed=fact.text, unit=what, line=fact.line,
                           agrees=value == fact.integer)
            )  # fmt: skip
        rows.append(_mib(printed["key"], f"{name}: K", line.key_bytes))
        rows.append(_mib(printed["value"], f"{name}: V", line.value_bytes))
    return rows


def dtype_of(log: Log) -> str | None:
    """The types of K and V, which the log names."""
    key, value = log.last(LLAMACPP, "key_type"), log.last(LLAMACPP, "value_type")
    if key is None:
        return None
    return key.text if value is None else f"{key.text},value={value.text}"


def options_of(log: Log) -> dict[str, object]:
    """Settings that the log states."""
    found: dict[str, object] = {}
    for name in ("n_ctx", "n_seq_max", "n_ubatch", "n_batch"):
        if fact := log.last(LLAMACPP, name):
            found[name] = fact.integer
    if fact := log.last(LLAMACPP, "kv_unified"):
        found["kv_unified"] = fact.text == "true"
    if "n_ctx" not in found and (lines := _printed(log)):
        found["n_ctx"] = max(line["cells"].integer for line in lines)
    return found
