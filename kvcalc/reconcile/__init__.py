"""Does a server's start-up log agree with the prediction, and if not, which setting would explain it?

What each engine prints, and what that bounds, stands in reconcile/vllm.py, sglang.py and llamacpp.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvcalc.engines import find_engine
from kvcalc.problems import KvcalcError, Problem
from kvcalc.reconcile import llamacpp, sglang, vllm
from kvcalc.reconcile.logs import MAX_BYTES, Log, parse_log
from kvcalc.reconcile.report import Comparison, ReconcileReport, SettingUsed
from kvcalc.reconcile.trial import SHARDING, Trial, agrees, explain
from kvcalc.spec.catalog import hub_ids, shipped_model
from kvcalc.spec.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How one engine's log is read."""

    compare: Callable[[Log, ModelSpec, Trial], Sequence[Comparison]]
    alternatives: Mapping[str, Sequence[Any]]
    options: Callable[[Log], dict[str, object]]
    sharding: Callable[[Log], dict[str, int]]
    dtype: Callable[[Log], str | None]
    what: str
    """The lines that are needed, for the error when they are missing."""


def _sharding_of(engine: str) -> Callable[[Log], dict[str, int]]:
    def found(log: Log) -> dict[str, int]:
        return {name: fact.integer for name in SHARDING if (fact := log.first(engine, name))}

    return found


def _dtype_of(engine: str) -> Callable[[Log], str | None]:
    def found(log: Log) -> str | None:
        fact = log.first(engine, "dtype")
        return None if fact is None else fact.text

    return found


READERS: Mapping[str, Reader] = {
    "vllm": Reader(
        compare=vllm.compare, alternatives=vllm.ALTERNATIVES, options=vllm.options_of, sharding=_sharding_of("vllm"),
        dtype=_dtype_of("vllm"),
        what="`Available KV cache memory: X GiB` and `GPU KV cache size: N tokens`, or `# GPU blocks: N`",
    ),
    "sglang": Reader(
        compare=sglang.compare, alternatives=sglang.ALTERNATIVES, options=sglang.options_of,
        sharding=sglang.sharding_of, dtype=_dtype_of("sglang"),
        what="`KV Cache is allocated. #tokens: N, K size: X GB, V size: Y GB`",
    ),
    "llama.cpp": Reader(
        compare=llamacpp.compare, alternatives=llamacpp.ALTERNATIVES, options=llamacpp.options_of,
        sharding=lambda log: {}, dtype=llamacpp.dtype_of,
        what="`llama_kv_cache: size = X MiB (N cells, L layers, ...)`, or `n_ctx = N` and `KV self size = X MiB`",
    ),
}  # fmt: skip


def _not_understood(name: str, message: str, hint: str) -> KvcalcError:
    return KvcalcError(Problem(code="KV905", message=message, path=name, help=hint))


def model_in(data: bytes) -> str | None:
    """The model that a log names (a hub id or a path on the server), if any."""
    log = parse_log(data)
    fact = log.first("vllm", "model") or log.first("sglang", "model")
    return None if fact is None else fact.text


def model_named(data: bytes, name: str) -> ModelSpec:
    """The shipped spec of the model that a log names.

    Raises:
        KvcalcError: it names none, or one that is not shipped (KV905).
    """
    named = model_in(data)
    if named is not None and named.lower() in hub_ids():
        return shipped_model(hub_ids()[named.lower()])
    message = f"the log names {named[:100]!r}, which is not in the catalogue" if named else "the log names no model"
    raise _not_understood(name, message, "give --model; see `kvcalc list models`")


def reconcile(
    data: bytes,
    spec: ModelSpec,
    *,
    name: str = "log",
    engine: str | None = None,
    dtype: str | None = None,
    sharding: Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> ReconcileReport:
    """Compare a log with the prediction for `spec`. What is given here wins over what the log states.

    Raises:
        KvcalcError: no figure of a known engine in the log, or a set-up that the engine refuses.
    """
    log = parse_log(data)
    asked = find_engine(engine) if engine else None
    chosen = asked.name if asked else log.engine
    if chosen is None:
        wanted = "; ".join(reader.what for reader in READERS.values())
        raise _not_understood(name, "no figure of vLLM, SGLang or llama.cpp in this log", f"looked for {wanted}")
    if chosen not in READERS:
        raise _not_understood(name, f"logs of {chosen} are not read", f"known: {', '.join(READERS)}")
    reader = READERS[chosen]
    trial, used = _trial(log, chosen, reader, engine, dtype, sharding or {}, options or {})
    compare = partial(reader.compare, log, spec)
    rows = tuple(compare(trial))
    if not rows:
        raise _not_understood(name, f"no figure of {chosen} to compare", f"looked for {reader.what}")
    agreed = all(row.agrees for row in rows)
    free = {key: values for key, values in reader.alternatives.items() if key not in (options or {})}
    explanations = () if agreed else explain(compare, trial, free)
    notes = [f"only the first {MAX_BYTES:,} bytes of the log were read"] if log.cut else []
    if not agreed and not explanations:
        notes.append("no change of one or two settings explains it: is it this model, and a plain start?")
    return ReconcileReport(
        engine=chosen, version=trial.version, model=spec.name, log=name, settings=used, comparisons=rows,
        agrees=agreed, explanations=explanations, notes=tuple(notes),
    )  # fmt: skip


def _trial(
    log: Log, chosen: str, reader: Reader, engine: str | None, dtype: str | None, sharding: Mapping[str, int],
    options: Mapping[str, Any],
) -> tuple[Trial, tuple[SettingUsed, ...]]:  # fmt: skip
    """The prediction's settings: options, then the log, then defaults."""
    known = find_engine(chosen)
    stated = log.first(chosen, "version")
    guessed = vllm.guessed_version(log) if chosen == "vllm" else None
    version, origin = known.version, "default"
    if engine and "@" in engine:
        version, origin = find_engine(engine).version, "option"
    elif stated is not None:
        version, origin = stated.text, "log"
    elif guessed is not None:
        version, origin = guessed, "log"
    of_log = reader.dtype(log)
    used = [
        SettingUsed(name="version", value=version, origin=origin),
        SettingUsed(name="kv_cache_dtype", value=dtype or of_log or "auto",
                    origin="option" if dtype else "log" if of_log else "default"),
    ]  # fmt: skip
    from_log = reader.sharding(log)
    ranks = {**from_log, **sharding}
    settings = {**reader.options(log), **options}
    for key, value in {**ranks, **settings}.items():
        where = "option" if key in sharding or key in options else "log"
        used.append(SettingUsed(name=key, value=str(value), origin=where))
    trial = Trial(version=version, dtype=dtype or of_log or "auto", sharding=ranks, options=settings)
    return trial, tuple(used)


__all__ = ["READERS", "ReconcileReport", "agrees", "model_in", "reconcile"]
