"""Budgets and tokens of real servers, from their start-up logs (startup_logs.json; docs/memory.md shows all)."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from kvcalc_docs.logs import GIB, GOOD, LEFT_OUT, OWN_TERMS, ROWS, Row

from kvcalc.engines import find_engine
from kvcalc.engines.budgets import outside_bytes
from kvcalc.plan.layouts import Layout
from kvcalc.spec.hardware_catalog import find_hardware

NAMES = [f"{row.checkpoint} {row.engine} {row.tp}x{row.gpu} {row.source}" for row in ROWS]
COUNTED = [row for row in ROWS if row.tokens is not None]


def share(rows: list[Row]) -> Fraction:
    return Fraction(sum(row.good for row in rows), len(rows))


def test_two_thirds_of_all_budgets_are_within_a_tenth():
    assert GOOD == 10
    assert share(list(ROWS)) >= Fraction(2, 3)


def test_new_servers_that_no_default_was_chosen_by_are_hit_no_worse_than_now():
    """9 of 18; a change of a default that loses one of them must say why."""
    unused = [row for row in ROWS if row.sample == "unused"]
    assert len(unused) == 18
    assert sum(row.good for row in unused) >= 9


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_miss_says_why(row: Row):
    assert row.good or row.note


@pytest.mark.parametrize("row", COUNTED, ids=[f"{r.model} {r.engine} {r.tp}x{r.gpu} {r.source}" for r in COUNTED])
def test_tokens_follow_from_the_printed_budget_exactly(row: Row):
    """Some number of blocks whose bytes round to the printed GiB gives every other printed figure, or it says why."""
    assert row.exact or row.tokens_note


def test_enough_tokens_are_exact():
    """84 of 101: MI300X ranks differ, two hold formats that their log does not name, small pools print two decimals."""
    assert len(COUNTED) == 101
    assert sum(row.exact for row in COUNTED) >= 84


def test_no_row_is_there_twice():
    seen = Counter((r.engine, r.checkpoint, r.gpu, r.tp, r.dcp, r.kv, r.source) for r in ROWS)
    assert [key for key, number in seen.items() if number > 1] == []
    assert {row.sample for row in ROWS} == {"used", "unused"}
    assert all(each["why"] for each in LEFT_OUT)


@pytest.mark.parametrize("row", OWN_TERMS, ids=[row["source"] for row in OWN_TERMS])
def test_a_budget_from_the_logs_own_terms(row):
    """Five figures of two decimals: 0.005 GiB each, the total's by its fraction."""
    engine = find_engine("vllm")
    names = ("non_torch", "activation", "cuda_graphs")
    found = engine.budget(
        engine.configure(),
        gpu_memory_bytes=int(row["gpu_gib"] * GIB),
        weights_bytes=int(row["weights"] * GIB),
        utilization=Fraction(row["utilization"]),
        overheads={"absorbed": 0} | {name: int(row[name] * GIB) for name in names},
    )
    assert all(item.given for item in found.overheads if item.name != "weights")
    assert abs(found.available_bytes / GIB - row["kv_gib"]) < 0.025


def test_ranks_without_nvlink_keep_a_third_outside_the_allocator():
    assert [outside_bytes(1), outside_bytes(2), outside_bytes(8)] == [GIB // 2, GIB * 3 // 2, GIB * 3 // 2]
    assert outside_bytes(8, linked=False) == GIB // 2
    job = ROWS[0].job
    shown = {}
    for gpu, layout in (("h100", Layout(tensor=2)), ("l40s", Layout(tensor=2)), ("l40s", Layout())):
        (split,) = job.splits(layout, find_hardware(gpu), 8192)
        shown[gpu, layout.gpus] = next(item.bytes for item in split.overheads if item.name == "non_torch")
    assert shown == {("h100", 2): GIB * 3 // 2, ("l40s", 2): GIB // 2, ("l40s", 1): GIB // 2}
