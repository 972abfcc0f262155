"""Every reference config against an independent table of cache bytes; skipped where the table is absent.

The table was made from first principles by another script, and its elements were compared with the real caches of
transformers 5.23.0. Each row goes config -> spec -> YAML -> spec, so the round trip is held as well.
"""

from __future__ import annotations

import csv
import os
from fractions import Fraction
from pathlib import Path

import pytest

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Footprint, Workload, footprint
from kvcalc.importers.hf_config import read_document
from kvcalc.importers.load import json_document, spec_of
from kvcalc.importers.writer import to_yaml
from kvcalc.spec.catalog import hub_ids, shipped_model
from kvcalc.spec.document import Document
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import load_model, validate_model

REFERENCE = Path(os.environ.get("KVCALC_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
TABLE = REFERENCE / "models.csv"
ROWS = list(csv.DictReader(TABLE.open())) if TABLE.is_file() else []
FAR = 2**21
"""Tokens beyond every window, and whole strides of every compression."""

pytestmark = pytest.mark.skipif(not ROWS, reason="no reference table (set KVCALC_REFERENCE to its folder)")


def sized(spec: ModelSpec, tokens: int, dtype: str = "bf16", encoder: int = 0) -> Footprint:
    formats = parse_kv_cache_dtype(dtype)
    return footprint(spec.layout(), Workload(batch_size=1, seq_len=tokens, encoder_len=encoder, formats=formats))


def agrees(spec: ModelSpec, row: dict[str, str]) -> None:
    """Every KV column of the row."""

    def column(name: str) -> Fraction:
        return Fraction(row[name] or 0)

    for tokens in (4096, 32768, 131072):
        assert sized(spec, tokens).kv_bytes == column(f"kv_{tokens}")
    near, far = sized(spec, FAR), sized(spec, 2 * FAR)
    index = Fraction(far.index_bytes - near.index_bytes, FAR)
    slope = Fraction(far.kv_bytes - near.kv_bytes, FAR) - index
    assert slope == column("kv_bytes_per_token_bf16")
    assert index == column("indexer_bytes_per_token_bf16")
    assert near.kv_bytes - (slope + index) * FAR == column("window_bytes_saturated")
    assert near.state_bytes == column("state_bytes_fp32ssm_bf16conv")
    assert sized(spec, 1, "bf16,state=bf16,conv=bf16").state_bytes == column("state_bytes_all_bf16")
    assert Fraction(sized(spec, 1, encoder=1000).cross_bytes, 1000) == column("cross_bytes_per_encoder_token")


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_config_and_its_written_spec(row: dict[str, str]) -> None:
    path = REFERENCE / "configs" / Path(row["file"]).name
    imported = read_document(json_document(path.name, path.read_bytes()))
    agrees(spec_of(imported), row)
    direct = validate_model(Document(path="", text="", data=imported.raw, marks={}, key_marks={}))
    written, _ = load_model(path.name, to_yaml(imported).encode())
    assert written == direct


SHIPPED = [row for row in ROWS if row["name"].lower() in hub_ids()]


@pytest.mark.parametrize("row", SHIPPED, ids=[row["name"] for row in SHIPPED])
def test_shipped_spec(row: dict[str, str]) -> None:
    agrees(shipped_model(hub_ids()[row["name"].lower()]), row)


def test_all_but_the_never_released_are_shipped() -> None:
    assert {row["name"] for row in ROWS} - {row["name"] for row in SHIPPED} == {"openai/gpt3-175b"}
