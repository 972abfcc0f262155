"""A plain reference per attention kind: what its cache holds, and what one decode step computes from it.

One file per kind, named as kvcalc names the kind; each has `run(kind, tokens, random) -> Run`.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from kernels_ref.reference.common import Random, Run
from kvcalc.attention.base import Attention

__all__ = ["Random", "Run", "run_reference"]


def run_reference(kind: Attention, tokens: int, random: Random) -> Run:
    """The reference of this kind, from the file that bears its name."""
    name = type(kind).__dataclass_fields__["kind"].default
    return cast(Run, import_module(f"kernels_ref.reference.{name}").run(kind, tokens, random))
