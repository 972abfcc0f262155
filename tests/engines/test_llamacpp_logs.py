"""llama.cpp: cache sizes that real runs printed, to the printed 0.01 MiB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_factories import full, mla, model, sliding, work

from kvcalc.attention import Attention
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import llamacpp

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "llamacpp_logs.json").read_text())["rows"]
MIB = 2**20
PLAIN = [row for row in ROWS if "n_ctx" in row]
WINDOWED = [row for row in ROWS if "swa" in row]


def dtype_of(row: dict[str, Any]) -> str:
    """`c^KV (q8_0)` or `K (q8_0): ..., V (f16): ...` -> the format of each side."""
    key = row["type"].split("(")[1].rstrip(")")
    value = row["detail"].split("V (")[1].split(")")[0] if "V (" in row["detail"] else key
    return f"{key},value={value}"


def kind_of(row: dict[str, Any]) -> Attention:
    """The latent, or as many elements as the log's n_embd_k_gqa and n_embd_v_gqa say (kept in full in this fork)."""
    if row["kind"] == "mla":
        return mla()
    key, value = (int(str(row[name]).rstrip(",")) for name in ("n_embd_k_gqa", "n_embd_v_gqa"))
    heads = 1 if key == value else 8
    return full(heads, key // heads, value // heads)


@pytest.mark.parametrize("row", PLAIN, ids=[f"{r['model']}-{r['n_ctx']}-{i}" for i, r in enumerate(PLAIN)])
def test_plain_caches(row: dict[str, Any]) -> None:
    spec = model({"a": kind_of(row)}, "a" * row["n_layer"])
    settings = llamacpp.Settings(n_ctx=row["n_ctx"])
    answer = llamacpp.allocate(spec, work(1, formats=parse_kv_cache_dtype(dtype_of(row))), settings)
    assert f"{answer.allocated_bytes / MIB:.2f}" == f"{row['size_mib']:.2f}"


GEOMETRY: dict[str, tuple[Attention, Attention, dict[str, Any]]] = {
    # Gemma 4 12B: 4 slots, unified; full layers hold 1 x 512 (K and V), windows 8 x 256
    "Gemma 4 12B": (full(1, 512), sliding(1024, 8, 256), {"n_seq_max": 4, "kv_unified": True}),
    "gpt-oss-20b": (full(8, 64), sliding(128, 8, 64), {}),
    "Laguna (poolside)": (full(8, 128), sliding(512, 8, 128), {}),
}


@pytest.mark.parametrize("row", WINDOWED, ids=[f"{r['model']}-{r['type']}" for r in WINDOWED])
def test_caches_with_windows(row: dict[str, Any]) -> None:
    full_kind, window_kind, options = GEOMETRY[row["model"]]
    spec = model({"f": full_kind, "s": window_kind}, "f" * row["non_swa"]["layers"] + "s" * row["swa"]["layers"])
    ubatch = 128 if "ubatch 128" in row["note"] else 512
    settings = llamacpp.Settings(n_ctx=row["non_swa"]["cells"], n_ubatch=ubatch, **options)
    formats = parse_kv_cache_dtype(row["type"])
    found = llamacpp.caches(spec, formats, settings, llamacpp.cells(settings))
    for line, printed in zip(found, (row["non_swa"], row["swa"]), strict=True):
        assert (line.cells, line.layers) == (printed["cells"], printed["layers"])
        assert f"{line.bytes / MIB:.2f}" == f"{printed['size_mib']:.2f}"
