"""Findings of `kvcalc check` in every form a person or a CI system reads. A form is one row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvcalc.checks.engine import CheckReport

FORMATS: Mapping[str, tuple[str, str]] = {
    "full": ("text", "render_full"),
    "concise": ("text", "render_concise"),
    "markdown": ("text", "render_summary"),
    "json": ("lists", "render_json"),
    "csv": ("lists", "render_csv"),
    "github": ("github", "render"),
    "sarif": ("sarif", "render"),
    "junit": ("junit", "render"),
    "gitlab": ("gitlab", "render"),
}
"""Name -> (module of this package, its function)."""


def renderer(name: str) -> Callable[[CheckReport], str]:
    """The function that turns a report into text of this form."""
    module, function = FORMATS[name]
    found: Callable[[CheckReport], str] = getattr(import_module(f"{__name__}.{module}"), function)
    return found
