"""Compiles the shipped specs and accelerators into the wheel (see kvcalc/spec/compiled.py)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileShipped(BuildHookInterface[Any]):
    """Writes kvcalc/compiled for a wheel. A checkout and an sdist have none: there, what was edited last must count."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._remove()
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, self.root)
        from kvcalc.spec.compiling import compile_shipped

        compile_shipped()
        build_data["artifacts"].append("kvcalc/compiled/**/*.json")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(Path(self.root) / "kvcalc" / "compiled", ignore_errors=True)
