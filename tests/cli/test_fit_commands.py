"""kvcalc fit: what it says first, its options and plan files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from command_line import kvcalc, refused
from plan_commands import PLAN, answered, first_lines

from kvcalc.cli.plan_options import FIT_OPTIONS, OPTIONS

# --- fit


def test_fit_answers_first() -> None:
    out = answered("fit", "qwen-72b", "--gpu", "h200", "--gpus", "8", "-s", "32K")
    report = json.loads(answered("fit", "qwen-72b", "--gpu", "h200", "--gpus", "8", "-s", "32K", "-o", "json"))
    said = first_lines(out)
    best = report["lines"][0]
    # Its 640 GiB of 8 sequences fit (test_plans.py).
    assert best["max_batch_size"] >= 8
    assert said["most"] == f"{best['max_batch_size']} sequences of 32,768 tokens: {best['label']}"
    assert said["longest"].startswith("1 sequence of 32,768 tokens, the model's whole context: ")
    assert said["cache"].startswith(f"{best['tokens']:,} tokens")
    assert all(f"  {line}" in out for line in best["log_lines"])
    assert "(1 node of 8)" in out.splitlines()[0]


def test_layouts_of_a_fit_that_differ_in_nothing_are_one_row() -> None:
    out = answered("fit", "deepseek-v3", "--gpu", "h200", "--gpus", "8", "-s", "128K")
    assert "TP8 + DCP8 (also + EP8) " in out
    assert "layouts, most sequences first (" in out
    assert " more with --details)" in out
    every = answered("fit", "deepseek-v3", "--gpu", "h200", "--gpus", "8", "-s", "128K", "--details")
    assert "with --details" not in every
    assert len(every.splitlines()) > len(out.splitlines())


def test_what_a_fit_lacks_is_said_in_bytes() -> None:
    ran = kvcalc("fit", "llama-3.1-405b", "--gpu", "h100", "--gpus", "8", "-s", "8K")
    assert ran.code == 1
    # 405,853,388,800 parameters x 2 B on 8 x 85,017,755,648 B: weights alone lack (at least) this much of each.
    least = 405_853_388_800 * 2 // 8 - 85_017_755_648
    short = json.loads(kvcalc("fit", "llama-3.1-405b", "--gpu", "h100", "--gpus", "8", "-s", "8K", "-o", "json").out)
    assert short["shortage"]["short_bytes"] > least
    assert f"({short['shortage']['short_bytes']:,} B) short on each GPU, for the weights" in ran.out


def test_a_context_longer_than_fits_is_answered() -> None:
    said = first_lines(answered("fit", "qwen3-8b", "--gpu", "rtx-4090", "-s", "8K", "-b", "1000"))
    # 16 rows of 147,456 B for each of 1,000 sequences (a block each) and 16.4 GB of weights: a few blocks fit.
    assert said["longest"].startswith("1,000 sequences of ")


def test_fit_says_which_keys_of_a_plan_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + "slo: {tpot: 50ms}\nprices: {h200: 2}\n")
    ran = kvcalc("fit", "-f", str(path), "-q")
    assert ran.code == 0
    assert "not for slo, prices" in ran.err


def test_fit_takes_the_length_of_a_plan(tmp_path: Path) -> None:
    """Prompt and answer together, or the longest request of a trace, not the model's context of 40,960."""
    path = tmp_path / "plan.yaml"
    path.write_text("model: qwen3-8b\ngpu: h200\nisl: 3000\nosl: 500\nbatch_size: 4\n")
    report = json.loads(kvcalc("fit", "-f", str(path), "-o", "json").out)
    assert (report["seq_len"], report["batch_size"]) == (3500, 4)
    (tmp_path / "trace.csv").write_text("isl,osl\n100,50\n700,77\n")
    path.write_text("model: qwen3-8b\ngpu: h200\nlengths: trace.csv\nrate: 2\n")
    ran = kvcalc("fit", "-f", str(path), "-o", "json")
    assert json.loads(ran.out)["seq_len"] == 777
    assert "every sequence counts as the longest of the trace, 777 tokens" in ran.err
    assert "not for rate" in ran.err


def test_fit_answers_for_one_kind_of_gpu() -> None:
    assert "give one --gpu" in refused("fit", "qwen3-8b", "--gpu", "h200,h100")


def test_csv_of_a_fit_has_every_layout() -> None:
    asked = ("fit", "deepseek-v3", "--gpu", "h200", "--gpus", "8", "-s", "128K")
    rows = list(csv.DictReader(io.StringIO(answered(*asked, "-o", "csv"))))
    lines = json.loads(answered(*asked, "-o", "json"))["lines"]
    assert [row["layout"] for row in rows] == [line["label"] for line in lines]
    assert [int(row["max_batch_size"]) for row in rows] == [line["max_batch_size"] for line in lines]


def test_fit_takes_the_options_that_memory_depends_on() -> None:
    assert set(OPTIONS) - set(FIT_OPTIONS) == {
        "rate", "isl", "osl", "lengths", "tpot", "ttft", "objective", "prices", "calibration", "node_link",
    }  # fmt: skip
