"""The answers at the tutorial's end, which no output block holds: each from the command that the question names."""

from __future__ import annotations

from pathlib import Path

import kvcalc

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text("utf-8")
ANSWERS = " ".join(TEXT[TEXT.index("Answers: (1)") :].split())


def answer(number: int) -> str:
    return ANSWERS.split(f"({number}) ")[1].split(f"({number + 1}) ")[0]


def milliseconds(batch: int, dtype: str) -> str:
    report = kvcalc.roofline(
        "llama-3.1-70b", "h200", batch_size=batch, seq_len="8K", kv_cache_dtype=dtype, tensor_parallel_size=8
    )
    return f"{report.time.seconds * 1e3:.2f}"


def test_a_token_and_a_conversation() -> None:
    assert kvcalc.size("llama-3.1-8b", seq_len=1).logical_bytes == 131_072 == 2 * 32 * 8 * 128 * 2
    assert kvcalc.size("llama-3.1-8b", seq_len="128K").logical_bytes == 16 * 2**30
    assert answer(1).startswith("2 x 32 x 8 x 128 x 2 B = 131,072 B, and 16 GiB")


def test_a_window_that_has_filled() -> None:
    (found,) = kvcalc.size("mistral-7b-v0.1", seq_len="32K").models
    assert (found.growth.step_bytes, found.growth.from_tokens, found.growth.fixed_bytes) == (0, 4096, 512 * 2**20)
    assert answer(2).startswith("From 4,096 tokens on, 512 MiB")


def test_places_that_change() -> None:
    models = ("gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v3")
    short, long = (
        min(kvcalc.compare(*models, seq_len=length).rows, key=lambda row: row.footprint.logical_bytes).footprint
        for length in ("1K", "128K")
    )
    assert (short.model, long.model) == ("deepseek-v3", "qwen3-next-80b-a3b")
    assert f"{long.growth.fixed_bytes / 2**20:.1f} MiB" in answer(3)
    # 61 latents of 512 + 64 elements; K and V of 12 layers x 2 heads x 256: nearly three times as much
    assert (short.growth.step_bytes, long.growth.step_bytes) == (61 * 576 * 2, 2 * 12 * 2 * 256 * 2)


def test_half_the_cache_is_not_half_the_time() -> None:
    for batch in (1, 64):
        before, after = (milliseconds(batch, dtype) for dtype in ("bf16", "fp8"))
        assert f"from {before} to {after} ms" in answer(4)


def test_gpus_for_one_short_conversation() -> None:
    report = kvcalc.plan("deepseek-v3", "h200", batch_size=1, seq_len="4K", alternatives=False)
    assert report.plans[0].gpus == 6
    assert f"{report.weight_bytes / 2**30:.1f} GiB of weights" in answer(5)
    assert f"the cache is {kvcalc.size('deepseek-v3', seq_len='4K').logical_bytes / 2**20:.1f} MiB" in answer(5)
    most = kvcalc.fit("deepseek-v3", "h200", gpus=8, seq_len="4K").lines[0].max_batch_size
    assert f"Eight hold {most:,} such conversations" in answer(5)
