"""Dropping or renaming any key of a config never changes the answer silently.

It is refused, or the answer is the same, or a default stands in that is told (by its class, or by the config's other
figures). The small configs always run; every key of the reference configs too, where they are.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from import_asking import keys_of, layer_streams, without
from import_configs import KNOWN

from kvcalc.importers.hf_config import read_config
from kvcalc.problems import KvcalcError

REFERENCE = Path(os.environ.get("KVCALC_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
TABLE = REFERENCE / "models.csv"
FILES = [Path(row["file"]).name for row in csv.DictReader(TABLE.open())] if TABLE.is_file() else []


def silent_changes(config: dict[str, Any]) -> list[str]:
    """Mutations after which the cache differs and nothing was said."""
    base = read_config(config, "c")
    expected = layer_streams(base)
    found = []
    for place in keys_of(config):
        key = place[-1]
        for renamed in (None, f"{key}_x", f"my_{key}"):
            try:
                changed = read_config(without(config, place, renamed), "c")
            except KvcalcError:
                continue
            if layer_streams(changed) != expected and not set(changed.defaults) - set(base.defaults):
                found.append(f"{'.'.join(place)} -> {renamed}")
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_small_configs(name: str) -> None:
    assert silent_changes(KNOWN[name].config) == []


@pytest.mark.skipif(not FILES, reason="no reference configs (set KVCALC_REFERENCE to their folder)")
@pytest.mark.parametrize("file", FILES)
def test_reference_configs(file: str) -> None:
    config = json.loads((REFERENCE / "configs" / file).read_text("utf-8"))
    config.pop("_sources", None)
    assert silent_changes(config) == []
