"""kvcalc plan: every option, plan files, traces, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Ran, kvcalc, refused
from plan_commands import PLAN, answered, kvcalc_json, planned

from kvcalc.cli.plan_options import OPTIONS

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
