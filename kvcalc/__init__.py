"""Exact KV-cache bytes of language models: how many, how fast they stream, how many GPUs.

    >>> import kvcalc
    >>> kvcalc.size("qwen-72b", batch_size=8, seq_len="32K").logical_bytes
    687194767360

Each function takes what its command takes and returns a frozen report; docs/python-api.md shows them all.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `as` marks what is exported; _HOMES says the same to the interpreter, and a test compares
    from kvcalc.api.arguments import KvcalcWarning as KvcalcWarning
    from kvcalc.api.capacity import fit as fit
    from kvcalc.api.capacity import plan as plan
    from kvcalc.api.capacity import plan_file as plan_file
    from kvcalc.api.reports import names as names
    from kvcalc.api.reports import report_schema as report_schema
    from kvcalc.api.reports import to_json as to_json
    from kvcalc.api.sizes import allocate as allocate
    from kvcalc.api.sizes import compare as compare
    from kvcalc.api.sizes import diff as diff
    from kvcalc.api.sizes import explain as explain
    from kvcalc.api.sizes import find_gpu as find_gpu
    from kvcalc.api.sizes import find_model as find_model
    from kvcalc.api.sizes import size as size
    from kvcalc.api.speed import roofline as roofline
    from kvcalc.api.speed import sweep as sweep
    from kvcalc.api.speed import tiers as tiers
    from kvcalc.api.trust import check as check
    from kvcalc.api.trust import reconcile as reconcile
    from kvcalc.checks.engine import CheckReport as CheckReport
    from kvcalc.comparison import CompareReport as CompareReport
    from kvcalc.diffing import DiffReport as DiffReport
    from kvcalc.engines.sizing import EngineSizeReport as EngineSizeReport
    from kvcalc.explanation import ModelExplanation as ModelExplanation
    from kvcalc.footprint import Footprint as Footprint
    from kvcalc.plan.report import FitReport as FitReport
    from kvcalc.plan.report import PlanReport as PlanReport
    from kvcalc.problems import KvcalcError as KvcalcError
    from kvcalc.problems import Problem as Problem
    from kvcalc.reconcile.report import ReconcileReport as ReconcileReport
    from kvcalc.roofline import RooflineReport as RooflineReport
    from kvcalc.sizing import SizeReport as SizeReport
    from kvcalc.spec.hardware import HardwareSpec as HardwareSpec
    from kvcalc.spec.model import ModelSpec as ModelSpec
    from kvcalc.sweep import SweepReport as SweepReport
    from kvcalc.tiers import TiersReport as TiersReport

__version__ = "0.1.0"

_HOMES = {
    "kvcalc.api.arguments": ("KvcalcWarning",),
    "kvcalc.api.capacity": ("fit", "plan", "plan_file"),
    "kvcalc.api.reports": ("names", "report_schema", "to_json"),
    "kvcalc.api.sizes": ("allocate", "compare", "diff", "explain", "find_gpu", "find_model", "size"),
    "kvcalc.api.speed": ("roofline", "sweep", "tiers"),
    "kvcalc.api.trust": ("check", "reconcile"),
    "kvcalc.checks.engine": ("CheckReport",),
    "kvcalc.comparison": ("CompareReport",),
    "kvcalc.diffing": ("DiffReport",),
    "kvcalc.engines.sizing": ("EngineSizeReport",),
    "kvcalc.explanation": ("ModelExplanation",),
    "kvcalc.footprint": ("Footprint",),
    "kvcalc.plan.report": ("FitReport", "PlanReport"),
    "kvcalc.problems": ("KvcalcError", "Problem"),
    "kvcalc.reconcile.report": ("ReconcileReport",),
    "kvcalc.roofline": ("RooflineReport",),
    "kvcalc.sizing": ("SizeReport",),
    "kvcalc.spec.hardware": ("HardwareSpec",),
    "kvcalc.spec.model": ("ModelSpec",),
    "kvcalc.sweep": ("SweepReport",),
    "kvcalc.tiers": ("TiersReport",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


class _Package(ModuleType):
    """`kvcalc.tiers` is the function, whether or not the room of the same name has been imported.

    The import system binds a submodule to its package when it is first imported, which would hide the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


sys.modules[__name__].__class__ = _Package
