"""`kvcalc size --engine` and `kvcalc reconcile` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = """
name: small
max_position_embeddings: 4096
attention:
  full: {kind: full, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 64}
  window: {kind: sliding, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 64, sliding_window: 100}
layers:
  - count: 4
    pattern:
      - attention: window
        count: 3
      - attention: full
"""
"""A token costs 2 x 2 x 64 x 2 B = 512 B in each layer; 12 layers with a window, 4 without."""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return str(path)


def kvcalc(*arguments: str, text: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kvcalc", *arguments], input=text, capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_blocks_of_a_window_and_its_causes(small: str) -> None:
    """1000 tokens: 63 blocks of full layers, 8 of each window group at most; 4 layers x 16 x 512 B a block."""
    code, out, _ = kvcalc("size", small, "-s", "1000", "--engine", "vllm", "-o", "json")
    assert code == 0
    (model,) = json.loads(out)["models"]
    found = model["allocation"]
    assert found["logical_bytes"] == 512 * (12 * 100 + 4 * 1000)
    assert found["unit_bytes"] == 4 * 16 * 512
    assert found["units"] == 63 + 3 * 8
    assert found["allocated_bytes"] == (63 + 3 * 8) * 4 * 16 * 512
    assert found["allocated_bytes"] - found["logical_bytes"] == sum(w["bytes"] for w in found["waste"])
    figures = {f["name"]: f["units"] for f in found["figures"]}
    # steady: token 1001 needs a slot; 63 - floor((1000 - 99) / 16) = 7 blocks per window group
    assert figures["steady"] == 63 + 3 * 7
    assert figures["prefill_peak"] == 4 * 63
    assert figures["admission"] == 256 + 3 * 257


def test_quiet_prints_one_integer(small: str) -> None:
    allocated = kvcalc("size", small, "-s", "1000", "--engine", "vllm", "-tp", "2", "-q")
    per_rank = kvcalc("size", small, "-s", "1000", "--engine", "vllm", "-tp", "2", "-q", "--per-rank")
    assert allocated[:2] == (0, f"{87 * 4 * 16 * 512}\n")
    assert per_rank[:2] == (0, f"{87 * 4 * 16 * 256}\n")


def test_sharding_without_an_engine_is_ideal(small: str) -> None:
    code, out, _ = kvcalc("size", small, "-s", "1000", "-tp", "4", "-o", "json")
    found = json.loads(out)["models"][0]["allocation"]
    assert (code, found["engine"], found["ranks"]) == (0, "ideal", 4)
    assert found["per_rank_bytes"] * 2 == found["allocated_bytes"] == found["logical_bytes"]
    assert found["sharding_waste"] == [
        {"cause": "replicas over tensor-parallel ranks", "bytes": found["allocated_bytes"]}
    ]


def test_a_budget_yields_blocks_and_log_lines(small: str) -> None:
    """1 GiB / 32 KiB = 32,768 blocks; a request of 4,096 tokens is charged 256 + 3 x 257."""
    arguments = ("size", small, "-s", "100", "--engine", "vllm@0.13", "--kv-cache-memory-bytes", "1G", "-o", "json")
    code, out, _ = kvcalc(*arguments)
    capacity = json.loads(out)["models"][0]["capacity"]
    assert (code, capacity["units"], capacity["usable_units"]) == (0, 32_768, 32_767)
    assert capacity["tokens"] == 32_768 // 4 * 16
    assert capacity["log_lines"] == [
        "Available KV cache memory: 1.00 GiB",
        "GPU KV cache size: 131,072 tokens",
        f"Maximum concurrency for 4,096 tokens per request: {32_768 / 1027:.2f}x",
    ]


def test_a_gpu_is_cut_into_shares(small: str) -> None:
    arguments = ("--gpu-memory", "80GiB", "--overhead", "weights=16GiB", "--overhead", "activation=1GiB",
                 "--overhead", "non_torch=1GiB", "--overhead", "cuda_graphs=0B")  # fmt: skip
    code, out, _ = kvcalc("size", small, "-s", "100", "--engine", "vllm", *arguments, "-o", "json")
    budget = json.loads(out)["models"][0]["budget"]
    assert code == 0
    assert budget["requested_bytes"] == -(-80 * 2**30 * 92 // 100)
    assert budget["available_bytes"] == budget["requested_bytes"] - 18 * 2**30


def test_a_share_says_what_is_counted_assumed_and_given() -> None:
    """Weights are counted from the spec: it used to say that they were assumed, and seen from X to X."""
    asked = ("size", "qwen3-8b", "-s", "100", "--engine", "vllm", "--gpu-memory", "80GiB")
    terms = {line.split()[1]: line for line in kvcalc(*asked, "--overhead", "activation=1GiB")[1].splitlines()
             if line.startswith("- ")}  # fmt: skip
    assert terms["weights"].endswith("counted: one rank's share of the checkpoint")
    assert "assumed; " in terms["non_torch"]
    assert terms["non_torch"].endswith("give --overhead non_torch=SIZE")
    assert terms["activation"].split() == ["-", "activation", f"{2**30:,}", "B", "=", "1", "GiB"]


@pytest.mark.parametrize("output", ["table", "csv", "markdown"])
def test_every_output_holds_the_allocated_bytes(small: str, output: str) -> None:
    code, out, _ = kvcalc("size", small, "-s", "1000", "--engine", "vllm", "-o", output)
    assert code == 0
    assert str(87 * 4 * 16 * 512) in out.replace(",", "") if output != "csv" else str(87 * 4 * 16 * 512) in out


REFUSED = {
    "an unknown engine": (("--engine", "vlm"), "did you mean vllm"),
    "an unknown version": (("--engine", "vllm@new"), "not a version"),
    "an unknown setting": (("--engine", "vllm", "--set", "blocksize=3"), "block_size"),
    "a setting of another engine": (("--engine", "vllm", "--set", "n_ctx=3"), "has no setting"),
    "heads that do not divide": (("--engine", "vllm", "-tp", "3"), "cannot split 2"),
    "too many stages": (("--engine", "vllm", "-pp", "17"), "16 layers"),
    "a format of another engine": (("--engine", "vllm", "--kv-cache-dtype", "q8_0"), "cannot store q8_0"),
    "a fraction of nothing": (("--engine", "vllm", "--gpu-memory-utilization", "0.9"), "--gpu-memory"),
    "a fraction above one": (
        ("--engine", "vllm", "--gpu-memory", "1GiB", "--gpu-memory-utilization", "9"),
        "at most 1",
    ),
    "a block size without an engine": (("--block-size", "16"), "engine"),
    "an empty block": (("--engine", "vllm", "--set", "block_size=0"), "at least 1"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_wrong_words_are_refused(name: str, small: str) -> None:
    arguments, said = REFUSED[name]
    code, out, err = kvcalc("size", small, "-s", "100", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


LOG = b"""LLM engine (v0.13.0) with config: max_seq_len=4096, tensor_parallel_size=1
Available KV cache memory: 1.00 GiB
GPU KV cache size: 131,072 tokens
Maximum concurrency for 4,096 tokens per request: 31.91x
"""


def test_reconcile_tells_by_its_exit_code(small: str) -> None:
    code, out, _ = kvcalc("reconcile", "-", "--model", small, "-o", "json", text=LOG)
    report = json.loads(out)
    assert (code, report["agrees"], report["engine"]) == (0, True, "vllm")
    code, out, _ = kvcalc("reconcile", "-", "--model", small, "--kv-cache-dtype", "fp8", text=LOG)
    assert code == 1
    assert "DISAGREES" in out
    code, out, err = kvcalc("reconcile", "-", "--model", small, text=b"hello")
    assert (code, out) == (2, "")
    assert "help:" in err


def test_reconcile_names_the_missing_model() -> None:
    code, out, err = kvcalc("reconcile", "-", text=LOG)
    assert (code, out) == (2, "")
    assert "--model" in err


def test_reconcile_of_a_file_that_is_not_there(small: str) -> None:
    code, out, err = kvcalc("reconcile", "no-such.log", "--model", small)
    assert (code, out) == (2, "")
    assert "no-such.log cannot be read" in err


def test_output_does_not_depend_on_the_hash_seed(small: str) -> None:
    def run(seed: str) -> bytes:
        command = [sys.executable, "-m", "kvcalc", "size", small, "-s", "999", "--engine", "vllm", "-o", "json"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(command, capture_output=True, check=True, env=environment).stdout

    assert run("1") == run("2")
