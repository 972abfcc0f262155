"""kvcalc plan and fit: what they say first, their options, plan files, exit codes, and what is refused."""

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
from command_line import Ran, kvcalc, refused

from kvcalc.cli.plan_options import FIT_OPTIONS, OPTIONS

QWEN = ("qwen-72b", "-b", "8", "-s", "32K")
SMALL = ("qwen3-8b", "--gpu", "h200", "--gpus", "8")
PLAN = "model: qwen3-8b\ngpu: h200\ngpus: 8\nbatch_size: 64\nseq_len: 8K\n"
CACHE, WEIGHTS = 2 * 80 * 64 * 128 * 2 * 32768 * 8, 72_287_920_128 * 2
"""Of Qwen-72B: K and V of 80 layers x 64 heads x 128 x 2 B x 8 sequences; its parameters in bf16."""


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


# --- every option


PLAIN = ("qwen3-8b", "--gpu", "h200", "-b", "16", "-s", "8K", "--gpus", "8")
CSV = "isl,osl\n1000,100\n3000,300\n"


def choice(report: dict[str, Any]) -> Any:
    return report["plans"][0]["choices"][0]


def term(report: dict[str, Any], name: str) -> int:
    return next(int(each["bytes"]) for each in choice(report)["ledger"]["terms"] if each["name"] == name)


