"""What holds of every answer and every refusal, whatever was read."""

from __future__ import annotations

import csv
import io
import json
import re
from functools import cache
from typing import Any, NoReturn

import jsonschema

from kvcalc.problems import KvcalcError, Problem
from kvcalc.render.document import Document
from kvcalc.render.machine import render_csv, render_json
from kvcalc.render.problems import render_problem
from kvcalc.render.reports import report_schema
from kvcalc.render.text import render_markdown, render_text

MAX_MESSAGE = 5000
_RAW = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # control characters, the escape of every terminal sequence among them (ECMA-48)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what sets the direction of text (UAX #9, section 2)
    "\u200b-\u200d\u2060-\u2065\ufeff\U000e0000-\U000e007f"  # what cannot be seen
    "\ud800-\udfff]"  # what no encoding can write
)
_COMMAND = re.compile(r"^::error::|##\[|##vso\[", re.MULTILINE)
"""What GitHub's and Azure's runners obey; our own annotations are `::error file=`."""
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.])")
"""What a spreadsheet would run (OWASP, "CSV Injection"); a negative number is none."""


def harmless(text: str) -> None:
    """Nothing in it drives a terminal, hides from the eye, or (as `edits.ODD` tries) commands a CI system."""
    found = _RAW.search(text)
    assert found is None, f"printed raw: {found[0]!r} in {text[max(0, found.start() - 60) : found.end() + 20]!r}"
    assert not _COMMAND.search(text), "a line that a CI system would obey"


def said(error: KvcalcError) -> None:
    """Problems are there, one line each, short, and safe to print."""
    assert error.problems, "no problem is named"
    for problem in error.problems:
        problem_shown(problem)


def problem_shown(problem: Problem) -> None:
    """Its message and its help are a line each; so nothing in a file can put a line of its own into a log."""
    text = render_problem(problem)
    harmless(text)
    assert len(text) < MAX_MESSAGE, f"an endless message: {text[:500]}"
    lines = 1 + (2 if problem.snippet else 0) + (1 if problem.help else 0)
    assert text.count("\n") < lines, f"a message of several lines: {text[:500]}"


def shown(document: Document) -> None:
    """In every form for people, and as CSV that reads back as a table."""
    for text in (render_text(document), render_text(document, width=60), render_markdown(document)):
        harmless(text)
    table_shown(render_csv(document))


def table_shown(text: str) -> None:
    """CSV: harmless, square, and nothing in it runs."""
    harmless(text)
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert len({len(row) for row in rows}) <= 1, "rows of different width"
    assert not any(_FORMULA.match(cell) for row in rows for cell in row), "a cell that a spreadsheet would run"


def parsed(text: str) -> Any:
    """JSON as the standard has it, in ASCII."""
    assert text.isascii()
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(word: str) -> NoReturn:
    raise AssertionError(f"{word} in JSON")


def report_shown(name: str, report: Any, *, thoroughly: bool) -> None:
    """JSON that reads back and (it takes its time) is what the published schema says."""
    found = parsed(render_json(name, report))
    if thoroughly:
        _schema(name).validate(found)


@cache
def _schema(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(report_schema(name))
