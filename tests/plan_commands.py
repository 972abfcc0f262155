"""kvcalc plan and fit on the command line, as several files of tests ask them."""

from __future__ import annotations

import json
from typing import Any

from command_line import Ran, kvcalc

QWEN = ("qwen-72b", "-b", "8", "-s", "32K")
SMALL = ("qwen3-8b", "--gpu", "h200", "--gpus", "8")
PLAN = "model: qwen3-8b\ngpu: h200\ngpus: 8\nbatch_size: 64\nseq_len: 8K\n"


def answered(*arguments: str, code: int = 0, stdin: bytes = b"") -> str:
    ran = kvcalc(*arguments, stdin=stdin)
    assert ran.code == code, ran.err
    assert ran.err == "" or code == 1
    return ran.out


def planned(*arguments: str, code: int = 0, stdin: bytes = b"") -> dict[str, Any]:
    report: dict[str, Any] = json.loads(kvcalc_json(*arguments, code=code, stdin=stdin).out)
    return report


def kvcalc_json(*arguments: str, code: int = 0, stdin: bytes = b"") -> Ran:
    ran = kvcalc(*arguments, "-o", "json", stdin=stdin)
    assert ran.code == code, ran.err
    return ran


def first_lines(text: str) -> dict[str, str]:
    """The answer: label -> text."""
    block = text.split("\n\n")[1]
    cells = [line.split("  ", 1) for line in block.splitlines()]
    return {label: said.strip() for label, said in cells}
