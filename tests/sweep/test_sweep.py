"""A plane of points is the exact path, point by point."""

from __future__ import annotations

import csv
import io
import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from command_line import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_models import gqa, model, workload

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import footprint
from kvcalc.problems import KvcalcError
from kvcalc.roofline import ceilings, points, step_time
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.sweep import MAX_POINTS, parse_axis, plane, sweep
from kvcalc.traffic import traffic
from kvcalc.weight_traffic import ONE_RANK, Shards
from kvcalc.weights.sharding import WeightSharding

H200 = find_hardware("h200")
LAYOUTS = [
    ONE_RANK,
    Shards(weights=WeightSharding(tensor=8), decode_context=4),
    Shards(weights=WeightSharding(tensor=4, data=3, expert_parallel=True)),
]
MODELS = (
    "qwen-72b", "deepseek-v3.2", "deepseek-v4-pro", "gemma-3n-e4b", "llama-4-scout-17b-16e", "qwen3-next-80b-a3b",
    "whisper-large-v2", "mixtral-8x7b", "jamba-v0.1", "kimi-linear-48b-a3b", "minimax-text-01", "gpt-oss-120b",
)  # fmt: skip


@given(
    name=st.sampled_from(MODELS),
    batches=st.lists(st.integers(1, 5000), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, 10**7), min_size=1, max_size=4),
    dtype=st.sampled_from(["bf16", "fp8", "int4-g32-zp", "fp8_per_token_head"]),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=60, deadline=None)
def test_every_point_is_the_exact_answer(
    name: str, batches: list[int], lengths: list[int], dtype: str, layout: Shards
) -> None:
    spec = shipped_model(name)
    drawn = plane(
        spec, batches, lengths, hardware=H200, formats=parse_kv_cache_dtype(dtype), encoder_len=1500, shards=layout
    )
    block = drawn.block(0, len(batches))
    for row, batch in enumerate(batches):
        for column, tokens in enumerate(lengths):
            asked = workload(tokens, dtype, batch, 1500)
            counted = traffic(spec, asked, shards=layout)
            assert int(block.read_bytes[row, column]) == counted.cache_read_bytes
            assert int(block.flops[row, column]) == counted.flops
            assert int(drawn.weight_read[row]) == counted.weight_read_bytes
            if layout is ONE_RANK:
                assert int(block.cache_bytes[row, column]) == footprint(spec, asked).logical_bytes
            assert block.seconds is not None
            exact = step_time(points(counted, ceilings(H200))).seconds
            assert block.seconds[row, column] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_model_sweeps(name: str) -> None:
    drawn = plane(shipped_model(name), [1, 7], [1, 4097, 100_000], encoder_len=10)
    kept = [footprint(shipped_model(name), workload(n, "bf16", 7, 10)).logical_bytes for n in (1, 4097, 100_000)]
    assert drawn.block(1, 2).cache_bytes[0].tolist() == kept


@pytest.mark.parametrize("tokens", [2**40, 2**55, 2**60])
def test_nothing_wraps(tokens: int) -> None:
    """2^40 tokens x 2^20 sequences pass 2^63 bytes: the plane falls back on Python's integers."""
    spec = model((1, gqa(64, 8)))
    drawn = plane(spec, [1, 2**20, 2**60], [1, tokens])
    assert drawn.kept.dtype == object
    assert drawn.block(0, 3).cache_bytes[2, 1] == 2**60 * tokens * 2 * 8 * 128 * 2
    assert drawn.block(0, 3).flops[2, 1] == 2**60 * tokens * 64 * 4 * 128


def test_the_border_of_int64() -> None:
    """4,096 B a token: 2^47 tokens are 2^59 bytes, the first that go to Python's integers."""
    spec = model((1, gqa(8, 8)))
    assert plane(spec, [1], [2**47 - 1]).kept.dtype == np.int64
    assert plane(spec, [1], [2**47]).kept.dtype == object


def test_blocks_cover_every_batch_once() -> None:
    drawn = plane(model((1, gqa(8, 8))), range(1, 301), range(1, 10_001))
    assert np.concatenate([block.batches for block in drawn.blocks()]).tolist() == list(range(1, 301))
    assert max(block.cache_bytes.size for block in drawn.blocks()) <= 2**20