EVERY: dict[str, tuple[tuple[str, ...], Any, Any]] = {
    "gpu": (("qwen3-8b", "--gpu", "l40s", "-s", "8K"), lambda r: r["plans"][0]["gpu"], "l40s"),
    "gpus": ((*PLAIN[:3], "--max-gpus", "4"), lambda r: r["max_gpus"], 4),
    "node_size": ((*PLAIN, "--node-size", "4"), lambda r: r["plans"][0]["node_size"], 4),
    "node_link": ((*PLAIN, "--node-link", "25GB/s"), lambda r: "25 GB/s" in " ".join(r["assumptions"]), True),
    "batch_size": ((*PLAIN[:3], "--concurrency", "7"), lambda r: r["batch_size"], 7),
    "seq_len": ((*PLAIN[:3], "--seq-len", "2k"), lambda r: r["seq_len"], 2000),
    "encoder_len": (("t5-11b", "--gpu", "h200", "-s", "512", "--encoder-len", "100"),
                    # 24 layers x (100 encoder rows + 512 rows) x 128 heads x 128 x 2 (K, V) x 2 B
                    lambda r: r["cache_bytes"], 24 * (100 + 512) * 128 * 128 * 2 * 2),
    "rate": ((*PLAIN[:3], "--rate", "2.5", "--isl", "1000", "--osl", "100"), lambda r: r["rate"], 2.5),
    "isl": ((*PLAIN[:3], "--isl", "1000", "--osl", "100"), lambda r: (r["isl"], r["seq_len"]), (1000, 1100)),
    "osl": ((*PLAIN[:3], "--isl", "1000", "--osl", "100"), lambda r: (r["osl"], r["seq_len"]), (100, 1100)),
    "lengths": ((*PLAIN[:3], "--lengths", "trace.csv"), lambda r: (r["requests"], r["seq_len"], r["isl"]),
                (2, 3300, 2000)),
    # Qwen3-8B: K and V of 36 layers x 8 heads x 128 x 1 B x 16 x 8,192 tokens
    "kv_cache_dtype": ((*PLAIN, "--kv-cache-dtype", "fp8"), lambda r: r["cache_bytes"], 2 * 36 * 8 * 128 * 16 * 8192),
    "weight_dtype": ((*PLAIN, "--weight-dtype", "fp8"), lambda r: r["weight_format"][:3], "fp8"),
    "tpot": ((*PLAIN, "--tpot", "50ms"), lambda r: r["tpot_s"], 0.05),
    "ttft": ((*PLAIN[:3], "--isl", "1000", "--osl", "9", "--ttft", "1.5s"), lambda r: r["ttft_s"], 1.5),
    "objective": ((*PLAIN, "--objective", "tpot"), lambda r: r["objective"], "tpot"),
    "prices": ((*PLAIN, "--price", "h200=2.5"), lambda r: choice(r)["cost_per_hour"], 2.5),
    "calibration": ((*PLAIN, "--calibration", "calibration.json"),
                    lambda r: "published peaks" in " ".join(r["assumptions"]), False),
    "engine": ((*PLAIN, "--engine", "sglang"), lambda r: r["engine"], "sglang"),
    # A null block of 128 tokens: K and V of 36 layers x 8 heads x 128 x 2 B
    "settings": ((*PLAIN, "--set", "block_size=128"), lambda r: term(r, "null block"), 128 * 2 * 36 * 8 * 128 * 2),
    "tensor_parallel_size": ((*PLAIN, "-tp", "4"), lambda r: choice(r)["layout"]["tensor"], 4),
    "pipeline_parallel_size": ((*PLAIN, "-pp", "3"), lambda r: choice(r)["layout"]["pipeline"], 3),
    "data_parallel_size": ((*PLAIN, "-dp", "5"), lambda r: choice(r)["layout"]["data"], 5),
    "decode_context_parallel_size": (("deepseek-v3", "--gpu", "h200", "-s", "8K", "--gpus", "8", "-tp", "8", "-dcp",
                                      "2"), lambda r: choice(r)["layout"]["decode_context"], 2),
    "enable_expert_parallel": (("deepseek-v3", "--gpu", "h200", "-s", "8K", "--gpus", "8", "-ep"),
                               lambda r: choice(r)["layout"]["expert_parallel"], True),
    "tensor_across_nodes": (("qwen-72b", "--gpu", "h200", "-s", "8K", "--gpus", "16", "--node-size", "1",
                             "--tensor-across-nodes", "--objective", "tpot"),
                            lambda r: choice(r)["layout"]["tensor"] > 1, True),
    # 10 % of 150,109,880,320 B are kept back.
    "gpu_memory_utilization": ((*PLAIN, "--gpu-memory-utilization", "0.9"), lambda r: term(r, "reserve"),
                               15_010_988_032),
    "overheads": ((*PLAIN, "--overhead", "activation=1.5GiB,non_torch=1GiB"),
                  lambda r: (term(r, "activation"), term(r, "non_torch")), (3 * 2**29, 2**30)),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_an_option_does_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, read, expected = EVERY[name]
    (tmp_path / "trace.csv").write_text(CSV)
    results = Path(__file__).parents[2] / "kernels_ref" / "results" / "h200-2026-11-27.json"
    (tmp_path / "calibration.json").write_bytes(results.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert read(planned("plan", *arguments)) == expected


def test_every_option_is_tried() -> None:
    assert set(EVERY) == set(OPTIONS)


# --- plan files


def test_a_plan_on_standard_input_is_the_same_flags() -> None:
    flags = kvcalc_json("plan", "qwen3-8b", "--gpu", "h200", "--gpus", "8", "-b", "64", "-s", "8K")
    assert kvcalc_json("plan", "-f", "-", stdin=PLAN.encode()) == flags


def test_a_flag_takes_the_place_of_what_answers_the_same_question(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("model: qwen3-8b\ngpu: [h200, h100]\nrate: 2\nisl: 1000\nosl: 100\n")
    report = planned("plan", "-f", str(path), "-b", "4", "--gpu", "l40s")
    assert (report["batch_size"], report["rate"], [plan["gpu"] for plan in report["plans"]]) == (4, None, ["l40s"])
    path.write_text(PLAN)
    report = planned("plan", "-f", str(path), "--rate", "1", "--isl", "100", "--osl", "10", "qwen3-0.6b")
    assert (report["batch_size"], report["rate"], report["model"]) == (None, 1.0, "qwen3-0.6b")


def test_prices_and_speeds_of_a_file_are_kept_unless_a_flag_names_them(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + "prices: {h200: 2, h100: 1}\nslo: {tpot: 50ms}\nisl: 1000\n")
    report = planned("plan", "-f", str(path), "--price", "h200=3", "--ttft", "10s")
    assert choice(report)["cost_per_hour"] == 3
    assert (report["tpot_s"], report["ttft_s"]) == (0.05, 10.0)


@pytest.mark.parametrize(
    ("expect", "code", "said"),
    [("{gpus: 1}", 0, ""), ("{gpus: 2}", 1, "KV508 qwen3-8b takes 1 x h200"), ("{fits: false}", 1, "expected not to")],
)
def test_a_file_is_held_to_what_it_expects(tmp_path: Path, expect: str, code: int, said: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"{PLAN}expect: {expect}\n")
    ran = kvcalc("plan", "-f", str(path), "-q")
    assert (ran.code, ran.out) == (code, "1\n")
    assert said in ran.err
    assert (f"{path}:6:" in ran.err) == bool(said)
    assert kvcalc("check", str(path)).code == code


def test_a_plan_meant_not_to_fit_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("model: qwen-72b\ngpu: h100\ngpus: 8\nbatch_size: 8\nseq_len: 32K\nexpect: {fits: false}\n")
    assert kvcalc("plan", "-f", str(path), "-q") == Ran(0, "", "")


def test_who_changes_the_question_is_told_that_the_expectation_goes(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"{PLAN}expect: {{gpus: 2}}\n")
    ran = kvcalc("plan", "-f", str(path), "-q", "-b", "8")
    assert (ran.code, ran.out) == (0, "1\n")
    assert "expect" in ran.err
    assert "expect" not in kvcalc("plan", "-f", str(path), "-q").err.split("KV508")[0]


def test_the_shown_plan_file_holds() -> None:
    path = Path(__file__).parents[2] / "docs" / "examples" / "plan.yaml"
    assert kvcalc("plan", "-f", str(path), "-q").code == 0
    assert kvcalc("check", str(path)).code == 0


# --- traces


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.0,{0},{1}\n2024-05-10,{2},{3}\n"),
        ("burst.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                      "5,ChatGPT,{0},{1},9,Conversation log\n45,GPT-4,{2},{3},9,API log\n"),
        ("mooncake.jsonl", '{{"timestamp": 0, "input_length": {0}, "output_length": {1}, "hash_ids": [0]}}\n'
                           '{{"timestamp": 9, "input_length": {2}, "output_length": {3}, "hash_ids": [1, 2]}}\n'),
        ("ours.csv", "isl,osl\n{0},{1}\n{2},{3}\n"),
    ],
)  # fmt: skip
def test_a_trace_of_any_published_kind_is_read(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text.format(1000, 100, 3000, 300))
    report = planned("plan", "qwen3-8b", "--gpu", "h200", "--lengths", str(path), "-b", "8")
    assert (report["requests"], report["seq_len"], report["isl"], report["osl"]) == (2, 3300, 2000, 200)
    assert [at["name"] for at in report["plans"][0]["lengths"]] == ["p50", "p90", "p99", "longest"]


def test_the_lengths_of_a_trace_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(CSV)
    out = answered("plan", "qwen3-8b", "--gpu", "h200", "--lengths", str(path), "-b", "8")
    assert "8 sequences x up to 3,300 tokens (2 requests of a trace)" in out
    table = out.split("if every sequence were as long as this of the trace\n")[1].split("\n\n")[0]
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [
        ["p50", "1,100"], ["p90", "3,300"], ["p99", "3,300"], ["longest", "3,300"],
    ]  # fmt: skip


# --- what is refused

WRONG = {
    "no model": ((), "no MODEL is named"),
    "no GPU": (("qwen3-8b",), "no GPU is named"),
    "commas alone": (("qwen3-8b", "--gpu", ","), "no GPU is named"),
    "unknown GPU": (("qwen3-8b", "--gpu", "h200,h300"), "did you mean"),
    "no duration": (("qwen3-8b", "--gpu", "h200", "--tpot", "50"), "write it like 50ms"),
    "no time": (("qwen3-8b", "--gpu", "h200", "--tpot", "0ms"), "not more than 0"),
    "no price": (("qwen3-8b", "--gpu", "h200", "--price", "h200=0"), "above 0"),
    "decimal comma": (("qwen3-8b", "--gpu", "h200", "--price", "h200=2,50"), "no NAME=VALUE"),
    "cost without price": (("qwen3-8b", "--gpu", "h200", "--objective", "cost"), "needs prices"),
    "price of another": (("qwen3-8b", "--gpu", "h200", "--objective", "cost", "--price", "h100=1"), "no price of h200"),
    "objective": (("qwen3-8b", "--gpu", "h200", "--objective", "fast"), "one of gpus, tpot, throughput, cost"),
    "tp": (("qwen3-8b", "--gpu", "h200", "-tp", "3"), "nearest -tp that works"),
    "rate and batch": (("qwen3-8b", "--gpu", "h200", "-b", "1", "--rate", "1", "--isl", "9", "--osl", "9"), "give one"),
    "rate alone": (("qwen3-8b", "--gpu", "h200", "--rate", "1"), "isl and osl"),
    "ttft alone": (("qwen3-8b", "--gpu", "h200", "--ttft", "1s"), "give isl"),
    "overhead": (("qwen3-8b", "--gpu", "h200", "--overhead", "lunch=1GiB"), "no overhead 'lunch'"),
    "trace": (("qwen3-8b", "--gpu", "h200", "--lengths", "nowhere.csv"), "cannot be read"),
    "plan file": (("-f", "nowhere.yaml"), "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_told_what_works(name: str) -> None:
    arguments, said = WRONG[name]
    assert said in refused("plan", *arguments)


@pytest.mark.parametrize("name", ["no model", "no GPU", "commas alone", "tp", "overhead", "plan file"])
def test_fit_is_as_strict(name: str) -> None:
    arguments, said = WRONG[name]
    assert said in refused("fit", *arguments)


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
