"""Logs of real servers (as published; see each source) and hostile ones."""

from __future__ import annotations

import json
import random
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import kvcalc

from kvcalc.attention.base import Attention
from kvcalc.attention.full import Full
from kvcalc.attention.gated_delta_net import GatedDeltaNet
from kvcalc.attention.sliding import Sliding
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import find_engine
from kvcalc.engines.base import Parallel
from kvcalc.problems import KvcalcError
from kvcalc.reconcile import ReconcileReport, model_in, reconcile
from kvcalc.reconcile.logs import MAX_LINE, parse_log
from kvcalc.spec.model import LayerEntry, ModelSpec


def model(kinds: dict[str, Attention], order: str, context: int = 131_072) -> ModelSpec:
    layers = tuple(LayerEntry(attention=name) for name in order)
    return ModelSpec(name="m", max_position_embeddings=context, attention=kinds, layers=layers)  # type: ignore[arg-type]


def full(kv: int, dim: int = 128) -> Full:
    return Full(num_attention_heads=kv, num_key_value_heads=kv, head_dim=dim)


def sliding(window: int, kv: int, dim: int = 128) -> Sliding:
    return Sliding(num_attention_heads=kv, num_key_value_heads=kv, head_dim=dim, sliding_window=window)


GEMMA3 = model({"f": full(16), "s": sliding(1024, 16)}, "".join("f" if i % 6 == 5 else "s" for i in range(62)))
GPT_OSS = model({"f": full(8, 64), "s": sliding(128, 8, 64)}, "sf" * 12)
QWEN3_NEXT = model(
    {
        "a": GatedDeltaNet(
            linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128,
            linear_conv_kernel_dim=4,
        ),
        "f": full(2, 256),
    },
    "aaaf" * 12,
)  # fmt: skip

GEMMA3_LOG = b"""
INFO Initializing a V1 LLM engine (v0.13.0) with config: model='google/gemma-3-27b-it', dtype=torch.bfloat16, max_seq_len=4096, tensor_parallel_size=1, kv_cache_dtype=auto
WARNING [kv_cache_utils.py:971] Add 8 padding layers, may waste at most 15.38% KV cache memory
INFO [gpu_worker.py:298] Available KV cache memory: 109.86 GiB
INFO [kv_cache_utils.py:1087] GPU KV cache size: 205,696 tokens
INFO [kv_cache_utils.py:1091] Maximum concurrency for 4,096 tokens per request: 50.05x
"""  # noqa: E501
"""Figures of a server on an MI300X-class GPU (stored copy 9297248278); the first line is written after vLLM 0.13's."""

QWEN3_NEXT_LOG = b"""
INFO Initializing a V1 LLM engine (v0.13.0) with config: model='Qwen/Qwen3-Next-80B-A3B-Instruct', max_seq_len=32768, tensor_parallel_size=2, kv_cache_dtype=fp8
INFO Setting attention block size to 1072 tokens to ensure that attention page size is >= mamba page size.
INFO Available KV cache memory: 17.58 GiB
INFO GPU KV cache size: 767,552 tokens
INFO Maximum concurrency for 32,768 tokens per request: 84.29x
"""  # noqa: E501
"""Figures of 2 x L40S (stored copy 33676930891)."""

V0_LOG = b"""
INFO Memory profiling results: total_gpu_memory=23.58GiB non_torch_memory=0.35GiB kv_cache_size=3.81GiB gpu_memory_utilization=0.90
INFO # GPU blocks: 1952, # CPU blocks: 2048
INFO Maximum concurrency for 20000 tokens per request: 1.56x
"""  # noqa: E501
"""vllm issue 10517: Llama-3.1-8B on an RTX 3090."""

LLAMACPP_LOG = b"""
llama_context: n_ctx         = 131072
llama_context: n_ubatch      = 512
llama_kv_cache_iswa: creating non-SWA KV cache, size = 131072 cells
llama_kv_cache: size = 3072.00 MiB (131072 cells,  12 layers,  1/1 seqs), K (f16): 1536.00 MiB, V (f16): 1536.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 768 cells
llama_kv_cache: size =   18.00 MiB (   768 cells,  12 layers,  1/1 seqs), K (f16):    9.00 MiB, V (f16):    9.00 MiB
"""
"""Figures of gpt-oss-20b on an Apple M5 (stored copy 32713047379)."""

IK_LOG = b"""
llama_new_context_with_model: n_ctx      = 16896
llama_new_context_with_model: KV self size  = 2244.00 MiB, K (q8_0): 1122.00 MiB, V (q8_0): 1122.00 MiB
"""
"""ik_llama.cpp issue 503: Qwen3-32B."""

