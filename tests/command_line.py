"""Runs `kvcalc ...` inside the test's process, as the installed command would: argv in, exit code and bytes out."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


def kvcalc(*arguments: str, stdin: bytes = b"", **environment: str) -> Ran:
    """Exit code, standard output and standard error; neither is a terminal."""
    from kvcalc.cli import run

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    source = io.TextIOWrapper(io.BytesIO(stdin))
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["kvcalc", *arguments]),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        mock.patch.object(sys, "stdin", source),
        mock.patch.dict(os.environ, {"COLUMNS": "200", "TERM": "dumb", **environment}),
    ):
        for name in ("NO_COLOR", "FORCE_COLOR"):
            if name not in environment:
                os.environ.pop(name, None)
        try:
            run()
        except SystemExit as stop:
            code = stop.code
    taken = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    return Ran(code if isinstance(code, int) else 0 if code is None else 1, *taken)


def refused(*arguments: str, stdin: bytes = b"") -> str:
    """Standard error of a command that must fail as wrong input: exit 2, nothing on standard output."""
    ran = kvcalc(*arguments, stdin=stdin)
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
    return ran.err
