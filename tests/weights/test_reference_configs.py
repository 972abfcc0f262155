"""Every reference config against an independent table of parameter totals; skipped where the table is absent."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from kvcalc.importers.hf_config import read_config
from kvcalc.spec.document import Document
from kvcalc.spec.validate import validate_model
from kvcalc.weights import parameter_count

REFERENCE = Path(os.environ.get("KVCALC_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
TABLE = REFERENCE / "models.csv"
ROWS = list(csv.DictReader(TABLE.open())) if TABLE.is_file() else []

pytestmark = pytest.mark.skipif(not ROWS, reason="no reference table (set KVCALC_REFERENCE to its folder)")


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_counts(row: dict[str, str]) -> None:
    config = json.loads((REFERENCE / "configs" / Path(row["file"]).name).read_text())
    config.pop("_sources", None)
    raw = json.loads(json.dumps(read_config(config, row["file"]).raw))
    count = parameter_count(validate_model(Document(path="", text="", data=raw, marks={}, key_marks={})))
    if row["model_type"] == "deepseek_v4":
        # The table gives no total; its class holds the correction bias (58 layers x 384 experts) as a buffer.
        assert count.total == int(row["hf_meta_params"]) + 58 * 384
        return
    assert count.total == int(row["total_params"])
    assert count.active == int(row["active_params"])
    if row["mtp_params_not_in_total"]:
        assert count.mtp == int(row["mtp_params_not_in_total"])
