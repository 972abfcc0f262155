"""Whatever an argument is, the answer is an answer or a reason: a part of what `arguments.py` asks."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from reliability import arguments
from reliability.arguments import BASE, cases, fault, write_inputs

from kvcalc.cli.app import COMMANDS

STEP = 97


def test_every_command_has_arguments() -> None:
    assert set(BASE) == {command.name for command in COMMANDS}


@pytest.mark.parametrize("share", range(4))
def test_no_argument_brings_a_traceback(share: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Of 15,000 cases and more; the number of values is no multiple of the step, so that each parameter meets others.
    found = [(case, said) for case in islice(cases(), share, None, STEP) if (said := fault(case))]
    assert not found
    assert not any(name.startswith("made") for name in os.listdir(tmp_path))


def test_the_bases_are_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is refused above is refused for the argument in question."""
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, base in BASE.items():
        ran = arguments.kvcalc(name, *base)
        assert ran.code == (2 if name == "verify" else 0), ran.err
