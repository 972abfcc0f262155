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


def test_size_of_a_variant_logical_and_allocated():
    row = 2 * 80 * 8 * 128 * 2
    assert kvcalc("size", "qwen-72b@gqa:8", "-s", "32K", "-q").out == f"{row * 32768}\n"
    # 16 ranks hold 8 heads: one each, twice over
    asked = ("size", "qwen-72b@gqa:8", "-s", "32K", "-q", "--engine", "vllm", "-tp", "16", "--per-rank")
    assert kvcalc(*asked).out == f"{row * 32768 // 8}\n"


def test_a_variant_is_explained_with_its_numbers():
    shown = kvcalc("explain", "qwen-72b@mla:512+64", "-s", "1").out
    assert "= 1 * 1 * 576 * 2 = 1,152 B" in shown
    assert shown.startswith("qwen-72b mla:512+64: ")


def test_a_length_says_nothing_of_what_is_no_model():
    assert "mla is no model" in refused("explain", "mla", "-s", "4")
    assert "h200 is no model" in refused("explain", "h200", "--kv-cache-dtype", "fp8")


def test_an_at_sign_within_a_path_is_no_variant(tmp_path):
    folder = tmp_path / "mine@home"
    folder.mkdir()
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 8192, "vocab_size": 100,
              "intermediate_size": 512, "tie_word_embeddings": False}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    path = str(folder / "config.json")
    # 2 layers x K and V x 4 heads (1 as MQA) x 64 x 2 B x 10 tokens
    for model, heads in ((path, 4), (f"{path}@mqa", 1), (f"{path}@gqa:2@kv:bf16", 2)):
        rows = json.loads(kvcalc("compare", model, "-s", "10", "-o", "json").out)["rows"]
        assert rows[0]["footprint"]["logical_bytes"] == 2 * 2 * heads * 64 * 2 * 10
