"""May I trust this: spec files, an engine's log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kvcalc.api.arguments import Model, Path, count, model_spec

if TYPE_CHECKING:
    from kvcalc.checks.engine import CheckReport
    from kvcalc.reconcile.report import ReconcileReport


def check(
    *paths: Path,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    against: Path | None = None,
    hub: bool = False,
    config: Path | None = None,
    isolated: bool = False,
) -> CheckReport:
    """Lint spec files and folders: `kvcalc check`; `report.failed` says whether anything beyond a remark was found.

    Args:
        paths: files and folders; default: this folder.
        select: codes or prefixes: only these.
        ignore: codes or prefixes: not these.
        against: a config.json, or a folder of them, to compare geometry with.
        hub: compare with the config.json on the Hugging Face hub (network).
        config: the settings file; default: the nearest at or above this folder.
        isolated: use no settings file.

    Raises:
        KvcalcError: no such path or code, or a settings file that does not hold.
    """
    from kvcalc.checks.engine import check as run_checks
    from kvcalc.checks.settings import settings_for
    from kvcalc.checks.subject import World
    from kvcalc.checks.table import parse_codes
    from kvcalc.checks.walk import refuse_missing

    named = [os.fspath(path) for path in paths] or ["."]
    for path in named:
        refuse_missing(path, "path")
    if against is not None:
        refuse_missing(os.fspath(against), "against")
    settings = settings_for(None if config is None else os.fspath(config), isolated=isolated)
    world = World(against=os.fspath(against) if against is not None else settings.against, hub=hub)
    return run_checks(named, settings=settings, select=parse_codes(select), ignore=parse_codes(ignore), world=world)


def reconcile(
    log: Path | bytes,
    model: Model | None = None,
    *,
    engine: str | None = None,
    kv_cache_dtype: str | None = None,
    tensor_parallel_size: int | None = None,
    pipeline_parallel_size: int | None = None,
    data_parallel_size: int | None = None,
    decode_context_parallel_size: int | None = None,
    **settings: Any,
) -> ReconcileReport:
    """Whether an engine's start-up log agrees with the prediction: `kvcalc reconcile`.

    Args:
        log: the path of a log of vLLM, SGLang or llama.cpp, or its content.
        model: default: the one that the log names.
        settings: the engine's own, in place of what the log states, as in `max_model_len=32768`.

    Raises:
        KvcalcError: no figure of a known engine in the log, no known model, or a set-up that the engine refuses.
    """
    from kvcalc.reconcile import model_named
    from kvcalc.reconcile import reconcile as reconcile_log
    from kvcalc.reconcile.logs import read_log

    name, content = ("log", log) if isinstance(log, bytes) else read_log(os.fspath(log))
    given = {
        "tensor": tensor_parallel_size, "pipeline": pipeline_parallel_size, "data": data_parallel_size,
        "decode_context": decode_context_parallel_size,
    }  # fmt: skip
    return reconcile_log(
        content,
        model_named(content, name) if model is None else model_spec(model),
        name=name,
        engine=engine,
        dtype=kv_cache_dtype,
        sharding={key: count(value, key) for key, value in given.items() if value is not None},
        options=settings,
    )
