"""`MODEL@VARIANT` where a model's speed is asked for: the same what-ifs that `compare` has."""

from __future__ import annotations

import json

from command_line import kvcalc, refused


def test_sweep_of_a_variant():
    # 2 x 80 layers x 8 heads x 128 x 2 B x 32,768 tokens
    ran = kvcalc("sweep", "qwen-72b@gqa:8", "-b", "1", "-s", "32K", "-o", "csv")
    assert ran.code == 0
    assert str(2 * 80 * 8 * 128 * 2 * 32768) in ran.out
    assert "qwen-72b gqa:8" in ran.out


def test_roofline_of_a_variant_reads_its_cache():
    ran = kvcalc("roofline", "qwen-72b@mla:512+64", "--gpu", "h200", "-b", "8", "-s", "32K", "-o", "json")
    # 80 layers x (512 + 64) x 2 B x 32,768 tokens x 8 sequences
    assert str(80 * 576 * 2 * 32768 * 8) in ran.out
    assert json.loads(ran.out)


def test_tiers_of_a_variant():
    ran = kvcalc("tiers", "qwen-72b@window:4096", "--gpu", "h200", "-s", "32K", "-o", "json")
    # 2 x 80 layers x 64 heads x 128 x 2 B x 4,096 rows
    assert str(2 * 80 * 64 * 128 * 2 * 4096) in ran.out


def test_a_format_is_no_variant_of_these():
    assert "--kv-cache-dtype" in refused("sweep", "qwen-72b@kv:fp8")
    assert "unknown variant" in refused("tiers", "qwen-72b@gpa:8", "--gpu", "h200")
