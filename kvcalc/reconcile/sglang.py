"""SGLang's start-up lines against the pools of the slots that they print. Its "GB" are GiB."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cache_dtypes import BF16, FormatChoice, parse_kv_cache_dtype
from kvcalc.engines.layers import heads_per_rank, layer_stages, layer_streams
from kvcalc.engines.sglang import Settings, engine_formats, page_size, pool_bytes, pools, side_bytes
from kvcalc.formats import Role, ceil_div
from kvcalc.reconcile.logs import SGLANG, Fact, Log
from kvcalc.reconcile.report import Comparison
from kvcalc.reconcile.trial import Trial
from kvcalc.spec.model import ModelSpec
from kvcalc.units import GIB

ALTERNATIVES = {
    "dtype": ("bf16", "fp8", "fp8_ds_mla", "mxfp8", "nvfp4"),
    "tensor": (1, 2, 4, 8, 16),
    "pipeline": (1, 2, 4),
    "hybrid_swa": (False, True),
    "num_speculative_tokens": (0, 1),
    "block_size": (1, 16, 32, 64),
}
NOTE = 'two decimals of "GB", which are GiB'


def compare(log: Log, spec: ModelSpec, trial: Trial) -> Sequence[Comparison]:
    """Sizes of the pools, from the slots in the log.

    Raises:
        KvcalcError: a set-up that SGLang refuses.
    """
    settings = Settings(version=trial.version, parallel=trial.parallel, **trial.options)
    formats = parse_kv_cache_dtype(trial.dtype)
    return [
        *_token_lines(log, spec, settings, formats),
        *_window_lines(log, spec, settings, formats),
        *_state_lines(log, spec, settings),
    ]


def _row(fact: Fact, name: str, sizes: Sequence[int]) -> Comparison:
    """Agrees with any of `sizes` (with the padding page, or without as older versions); the first is shown."""
    texts = [f"{size / GIB:.{fact.digits}f}" for size in sizes]
    return Comparison(name=name, predicted=fact.text if fact.text in texts else texts[0], printed=fact.text,
                      unit="GiB", line=fact.line, agrees=fact.text in texts, note=NOTE)  # fmt: skip


def _token_lines(log: Log, spec: ModelSpec, settings: Settings, formats: FormatChoice) -> Sequence[Comparison]:
    tokens = log.first(SGLANG, "tokens") or log.first(SGLANG, "max_tokens")
    if tokens is None:
        return []
    stored = engine_formats(spec, formats)
    page = page_size(layer_streams(spec), settings)
    with_page, bare = (side_bytes(spec, stored, settings, tokens.integer + extra) for extra in (page, 0))
    rows: list[Comparison] = []
    if fact := log.first(SGLANG, "kv_gib"):
        rows.append(_row(fact, "KV size", (sum(with_page), sum(bare))))
    if fact := log.first(SGLANG, "key_gib"):
        rows.append(_row(fact, "K size", (with_page[0], bare[0])))
    if fact := log.first(SGLANG, "value_gib"):
        rows.append(_row(fact, "V size", (with_page[1], bare[1])))
    return rows


def _window_lines(log: Log, spec: ModelSpec, settings: Settings, formats: FormatChoice) -> Sequence[Comparison]:
    size, window, full = (log.first(SGLANG, name) for name in ("pool_gib", "window_tokens", "full_tokens"))
    if size is None or window is None or full is None:
        return []
    page = page_size(layer_streams(spec), settings)
    cells = pools(spec, formats, settings)
    bare = full.integer * cells.full + window.integer * cells.window
    padded = pool_bytes(cells, page, tokens=full.integer, window_tokens=window.integer)
    ratio = int(full.integer * settings.swa_full_tokens_ratio) // page * page
    return [
        _row(size, "window and full pools", (padded, bare)),
        Comparison(name="window slots", predicted=str(ratio), printed=window.text, unit="tokens", line=window.line,
                   agrees=ratio == window.integer,
                   note=f"{float(settings.swa_full_tokens_ratio):g} of the full pool (--swa-full-tokens-ratio)"),
    ]  # fmt: skip


def _state_lines(log: Log, spec: ModelSpec, settings: Settings) -> Sequence[Comparison]:
    slots = log.first(SGLANG, "states")
    if slots is None:
        return []
    rows: list[Comparison] = []
    for name, role in (("conv_gib", Role.CONV), ("ssm_gib", Role.STATE)):
        if fact := log.first(SGLANG, name):
            size = _role_bytes(spec, settings, role)
            rows.append(_row(fact, f"{role.value} size", (size * (slots.integer + 1), size * slots.integer)))
    return rows


def _role_bytes(spec: ModelSpec, settings: Settings, role: Role) -> int:
    """Bytes of one state slot on a rank of the fullest stage."""
    stored = engine_formats(spec, BF16)
    layers = layer_streams(spec)
    sums = [0] * settings.parallel.pipeline
    for layer, stage in zip(layers, layer_stages(layers, settings.parallel), strict=True):
        for stream in layer.streams:
            if stream.role is role:
                heads = heads_per_rank(stream, settings.parallel.tensor, "sglang")
                sums[stage] += stream.rows_bytes(stream.extent.rows(1, 0), stored, heads=heads)
    return max(sums)


def sharding_of(log: Log) -> dict[str, int]:
    """-tp, -pp and -dp as kvcalc counts them: with DP attention the attention's ranks are tp / dp."""
    found = {name: fact.integer for name in ("tensor", "pipeline", "data") if (fact := log.first(SGLANG, name))}
    if log.first(SGLANG, "dp_attention") and "data" in found:
        found["tensor"] = max(1, ceil_div(found.get("tensor", 1), found["data"]))
    return found


def options_of(log: Log) -> dict[str, object]:
    """Settings that the log states."""
    found: dict[str, object] = {}
    if fact := log.first(SGLANG, "block_size"):
        found["block_size"] = fact.integer
    if fact := log.first(SGLANG, "max_model_len"):
        found["max_model_len"] = fact.integer
    return found
