"""The tables of plans and fits: empty columns, equal rows, ledgers; a plan's document at several widths."""

from __future__ import annotations

import pytest

from kvcalc.plan.ledger import Ledger, Term
from kvcalc.plan.planfile import PlanSpec, Slo
from kvcalc.plan.planning import plan
from kvcalc.plan.report import PlanReport, Shortage
from kvcalc.plan.resolving import resolve
from kvcalc.render.document import Column, Table, many
from kvcalc.render.plan import plan_document
from kvcalc.render.plan_tables import LAYOUT, cut, lean, ledger_table, log_text, merged, nodes_text, why
from kvcalc.render.text import render_text


def test_counts_and_their_nouns() -> None:
    assert [many(n, "node") for n in (0, 1, 2, 1200)] == ["0 nodes", "1 node", "2 nodes", "1,200 nodes"]
    assert nodes_text(8, 8) == "1 node of 8"
    assert nodes_text(7, 8) == "in 1 node of 8"
    assert nodes_text(24, 8) == "3 nodes of 8"
    assert nodes_text(1, 1) == "1 node of 1"


def test_columns_in_which_nothing_is_said_go() -> None:
    columns = (LAYOUT, Column("GPUs"), Column("TTFT"), Column("TPOT"), Column("cost"))
    table = Table(columns, (("TP8", 8, None, "1 s", ""), ("TP4 x PP2", 8, None, "2 s", "")), "t")
    kept = lean(table, ("GPUs",))
    assert [column.name for column in kept.columns] == ["layout", "TPOT"]
    assert kept.rows == (("TP8", "1 s"), ("TP4 x PP2", "2 s"))
    assert [column.name for column in lean(table).columns] == ["layout", "GPUs", "TPOT"]
    assert lean(table).title == "t"


def test_a_zero_says_something() -> None:
    assert lean(Table((Column("free"),), ((0,), (0,)))).columns == (Column("free"),)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["TP8 + DCP8", "TP8 + EP8 + DCP8"], "TP8 + DCP8 (also + EP8)"),
        (["TP1 x PP4", "TP2 x PP2", "TP2 x PP2 + EP2"], "TP1 x PP4 (also TP2 x PP2, TP2 x PP2 + EP2)"),
        (["TP8"], "TP8"),
    ],
)
def test_equal_rows_are_one_that_names_the_others(labels: list[str], shown: str) -> None:
    columns = (LAYOUT, Column("TPOT"))
    table = Table(columns, (*((label, "1 s") for label in labels), ("TP16", "2 s")))
    assert merged(table).rows == ((shown, "1 s"), ("TP16", "2 s"))


def test_a_cut_table_says_what_is_left_out() -> None:
    table = Table((LAYOUT,), (("a",), ("b",), ("c",)), "layouts")
    assert cut(table, 3) == table
    assert cut(table, 1) == Table((LAYOUT,), (("a",),), "layouts (2 more with --details)")


def shortage(**changes: object) -> Shortage:
    fields = {"gpus": 7, "label": "TP1 x PP7", "layouts": 3, "short_bytes": 2**30, "breaks": "cache", "detail": "d"}
    return Shortage(**{**fields, **changes})  # type: ignore[arg-type]


def test_why_a_number_is_not_enough() -> None:
    assert why(shortage()) == "TP1 x PP7 is 1 GiB (1,073,741,824 B) short on each GPU, for the cache"
    assert why(shortage(short_bytes=0, breaks="tpot")) == "TP1 x PP7: d"
    assert why(shortage(label=None, layouts=0)) == "d"
    assert why(shortage(short_bytes=512)).startswith("TP1 x PP7 is 512 B short")


LEDGER = Ledger(
    stage=2,
    gpu_memory_bytes=100,
    free_bytes=-1,
    breaks="cache",
    terms=(
        Term(name="reserve", group="reserve", bytes=8, source="engine keeps 8 %"),
        Term(name="graphs", group="overhead", bytes=0, source="0 unless given"),
        *(Term(name=f"part {n}", group="weights", bytes=n, source="geometry") for n in (1, 2, 3, 4, 5, 6)),
        Term(name="cache", group="cache", bytes=70, source="the batch"),
        Term(name="null block", group="cache", bytes=2),
    ),
)


