"""Whatever a text holds: as YAML it reads back the same, printed it drives nothing, as CSV it is one cell."""

from __future__ import annotations

import csv
import io
import json

from fuzz.oracle import harmless, problem_shown, shown, table_shown
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.importers.writer import flow, scalar
from kvcalc.problems import Problem
from kvcalc.render.document import Column, Document, Table, one_line
from kvcalc.render.machine import render_csv
from kvcalc.spec.yamlio import load_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""Any character that UTF-8 can write."""
NUMBERS = st.integers(-(10**39) + 1, 10**40 - 1) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    TEXT | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(TEXT)
def test_a_text_is_read_back(text: str) -> None:
    written = scalar(text)
    harmless(written)
    assert written.isprintable()
    assert load_yaml("x", f"key: {written}\n".encode()).data == {"key": text}
    assert load_yaml("x", f"{written}: 1\n".encode()).data == {text: 1}


@given(PLAIN)
def test_plain_data_is_read_back(data: object) -> None:
    assert load_yaml("x", flow(data).encode()).data == data


@given(PLAIN)
def test_json_is_read_as_it_is(data: object) -> None:
    """Python's own writer, in ASCII: only pairs of surrogate escapes are no YAML."""
    text = json.dumps(data)
    if "\\ud" not in text:
        assert load_yaml("x", text.encode()).data == data


@given(st.text(max_size=60))
def test_what_is_printed_drives_nothing(text: str) -> None:
    harmless(one_line(text))
    assert "\n" not in one_line(text)
    assert one_line(one_line(text)) == one_line(text)
    shown(Document(title=text, tables=(Table((Column("a"), Column("b")), ((text, 1),), text),), facts=((text, text),)))
    for problem in (Problem(code="KV000", message=text), Problem(code="KV000", message="x", help=text or None)):
        problem_shown(problem)


@given(st.text(max_size=60))
def test_a_cell_is_one_safe_line(text: str) -> None:
    written = render_csv(Document(title="", data=Table((Column("a"), Column("b")), ((text, 7),))))
    table_shown(written)
    cell, number = list(csv.reader(io.StringIO(written, newline="")))[1]
    assert cell.removeprefix("'") == one_line(text).removeprefix("'")
    assert number == "7"
