"""What each tier holds and how long a read takes, against arithmetic written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from traffic_models import gqa, mla, model

from kvcalc.cache_dtypes import BF16
from kvcalc.calibration import load_calibration
from kvcalc.footprint import sequence_bytes
from kvcalc.problems import KvcalcError
from kvcalc.roofline import Calibration, roofline
from kvcalc.spec.catalog import shipped_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.tiers import TierLine, tiers

A100 = find_hardware("a100-40gb")
H200 = find_hardware("h200")


def line(name: str, gpu: str = "a100-40gb", **options: int) -> TierLine:
    report = tiers(shipped_model("qwen-72b"), find_hardware(gpu), batch_size=8, seq_len=32768, **options)
    return next(tier for tier in report.tiers if tier.name == name)


def test_the_hierarchy_that_explanations_quote() -> None:
    """FlashAttention (arXiv 2205.14135), figure 1, is an A100-40GB: SRAM 19 TB/s and 20 MB, HBM 1.5 TB/s and 40 GB."""
    sram, memory, host = line("sram"), line("memory"), line("host_dram")
    assert sram.bytes_per_s == 108 * 128 * 1_410_000_000 == 19_491_840_000_000
    assert sram.capacity_bytes == 108 * 192 * 1024
    assert memory.bytes_per_s == 1_555_000_000_000
    assert "20 MB, 19 TB/s" in sram.quoted[0]
    assert "12.8 GB/s" in host.quoted[0]
    # The host's DRAM is read through PCIe 4.0 x16, not at 12.8 GB/s, and not at its own 409.6 GB/s.
    assert host.bytes_per_s == 32_000_000_000


def test_qwen_72b_in_every_tier() -> None:
    """A token takes 2.5 MiB: 20.25 MiB of SRAM hold 8; 640 GiB take 0.44 s from 1.555 TB/s, 98 s from 7 GB/s."""
    assert line("sram").tokens == 108 * 192 * 1024 // 2_621_440 == 8
    assert line("memory").tokens == 42_297_786_368 // 2_621_440
    assert line("memory").read_s == pytest.approx(687_194_767_360 / 1.555e12)
    storage = line("storage", storage_bytes_per_s=7 * 10**9)
    assert (storage.sequences, storage.tokens) == (None, None)
    assert storage.read_s == pytest.approx(98.17, abs=0.01)
    assert storage.tokens_per_s_bound == pytest.approx(8 / 98.17, rel=1e-3)


@pytest.mark.parametrize("name", ["gemma-3-27b", "deepseek-v4-pro", "qwen3-next-80b-a3b", "llama-4-scout-17b-16e"])
def test_the_longest_sequence_fits_and_one_more_token_does_not(name: str) -> None:
    spec = shipped_model(name)
    groups = spec.layout().groups
    for tier in tiers(spec, H200, seq_len=1000).tiers:
        if tier.capacity_bytes is not None and tier.tokens:
            assert sequence_bytes(groups, tier.tokens, BF16) <= tier.capacity_bytes
            assert sequence_bytes(groups, tier.tokens + 1, BF16) > tier.capacity_bytes


def test_a_window_of_any_length_fits() -> None:
    report = tiers(shipped_model("mistral-7b-v0.1"), H200, seq_len=1000)
    assert {tier.name: tier.tokens for tier in report.tiers}["memory"] is None


def test_flash_attention_tiles() -> None:
    """FlashMLA takes 64 queries and two blocks of 64 keys of 576 at a time (docs/20250422-new-kernel-deep-dive.md).

    Algorithm 1 of FlashAttention takes B_c = ceil(M / 4d): 164 KiB are 83,968 elements, / 512 = 164.
    """
    latent = tiers(shipped_model("deepseek-v3"), find_hardware("h800-sxm"), seq_len=1).tiles[0]
    assert (latent.queries, latent.keys) == (64, 64)
    assert latent.bytes == 64 * 576 * 2 + 2 * 64 * 576 * 2
    heads = tiers(shipped_model("qwen-72b"), A100, seq_len=1).tiles[0]
    assert (heads.paper_rows, heads.paper_columns) == (128, 164)
    assert heads.bytes <= heads.sram_bytes < heads.bytes + 2 * 16 * 2 * 128 * 2


def test_restoring_against_recomputing() -> None:
    """Llama-3.1-8B: 131,072 B a token; 2 x 7.5e9 FLOPs a token (the embedding multiplies nothing) against 989e12/s."""
    report = tiers(shipped_model("llama-3.1-8b"), H200, seq_len=8192, storage_bytes_per_s=5 * 10**9)
    storage = next(restore for restore in report.restore if restore.name == "storage")
    assert storage.restore_s == pytest.approx(131072 * 8192 / 5e9)
    layers = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    linear = 2 * (8192 * layers + 4096 * 128256)
    pairs = 32 * 32 * 4 * 128 * 8192 * 8193 // 2
    assert report.recompute_s == pytest.approx((linear + pairs) / 989e12, rel=1e-3)
    assert not storage.faster
    # Attention makes later tokens dearer: from some length on bringing back pays, and one token earlier it does not.
    border = storage.break_even_tokens
    assert border is not None
    for tokens, pays in ((border - 1, False), (border, True)):
        again = tiers(shipped_model("llama-3.1-8b"), H200, seq_len=tokens, storage_bytes_per_s=5 * 10**9)
        assert next(r.faster for r in again.restore if r.name == "storage") is pays


def test_what_is_left_beside_the_weights() -> None:
    report = tiers(shipped_model("llama-3.1-8b"), H200, seq_len=8192)
    assert report.weight_bytes == 8_030_261_248 * 2
    assert report.memory_left_bytes == H200.memory.plan_bytes - 8_030_261_248 * 2
    assert report.memory_left_sequences == report.memory_left_bytes // (131072 * 8192)


def test_a_cache_without_weights() -> None:
    report = tiers(model((1, gqa(8, 8))), H200, seq_len=100)
    assert (report.weight_bytes, report.recompute_s, report.restore) == (None, None, ())


def test_rates_are_positive() -> None:
    with pytest.raises(KvcalcError, match="the storage's rate must be more than 0"):
        tiers(model((1, mla(8))), H200, seq_len=1, storage_bytes_per_s=0)


def test_deepseek_v3_attention_is_bound_by_arithmetic_on_h200_and_by_memory_on_h800() -> None:
    """241.7 FLOP/B: above 989 TFLOP/s / 4.8 TB/s = 206, below 989 / 3.35 = 295."""
    for gpu, limit in (("h200", "compute"), ("h800-sxm", "memory"), ("h20", "compute")):
        report = roofline(shipped_model("deepseek-v3"), find_hardware(gpu), batch_size=64, seq_len=8192)
        attention = next(point for point in report.points if point.what == "attention")
        assert attention.bound_by == limit
        assert report.time.overlapped_seconds <= report.time.seconds
        assert report.time.seconds == pytest.approx(report.time.attention_seconds + report.time.gemm_seconds)


def test_calibration_replaces_the_peaks(tmp_path: Path) -> None:
    measured = {
        "machine": {"device": "NVIDIA H200", "driver": "580.1", "date": "2026-11-24"},
        "ceilings": {"read_bytes_per_s": 4.5e12, "gemm_flops_per_s": {"bf16": 7.8e14}},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(measured))
    calibration = load_calibration(str(path))
    assert calibration == Calibration(
        label="calibrated on NVIDIA H200 580.1, 2026-11-24",
        bytes_per_s=4_500_000_000_000,
        flops_per_s={"bf16": 780_000_000_000_000},
    )
    report = tiers(shipped_model("qwen-72b"), H200, seq_len=1000, calibration=calibration)
    memory = next(tier for tier in report.tiers if tier.name == "memory")
    assert (memory.bytes_per_s, memory.basis) == (4_500_000_000_000, "measured")
    assert report.calibration == calibration.label


NO_REPORTS = (
    "",
    "[]",
    "{}",
    "{" * 5000,
    "\0",
    '{"ceilings": {"read_bytes_per_s": "x"}}',
    '{"ceilings": {"read_bytes_per_s": 1e400}}',
    '{"ceilings": {"read_bytes_per_s": 5, "gemm_flops_per_s": {"bf16": null}}}',
)


@pytest.mark.parametrize("text", NO_REPORTS)
def test_no_calibration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(KvcalcError):
        load_calibration(str(path))