def test_what_fits() -> None:
    """Llama-3.1-8B in 0.9 of an H200: (0.9 x 150,109,880,320 - 16,060,522,496) / 131,072 = 908,178 tokens."""
    share = Fraction(9, 10)
    left = int(150_109_880_320 * share) - 2 * 8_030_261_248
    most = left // 131_072
    drawn = plane(shipped_model("llama-3.1-8b"), [1, 2], [most // 2, most, most + 1], hardware=H200, memory_share=share)
    fits = drawn.block(0, 2).fits
    assert fits is not None
    assert fits.tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1:256:*2", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ("1K:4K", (1024, 2048, 4096)),
        ("8:32:8", (8, 16, 24, 32)),
        ("8:20:+8", (8, 16)),
        ("3,1,3", (1, 3)),
        ("1:100:*10,50", (1, 10, 50, 100)),
        ("32k", (32000,)),
    ],
)
def test_ranges(text: str, values: tuple[int, ...]) -> None:
    assert parse_axis(text, "--batch-size") == values


@pytest.mark.parametrize("text", ["", "0", "8:1", "1:2:3:4", "1:8:*1", "1:8:0", "x", "1:2G:1", "1:8:-1", "1,,2"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(KvcalcError):
        parse_axis(text, "--batch-size")


@pytest.mark.parametrize("share", ["0", "1.1", "-1", "nan", "inf", "x", "1/2", "1/0", "1e-9999999", "0" * 30])
def test_no_shares_of_the_memory(share: str) -> None:
    """1e-9999999 once took seconds, and then broke."""
    assert "--gpu-memory-utilization is a decimal" in refused("sweep", "qwen-7b", "--gpu-memory-utilization", share)


def test_a_grid_too_large_is_refused() -> None:
    with pytest.raises(KvcalcError, match="at most"):
        sweep([model((1, gqa(8, 8)))], range(1, 40_000), range(1, 40_000))
    assert MAX_POINTS < 39_999**2
    for batches, lengths in (([], [1]), ([1], []), ([0], [1])):
        with pytest.raises(KvcalcError):
            plane(model((1, gqa(8, 8))), batches, lengths)


def test_a_plane_for_each_combination() -> None:
    report = sweep(
        [shipped_model("llama-3.1-8b")], [1, 2], [1024], gpus=[H200, find_hardware("h100-sxm")],
        formats=[parse_kv_cache_dtype("bf16"), parse_kv_cache_dtype("fp8")], shards=LAYOUTS[:2],
    )  # fmt: skip
    assert (len(report.planes), report.points) == (8, 16)
    assert len({(p.gpu, p.kv_cache_dtype, p.shards) for p in report.planes}) == 8


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    from kvcalc.cli.app import run

    monkeypatch.setattr(sys, "argv", ["kvcalc", *words])
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 0
    return capsys.readouterr().out


def test_csv_and_json_say_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("sweep", "llama-3.1-8b", "mixtral-8x7b", "-b", "1,8", "-s", "1K:4K", "--gpu", "h200", "-o")
    lines = list(csv.reader(io.StringIO(command(capsys, monkeypatch, *words, "csv"))))
    report = json.loads(command(capsys, monkeypatch, *words, "json"))
    assert (report["schema_version"], report["report"], len(report["planes"])) == (1, "sweep", 2)
    rows = [(p["model"], *point) for p in report["planes"] for point in p["points"]]
    assert len(lines) == 1 + len(rows) == 13
    for line, row in zip(lines[1:], rows, strict=True):
        assert line[0] == row[0]
        assert [int(cell) for cell in line[4:10]] == list(row[1:7])
        assert [float(cell) for cell in line[10:12]] == list(row[7:9])
        assert line[12] == str(row[9]).lower()
    assert "does not fit" in command(capsys, monkeypatch, *words, "table")


def test_one_point_by_hand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama-3.1-8B, two sequences of 1,024 tokens, no GPU and so no times."""
    kept = 2 * 1024 * 131_072
    weights = 2 * 8_030_261_248 - 128_256 * 4096 * 2 + 2 * 4096 * 2
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336
    flops = 2 * 2 * (32 * layer + 4096 * 128_256) + 2 * 32 * 32 * 4 * 128 * 1024
    text = command(capsys, monkeypatch, "sweep", "llama-3.1-8b", "-b", "2", "-s", "1K", "-o", "csv")
    assert text.splitlines()[1] == f"llama-3.1-8b,,bf16,,2,1024,{kept},{kept},{weights},{flops},,,"