def test_a_ledger_in_groups_sums_to_the_gpu() -> None:
    table = ledger_table(LEDGER, "h200, TP1", details=False)
    assert table.title == "memory of one GPU: h200, TP1, pipeline stage 2 (the fullest)"
    assert [(row[0], row[1]) for row in table.rows] == [
        ("reserve", 8), ("overhead", 0), ("weights", 21), ("cache", 72), ("free", -1), ("total", 100),
    ]  # fmt: skip
    made = {row[0]: row[3] for row in table.rows}
    assert made["weights"] == "part 6 6 B, part 5 5 B, part 4 4 B, part 3 3 B, others 3 B"
    assert made["reserve"] == "engine keeps 8 %"
    assert made["overhead"] == "0 unless given"


def test_a_ledger_in_detail_has_every_term_and_its_source() -> None:
    rows = ledger_table(LEDGER, "x", details=True).rows
    assert len(rows) == len(LEDGER.terms) + 2
    assert sum(row[2] for row in rows[:-1]) == rows[-1][2] == 100  # type: ignore[misc]
    assert {row[4] for row in rows if row[0] == "weights"} == {"geometry"}


def test_an_engine_without_a_rule_prints_nothing() -> None:
    assert log_text("vllm", "TP1", ()) == ""
    assert log_text("vllm", "TP1", ("a", "b")) == "what the log of vllm will say (TP1):\n  a\n  b"


# --- a whole document


@pytest.fixture(scope="module")
def report() -> PlanReport:
    spec = PlanSpec(
        model="llama-3.1-70b", gpu=("h100", "h200", "t4"), gpus=8, batch_size=16, isl=3000, osl=500,
        slo=Slo(tpot="40ms", ttft="2s"), prices={"h100": 2, "h200": 3, "t4": "0.2"},
    )  # fmt: skip
    resolved = resolve(spec)
    return plan(resolved.request, resolved.hardware)


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_plan_fits_its_terminal(report: PlanReport, width: int, details: bool) -> None:
    lines = render_text(plan_document(report, details=details), width=width).splitlines()
    assert max(map(len, lines)) <= width, max(lines, key=len)


def test_a_reader_sees_gpus_and_nodes_first(report: PlanReport) -> None:
    best = report.plans[report.best]
    lines = render_text(plan_document(report), width=80).splitlines()
    first = next(line for line in lines if line.startswith("fewest"))
    assert lines.index(first) <= 3
    assert f"{best.gpus} x {best.gpu} (" in first
    assert " node of 8)" in first


def test_kinds_stand_in_the_order_of_what_is_best() -> None:
    """Of 3, 2 and 9 per hour the cheapest, named second, is first; what does not fit is last."""
    spec = PlanSpec(
        model="llama-3.1-8b", gpu=("h100", "h200", "h20", "t4"), gpus=1, batch_size=1, seq_len=100, objective="cost",
        prices={"h100": 3, "h200": 2, "h20": "2.5", "t4": 1},
    )  # fmt: skip
    resolved = resolve(spec, alternatives=False)
    table = plan_document(plan(resolved.request, resolved.hardware)).tables[0]
    assert [row[0] for row in table.rows] == ["h200", "h20", "h100-sxm", "t4"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"isl": 60, "osl": 40}, "1 sequence x 60 + 40 tokens, bf16"),
        ({"isl": 60, "osl": 40, "seq_len": 100}, "1 sequence x 60 + 40 tokens, bf16"),
        ({"isl": 60, "osl": 40, "seq_len": 8192}, "1 sequence x 60 + 40 tokens, held as 8,192, bf16"),
        ({"isl": 60, "seq_len": 100}, "1 sequence x 100 tokens, bf16"),
    ],
)
def test_a_title_says_what_is_held(asked: dict[str, int], shown: str) -> None:
    resolved = resolve(PlanSpec(model="llama-3.1-8b", gpu="h200", gpus=1, **asked), alternatives=False)
    assert shown in plan_document(plan(resolved.request, resolved.hardware)).title


def test_details_show_every_kind_that_fits(report: PlanReport) -> None:
    titles = [table.title for table in plan_document(report, details=True).tables]
    assert len([title for title in titles if title.startswith("memory of one GPU: ")]) == 2
    assert "why t4 are not enough" in titles
    brief = [table.title for table in plan_document(report).tables]
    assert len(brief) < len(titles)
    assert brief[0] == titles[0] == "kinds of GPU, best first"
