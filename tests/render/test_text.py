"""Text for terminals and pipes: what is folded on a narrow terminal, and what never is."""

from __future__ import annotations

import pytest

from kvcalc.render.document import Column, Document, Table
from kvcalc.render.text import render_markdown, render_text

WHY = "12.74 GiB short per GPU: reserve 11.18 GiB, overhead 4.976 GiB, weights 112.8 GiB, cache 23.63 GiB"
TABLE = Table(
    title="why fewer are not enough",
    columns=(Column("GPUs"), Column("short per GPU", "B"), Column("tokens/s per GPU <="), Column("why", flexible=True)),
    rows=((6, 13_683_848_543, 1432.4, WHY), (1, 523_040_701_792, 7.5, "")),
)
SAID = Document(
    title="a title of some words that is longer than a narrow terminal is wide",
    answer=(("fewest", "8 x h200 (1 node of 8): TP8 + DCP8"), ("why not 7", f"TP1 x PP7 is {WHY}")),
    tables=(TABLE,),
    facts=(("all 8", "weights", "634.3 GiB, of which 7.423 GiB are held more than once because ranks need them"),),
    notes=("note: times are bounds from published peaks, link volumes over link rates; no launches, no imbalance",),
)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, render_text(SAID, width=width).splitlines())) <= width


def test_folding_loses_no_word() -> None:
    def words(width: int | None) -> list[str]:
        return sorted(word for word in render_text(SAID, width=width).split() if set(word) != {"-"})

    assert words(60) == words(None)


def test_a_wide_terminal_and_a_pipe_say_the_same() -> None:
    assert render_text(SAID, width=400) == render_text(SAID)


def test_a_pipe_folds_nothing() -> None:
    lines = render_text(SAID).splitlines()
    assert any(line.endswith(WHY) for line in lines)
    assert lines[0] == SAID.title


def test_the_answer_stands_above_the_tables() -> None:
    lines = render_text(SAID).splitlines()
    assert lines[2] == "fewest     8 x h200 (1 node of 8): TP8 + DCP8"
    assert lines[3] == f"why not 7  TP1 x PP7 is {WHY}"
    assert lines[5] == TABLE.title


def test_what_is_folded_hangs_below_its_beginning() -> None:
    lines = render_text(SAID, width=60).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("why not 7"))
    assert lines[start + 1].startswith(" " * 11)
    assert lines[start + 1][11] != " "


def test_headings_fold_between_words_and_stand_on_the_rule() -> None:
    lines = render_text(Document(title="t", tables=(TABLE,)), width=80).splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("----"))
    assert lines[rule - 1].split() == ["GPUs", "[B]", "<=", "why"]
    assert "tokens/s" in lines[rule - 3]


def test_numbers_are_never_folded() -> None:
    columns = (Column("name", flexible=True), Column("bytes", "B", flexible=True))
    table = Table(columns=columns, rows=(("a name of many words and letters", 523_040_701_792),))
    assert "523,040,701,792" in render_text(Document(title="t", tables=(table,)), width=20)


def test_only_the_title_is_bold_and_only_in_colour() -> None:
    text = render_text(SAID, colour=True, width=40)
    assert text.startswith("\x1b[1ma title")
    assert text.count("\x1b") == 2
    assert "\x1b" not in render_text(SAID, width=40)


def test_markdown_has_the_answer_as_a_list() -> None:
    text = render_markdown(SAID)
    assert "- **fewest** 8 x h200 (1 node of 8): TP8 + DCP8\n- **why not 7** TP1 x PP7" in text
    assert text.index("- **fewest**") < text.index("| GPUs |")
