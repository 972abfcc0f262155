"""kvcalc plan: what it says first, kinds of GPU, objectives, fronts, forms, and its bar."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import kvcalc, refused
from plan_commands import QWEN, SMALL, answered, first_lines, kvcalc_json, planned

CACHE, WEIGHTS = 2 * 80 * 64 * 128 * 2 * 32768 * 8, 72_287_920_128 * 2
"""Of Qwen-72B: K and V of 80 layers x 64 heads x 128 x 2 B x 8 sequences; its parameters in bf16."""


# --- the answer comes first


def test_the_sum_of_qwen_72b_is_shown() -> None:
    said = first_lines(answered("plan", *QWEN, "--gpu", "h200", "--gpus", "8"))
    assert f"cache 640 GiB ({CACHE:,} B) + weights 134.6 GiB ({WEIGHTS:,} B) = 774.6 GiB" in said["needs"]
    # 774.6 GiB exceed 6 x 139.8 GiB with what vLLM keeps back and spends.
    assert said["fewest"].startswith(("7 x h200 (in 1 node of 8): ", "8 x h200 (1 node of 8): "))


def test_what_does_not_fit_says_what_is_missing_in_bytes() -> None:
    said = first_lines(answered("plan", *QWEN, "--gpu", "h100", "--gpus", "8", code=1))
    report = planned("plan", *QWEN, "--gpu", "h100", "--gpus", "8", code=1)
    short = report["plans"][0]["proof"][0]["short_bytes"]
    # 8 x 79.18 GiB = 633.4 GiB do not even hold the cache.
    assert short * 8 > CACHE + WEIGHTS - 8 * 85_017_755_648
    assert f"up to 8 x h100-sxm: TP4 x PP2 is 28.12 GiB ({short:,} B) short on each GPU" in said["does not fit"]
    assert f"{CACHE:,} B" in said["needs"]


def test_one_gpu_fewer_is_answered_in_the_first_lines() -> None:
    """144.6 GB of weights take 30.1 ms of 4.8 TB/s, 7.5 ms of four times that; 64 heads cannot be shared by three."""
    said = first_lines(answered("plan", "qwen-72b", "-b", "1", "-s", "8K", "--gpu", "h200", "--tpot", "12ms"))
    assert said["fewest"] == "4 x h200 (in 1 node of 8): TP4"
    assert said["why not 3"].startswith("TP1 x PP3: TPOT is at least 3")
    assert said["why not 3"].endswith(" ms, 12 ms asked for")


def test_too_slow_says_how_slow_and_that_the_memory_would_do() -> None:
    ran = kvcalc("plan", *SMALL, "-b", "1", "-s", "8K", "--tpot", "1us")
    said = first_lines(ran.out)
    assert ran.code == 1
    assert "1 us asked for" in said["too slow"]
    assert said["memory alone"] == "1 GPU would do"
    assert "without the speed asked for" in ran.out


def test_numbers_that_were_not_tried_for_the_same_reason_are_one_row() -> None:
    """626.9 GiB of weights exceed 4 x 139.8 GiB; from five GPUs on it is -tp 8 that rules them out."""
    out = answered("plan", "deepseek-v3", "--gpu", "h200", "-b", "64", "-s", "8K", "-tp", "8")
    table = out.split("why fewer h200 are not enough\n")[1].split("\n\n")[0].splitlines()
    assert [line[:6] for line in table[2:]] == ["5 to 7", "1 to 4"]
    assert table[2].endswith("TP8 takes 8 GPUs, or a multiple, not 7")
    assert table[3].endswith("weights alone: 626.9 GiB in 4 x 139.8 GiB")


def test_numbers_agree_with_their_nouns() -> None:
    one = answered("plan", *SMALL, "-b", "1", "-s", "8K")
    assert "qwen3-8b in vllm" in one
    assert ": 1 sequence x 8,192 tokens" in one
    assert "1 x h200 (in 1 node of 8)" in one
    two = answered("plan", "qwen-72b", "--gpu", "h100", "-b", "8", "-s", "32K")
    assert "16 x h100-sxm (2 nodes of 8)" in two


def test_columns_without_content_are_left_out() -> None:
    bare = answered("plan", "llama-3.1-70b", "--gpu", "h200", "-b", "16", "-s", "4K")
    assert "TTFT" not in bare
    assert "per hour" not in bare
    full = answered("plan", "llama-3.1-70b", "--gpu", "h200", "-b", "16", "--isl", "3000", "--osl", "500",
                    "--price", "h200=2.5")  # fmt: skip
    assert "TTFT >=" in full
    assert "per hour" in full


def test_layouts_that_differ_in_nothing_are_one_row() -> None:
    asked = ("plan", "deepseek-v3", "--gpu", "h200", "--gpus", "8", "-b", "64", "-s", "4K", "-tp", "8", "-dcp", "8")
    labels = [choice["label"] for choice in planned(*asked)["plans"][0]["choices"]]
    assert labels == ["TP8 + DCP8", "TP8 + EP8 + DCP8"]
    table = answered(*asked).split("layouts of 8 x h200, fastest first\n")[1].split("\n\n")[0].splitlines()
    assert [line.split("  ")[0] for line in table[2:]] == ["TP8 + DCP8 (also + EP8)"]


def test_the_log_that_the_engine_will_print_is_of_the_first_layout() -> None:
    out = answered("plan", *SMALL, "-b", "4", "-s", "8K")
    report = planned("plan", *SMALL, "-b", "4", "-s", "8K")
    lines = report["plans"][0]["capacity"]["log_lines"]
    assert lines
    assert f"what the log of vllm will say ({report['plans'][0]['choices'][0]['label']}):" in out
    assert all(f"  {line}" in out for line in lines)


# --- several kinds of GPU


SEVERAL = ("qwen3-8b", "-b", "64", "-s", "8K", "--gpus", "8")


def test_a_list_with_commas_is_the_option_repeated() -> None:
    repeated = kvcalc_json("plan", *SEVERAL, "--gpu", "h100", "--gpu", "h200", "--gpu", "l4")
    assert kvcalc_json("plan", *SEVERAL, "--gpu", "h100,h200,l4") == repeated
    assert kvcalc_json("plan", *SEVERAL, "--gpu", "h100, h200", "--gpu", "l4,") == repeated
    assert [plan["gpu"] for plan in json.loads(repeated.out)["plans"]] == ["h100-sxm", "h200", "l4"]


def test_a_gpu_named_twice_is_planned_once() -> None:
    report = planned("plan", *SEVERAL, "--gpu", "h100,h100,h100-sxm")
    assert [plan["gpu"] for plan in report["plans"]] == ["h100-sxm"]


def test_kinds_stand_side_by_side_and_the_best_alone_in_detail() -> None:
    out = answered("plan", *QWEN, "--gpu", "h100,h200")
    table = out.split("kinds of GPU, best first\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == ["GPU", "--------", "h200", "h100-sxm"]
    assert table[3].split()[1] == "16"
    assert out.count("memory of one GPU") == 1
    assert "memory of one GPU: h200" in out
    assert "--details also shows the layouts on h100-sxm" in out
    every = answered("plan", *QWEN, "--gpu", "h100,h200", "--details")
    assert "memory of one GPU: h100-sxm" in every
    assert "memory of one GPU: h200" in every
    assert "CUDA context, NCCL" in every


def test_a_kind_that_does_not_do_is_named_among_those_that_do() -> None:
    out = answered("plan", *QWEN, "--gpu", "h100,h200", "--gpus", "8")
    assert first_lines(out)["not h100-sxm"].startswith("does not fit: ")
    row = next(line for line in out.splitlines() if line.startswith("h100-sxm"))
    assert row.split("  ")[0] == "h100-sxm"
    assert "does not fit" in row


# --- objectives


def best_of(*arguments: str) -> tuple[str, dict[str, Any]]:
    report = planned("plan", *arguments)
    plan = report["plans"][report["best"]]
    return plan["gpu"], plan["choices"][0]


@pytest.mark.parametrize(("price", "best"), [("h100=1,h200=100", "h100-sxm"), ("h100=100,h200=1", "h200")])
def test_the_cheapest_is_the_one_with_the_lower_price(price: str, best: str) -> None:
    gpu, choice = best_of(*QWEN, "--gpu", "h100,h200", "--price", price, "--objective", "cost")
    assert gpu == best
    assert choice["cost_per_hour"] == choice["gpus"] * 1
    out = answered("plan", *QWEN, "--gpu", "h100,h200", "--price", price, "--objective", "cost")
    said = first_lines(out)
    assert said["cheapest"].startswith(f"{choice['gpus']} x {best}")
    assert said["cost"].startswith(f"{choice['gpus']} per hour, ")


def test_the_cost_of_a_million_tokens_is_the_price_over_the_tokens() -> None:
    _, choice = best_of(*QWEN, "--gpu", "h200", "--price", "h200=3.60")
    # 3.60 per GPU and hour are 0.001 a second.
    assert choice["cost_per_million_tokens"] == pytest.approx(0.001 / choice["tokens_per_s_per_gpu"] * 10**6)


def test_each_objective_is_honoured_and_named() -> None:
    asked = ("llama-3.1-70b", "--gpu", "h200", "-b", "16", "-s", "4K", "--gpus", "8")
    _, fewest = best_of(*asked)
    _, quick = best_of(*asked, "--objective", "tpot")
    _, busy = best_of(*asked, "--objective", "throughput")
    assert quick["speed"]["tpot_s"] < fewest["speed"]["tpot_s"]
    assert quick["gpus"] > fewest["gpus"]
    assert busy["tokens_per_s_per_gpu"] >= max(quick["tokens_per_s_per_gpu"], fewest["tokens_per_s_per_gpu"])
    for objective, label in {"tpot": "lowest TPOT", "throughput": "most per GPU", "gpus": "fewest"}.items():
        assert label in first_lines(answered("plan", *asked, "--objective", objective))


# --- fronts


def test_a_front_holds_what_nothing_beats() -> None:
    ran = kvcalc("plan", *SEVERAL, "--gpu", "h100,h200", "--frontier", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    per_user, per_gpu = ([float(row[f"throughput_per_{who}_bound [tokens/s]"]) for row in rows]
                         for who in ("user", "gpu"))  # fmt: skip
    assert {row["gpu"] for row in rows} == {"h100-sxm", "h200"}
    for i, row in enumerate(rows):
        assert per_user[i] == pytest.approx(1 / float(row["tpot_bound [s]"]))
        assert per_gpu[i] * int(row["gpus"]) == pytest.approx(per_user[i] * int(row["batch_size"]))
        for j, other in enumerate(rows):
            if i != j and row["gpu"] == other["gpu"]:
                assert per_user[i] > per_user[j] or per_gpu[i] > per_gpu[j]
    assert {row["batch_size"] for row in rows if row["gpu"] == "h200"} != {"64"}


def test_fronts_are_shown_where_asked_for() -> None:
    out = answered("plan", *SEVERAL, "--gpu", "h200", "--frontier", "--tpot", "5ms")
    assert "front at 64 sequences" in out
    table = out.split("front over all batch sizes")[1].split("\n\n")[0]
    assert " yes" in table
    assert " no" in table
    assert "front" not in answered("plan", *SEVERAL, "--gpu", "h200")
    assert planned("plan", *SEVERAL, "--gpu", "h200")["plans"][0]["frontier"] == []


def test_a_picture_is_drawn_beside_the_answer(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "front.svg"
    assert answered("plan", *SEVERAL, "--gpu", "h200", "-q", "--plot", str(picture)) == "1\n"
    assert picture.read_text("utf-8").startswith("<?xml")


def test_a_picture_that_cannot_be_is_refused_before_the_search() -> None:
    assert "no picture's name" in refused("plan", "deepseek-v3", "--gpu", "h100", "--plot", "front.txt")


# --- for programs


def test_csv_holds_every_choice_with_bare_numbers() -> None:
    ran = answered("plan", *QWEN, "--gpu", "h100,h200,l4", "--gpus", "16", "--price", "h200=2.5", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(ran)))
    report = planned("plan", *QWEN, "--gpu", "h100,h200,l4", "--gpus", "16")
    assert len(rows) == sum(max(1, len(plan["choices"])) for plan in report["plans"])
    assert [row["fits"] for row in rows if row["gpu"] == "l4"] == ["false"]
    for row in rows:
        if row["fits"] == "true":
            terms = [int(row[f"{name} [B]"]) for name in ("reserve", "overhead", "weights", "cache", "free")]
            memory = next(plan["gpu_memory_bytes"] for plan in report["plans"] if plan["gpu"] == row["gpu"])
            assert sum(terms) == memory
            assert float(row["tpot_bound [s]"]) > 0
    assert {row["cost [per hour]"] for row in rows if row["gpu"] == "h100-sxm"} == {""}


def test_markdown_fits_a_comment() -> None:
    ran = answered("plan", *QWEN, "--gpu", "h100,h200", "--details", "-o", "markdown")
    assert len(ran) < 65_536  # GitHub's limit
    assert ran.startswith("### qwen-72b in vllm")
    assert "- **fewest** 7 x h200" in ran or "- **fewest** 8 x h200" in ran
    for block in ran.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_nothing_is_cropped_or_coloured_on_a_pipe() -> None:
    narrow = kvcalc("plan", *QWEN, "--gpu", "h100,h200", COLUMNS="40")
    assert narrow == kvcalc("plan", *QWEN, "--gpu", "h100,h200", COLUMNS="200")
    assert "\x1b" not in narrow.out
    assert narrow.err == ""


def test_quiet_prints_one_number() -> None:
    assert answered("plan", *SMALL, "-b", "64", "-s", "8K", "-q") == "1\n"
    none = kvcalc("plan", *QWEN, "--gpu", "h100", "--gpus", "8", "-q")
    assert (none.code, none.out) == (1, "")
    assert "KV506 qwen-72b does not fit on up to 8 x h100-sxm" in none.err
    assert answered("fit", "qwen-72b", "--gpu", "h100", "-s", "8K", "-q", code=1) == "0\n"


# --- a bar on a terminal


SEARCH = (
    "import sys, kvcalc.render.progress as p; p.PATIENCE_S = 0.0\n"
    "sys.argv = ['kvcalc', 'plan', 'qwen3-8b', '--gpu', 'h200', '-b', '64', '-s', '8K', '--gpus', '8', '-q']\n"
    "from kvcalc.cli import run\n"
    "run()\n"
)


def test_a_bar_is_drawn_on_a_terminal_and_never_in_the_answer() -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    mine, theirs = pty.openpty()
    ran = subprocess.run([sys.executable, "-c", SEARCH], stdout=subprocess.PIPE, stderr=theirs, check=False,
                         env={**os.environ, "TERM": "xterm"})  # fmt: skip
    os.close(theirs)
    drawn = os.read(mine, 65536).decode()
    os.close(mine)
    assert (ran.returncode, ran.stdout) == (0, b"1\n")
    assert "GPUs" in drawn


def test_no_bar_is_drawn_on_a_pipe() -> None:
    ran = subprocess.run([sys.executable, "-c", SEARCH], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"1\n", b"")