SGLANG_LOG = b"""
server_args=ServerArgs(model_path='deepseek-ai/DeepSeek-V3', tp_size=4, kv_cache_dtype='fp8_e4m3', page_size=1)
KV Cache is allocated. #tokens: 19644177, K size: 14.05 GB, V size: 14.05 GB
"""
"""Figures of the attention layers of Nemotron-H VL, 0.5.21 (stored copy 70117488909)."""

DENSE_8B, DENSE_32B = model({"f": full(8)}, "f" * 32), model({"f": full(8)}, "f" * 64)
AGREEING = {
    "gemma-3": (GEMMA3_LOG, GEMMA3),
    "qwen3-next": (QWEN3_NEXT_LOG, QWEN3_NEXT),
    "v0": (V0_LOG, DENSE_8B),
    "llama.cpp": (LLAMACPP_LOG, GPT_OSS),
    "ik_llama.cpp": (IK_LOG, DENSE_32B),
    "sglang": (SGLANG_LOG, model({"f": full(2)}, "f" * 6)),
}


def wrong(report: ReconcileReport) -> list[str]:
    return [f"{c.name}: {c.predicted} against {c.printed}" for c in report.comparisons if not c.agrees]


@pytest.mark.parametrize("name", sorted(AGREEING))
def test_a_true_log_agrees(name: str) -> None:
    log, spec = AGREEING[name]
    report = reconcile(log, spec)
    assert report.comparisons
    assert (wrong(report), report.agrees, report.explanations) == ([], True, ())


EXPLAINED = {
    "another dtype": (QWEN3_NEXT_LOG.replace(b"kv_cache_dtype=fp8", b""), QWEN3_NEXT, "--kv-cache-dtype fp8"),
    "other ranks": (QWEN3_NEXT_LOG.replace(b"tensor_parallel_size=2", b""), QWEN3_NEXT, "-tp 2"),
    "tensor parallel": (SGLANG_LOG.replace(b"tp_size=4", b"tp_size=1"), model({"f": full(2)}, "f" * 6), "-tp 2"),
    "half the cache": (IK_LOG.replace(b"q8_0", b"f16"), DENSE_32B, "--kv-cache-dtype q8_0"),
    "all cells for windows": (
        LLAMACPP_LOG.replace(b"18.00 MiB (   768", b"3072.00 MiB (131072").replace(b"    9.00", b" 1536.00"),
        GPT_OSS,
        "--swa-full True",
    ),
}


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_a_difference_is_explained(name: str) -> None:
    log, spec, change = EXPLAINED[name]
    report = reconcile(log, spec)
    assert not report.agrees
    assert change in [e.change for e in report.explanations]


def test_windows_that_are_charged_in_full() -> None:
    """The pool of a server without the hybrid manager, as the engine itself would print it."""
    engine = find_engine("vllm@0.13.0")
    off = engine.configure(hybrid_kv_cache_manager=False, max_model_len=4096)
    assert engine.capacity is not None
    lines = engine.capacity(GEMMA3, 50 * 2**30, off, parse_kv_cache_dtype("bf16")).log_lines
    report = reconcile("\n".join(("LLM engine (v0.13.0)", *lines)).encode(), GEMMA3)
    assert [e.change for e in report.explanations] == ["--disable-hybrid-kv-cache-manager"]


@pytest.mark.parametrize("version", ["0.7.3", "0.13.0", "0.20.0", "0.21.0", "0.33.0"])
@pytest.mark.parametrize("spec", [DENSE_8B, GEMMA3, QWEN3_NEXT, GPT_OSS], ids=["8b", "gemma", "qwen", "gpt-oss"])
def test_the_engines_own_lines_agree(version: str, spec: ModelSpec) -> None:
    """Whatever is predicted for a budget agrees with itself, in the wording of that version."""
    engine = find_engine(f"vllm@{version}")
    assert engine.capacity is not None
    configured = engine.configure(parallel=Parallel(tensor=2), max_model_len=32_768)
    lines = engine.capacity(spec, 37 * 2**30 + 12_345, configured, parse_kv_cache_dtype("bf16")).log_lines
    log = "\n".join((f"Initializing a V1 LLM engine (v{version}) with config: tensor_parallel_size=2,", *lines))
    report = reconcile(log.encode(), spec)
    assert (wrong(report), report.agrees) == ([], True)


