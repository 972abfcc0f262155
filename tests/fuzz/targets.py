"""What is fuzzed: each target takes any bytes and must end in an answer or in Problems.

`run.py` drives these with a coverage-guided fuzzer; `test_corpus.py` replays past failures and damaged seeds in CI.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuzz import checking, foreign, specs, spoken
from fuzz.oracle import said
from fuzz.target import Target

from kvcalc.problems import KvcalcError

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once ended in a fault: TARGET-what.bin."""
TARGETS: Mapping[str, Target] = {**specs.TARGETS, **foreign.TARGETS, **checking.TARGETS, **spoken.TARGETS}


def attempt(name: str, data: bytes) -> bool:
    """One execution: whether it was answered; Problems are fine too, and are read out."""
    target = TARGETS[name]
    try:
        return target.run(data if target.spelt is None else target.spelt(data)) is not False
    except KvcalcError as error:
        said(error)
        return False


__all__ = ["CORPUS", "TARGETS", "Target", "attempt"]
