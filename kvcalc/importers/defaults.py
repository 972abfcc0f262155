"""Class defaults of transformers: what its config classes put in for keys that a config leaves out.

`class_defaults.json` holds the fields of the config classes of the version it names, before anything is
derived from other fields; only keys that say something of geometry. A config nested in another one leaves
out keys that equal these, so they are needed to read it; a config on its own states its geometry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(files(__package__).joinpath("class_defaults.json").read_text("utf-8"))
    return table


def class_defaults(model_type: str) -> Mapping[str, Any]:
    """Field -> default of the class that transformers uses for `model_type` (empty where it is not listed)."""
    found: Mapping[str, Any] = _table().get(model_type, {})
    return found


def transformers_version() -> str:
    """The version the table was taken from, as in `transformers 5.23.0`."""
    return f"transformers {_table()['transformers']}"