def test_the_command_takes_any_model(tmp_path: Path) -> None:
    """`--model` as everywhere: a config.json as well, though only shipped models are known by their names."""
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 8192, "vocab_size": 100,
              "intermediate_size": 512, "tie_word_embeddings": False}  # fmt: skip
    model, log = tmp_path / "config.json", tmp_path / "server.log"
    model.write_text(json.dumps(config), "utf-8")
    # 2 layers x K and V x 4 heads x 64 x 2 B = 2,048 B a token, 32,768 B a block of 16: 32,768 blocks in 1 GiB
    log.write_text("Available KV cache memory: 1.00 GiB\n# GPU blocks: 32768\n", "utf-8")
    ran = kvcalc("reconcile", str(log), "--model", str(model), "-o", "json")
    assert (ran.code, json.loads(ran.out)["agrees"]) == (0, True)


def test_settings_go_by_the_names_of_their_flags(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(GEMMA3_LOG)
    shown = kvcalc("reconcile", str(log), "-dcp", "1").out
    assert re.search(r"^tensor-parallel-size +1 +\(log\)$", shown, flags=re.MULTILINE)
    assert re.search(r"^decode-context-parallel-size +1 +\(option\)$", shown, flags=re.MULTILINE)


def test_the_log_names_its_model() -> None:
    assert model_in(GEMMA3_LOG) == "google/gemma-3-27b-it"
    assert model_in(SGLANG_LOG) == "deepseek-ai/DeepSeek-V3"
    assert model_in(b"nothing") is None


@pytest.mark.parametrize(
    "log",
    [b"", b"\x00\xff" * 1000, b"hello\nworld", b"Available KV cache memory: 10 GiB", b"GPU KV cache size: 1,2 tokens"],
    ids=["empty", "binary", "chat", "memory alone", "no number"],
)
def test_a_log_without_figures_is_not_understood(log: bytes) -> None:
    with pytest.raises(KvcalcError) as caught:
        reconcile(log, DENSE_8B)
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("KV905", "log")
    assert problem.help is not None


HOSTILE = {
    "one endless line": b"KV cache size: " * 2_000_000,
    "endless digits": b"Available KV cache memory: " + b"9" * 5_000_000 + b" GiB",
    "huge figures": b"Available KV cache memory: 999999999999.99 GiB\nGPU KV cache size: 999,999,999,999,999 tokens",
    "nothing but marks": b"llama_kv_cache size = MiB ( cells, layers,\n" * 200_000,
    "zero ranks": b"LLM engine (v0.13.0) tensor_parallel_size=0\nGPU KV cache size: 16 tokens",
    "zero memory": b"Available KV cache memory: 0.00 GiB\nGPU KV cache size: 0 tokens",
    "zero context": b"# GPU blocks: 0\nMaximum concurrency for 0 tokens per request: 0.00x",
    "endless context": b"n_ctx = 999999999999\nKV self size = 1.00 MiB, K (f16): 1 MiB, V (f16): 1 MiB",
    "zero cells": b"n_ctx = 0\nn_seq_max = 0\nKV self size = 0.00 MiB",
    "many ranks": b"LLM engine (v9999.9.9) pipeline_parallel_size=999999\n# GPU blocks: 3",
    "zero block": b"kv cache block size to 0\nGPU KV cache size: 16 tokens\nAvailable KV cache memory: 1.00 GiB",
    "zero batch": b"max_num_batched_tokens=0\nGPU KV cache size: 16 tokens\nAvailable KV cache memory: 1.00 GiB",
    "zero page": b"server_args= page_size=0 tp_size=0\nKV Cache is allocated. #tokens: 0, K size: 0 GB, V size: 0 GB",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_log_ends_in_an_answer_or_a_problem(name: str) -> None:
    started = time.monotonic()
    with suppress(KvcalcError):
        assert reconcile(HOSTILE[name], GEMMA3).comparisons
    assert time.monotonic() - started < 20


def test_noise_around_the_figures_changes_nothing() -> None:
    noise = random.Random(7)
    junk = [noise.randbytes(noise.randrange(200)).replace(b"\n", b" ") for _ in range(300)]
    lines = [*junk[:150], *GEMMA3_LOG.split(b"\n"), *junk[150:], b"x" * (2 * MAX_LINE)]
    assert reconcile(b"\n".join(lines), GEMMA3).agrees
    colours = GEMMA3_LOG.replace(b"INFO", b"\x1b[32mINFO\x1b[0m").replace(b"\n", b"\r\n")
    assert reconcile(colours, GEMMA3).agrees


def test_figures_are_bounded() -> None:
    log = parse_log(b"# GPU blocks: 1\n" * 600_000)
    assert log.cut
    assert len(log.facts) <= 20_000
