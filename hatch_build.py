"""Compiles the layouts of the shipped specs into the package (see kvcalc/spec/compiled.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileLayouts(BuildHookInterface[Any]):
    """Writes kvcalc/compiled/*.json before a wheel or an editable install is made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(Path(self.root)))
        from kvcalc.spec.catalog import shipped, shipped_model
        from kvcalc.spec.compiled import FOLDER, freeze

        FOLDER.mkdir(exist_ok=True)
        for stale in FOLDER.glob("*.json"):
            stale.unlink()
        for name, path in shipped().items():
            text = freeze(shipped_model(name).layout(), path.read_bytes())
            (FOLDER / f"{name}.json").write_text(text, "utf-8")
        build_data["artifacts"].append("kvcalc/compiled/*.json")
