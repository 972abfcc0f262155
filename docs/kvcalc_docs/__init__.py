"""Reference pages of the documentation, each generated from the code that it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvcalc.render.rules import rules_page
from kvcalc_docs.commands import commands_page
from kvcalc_docs.engines import engines_page
from kvcalc_docs.formats import formats_page
from kvcalc_docs.hardware import hardware_page
from kvcalc_docs.kinds import kinds_page
from kvcalc_docs.memory import memory_page
from kvcalc_docs.models import models_page

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/kinds.md": kinds_page,
    "reference/formats.md": formats_page,
    "reference/engines.md": engines_page,
    "reference/hardware.md": hardware_page,
    "reference/models.md": models_page,
    "rules.md": rules_page,
    "memory.md": memory_page,
}
"""Path below docs/ -> the function that writes the page."""

__all__ = ["PAGES"]
