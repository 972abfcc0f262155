"""kvcalc size: the figures, the forms they are printed in, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from command_line import kvcalc, refused
from factories import SPEC

QWEN = 2 * 80 * 64 * 128 * 2 * 32_768 * 8


def test_the_main_job() -> None:
    ran = kvcalc("size", "qwen-72b", "--batch-size", "8", "--seq-len", "32K")
    assert ran.code == 0
    assert ran.err == ""
    assert f"{QWEN:,} B" in ran.out
    assert "640 GiB" in ran.out
    assert "2,621,440 B x tokens" in ran.out
    assert "\x1b" not in ran.out


def test_quiet_prints_one_bare_integer() -> None:
    assert kvcalc("size", "qwen-72b", "-b", "8", "-s", "32K", "-q") == kvcalc(
        "size", "Qwen/Qwen-72B", "-q", "-b8", "-s", "32768"
    )
    assert kvcalc("size", "qwen-72b", "-b", "8", "-s", "32K", "-q").out == f"{QWEN}\n"
    assert kvcalc("size", "qwen-72b", "-b", "8", "-s", "32k", "-q").out == f"{QWEN // 32_768 * 32_000}\n"


def test_defaults_are_one_sequence_of_the_context_in_bf16() -> None:
    assert kvcalc("size", "qwen-72b", "-q").out == f"{2_621_440 * 32_768}\n"
    assert kvcalc("size", "qwen-72b", "-q", "--max-model-len", "63").out == f"{2_621_440 * 63}\n"


def test_beyond_the_context_is_answered_with_a_warning() -> None:
    ran = kvcalc("size", "qwen-72b", "-s", "32769", "-q")
    assert (ran.code, ran.out) == (0, f"{2_621_440 * 32_769}\n")
    assert "warning: " in ran.err
    assert "32,769" in ran.err
    assert kvcalc("size", "qwen-72b", "-s", "32769", "-q", "--max-model-len", "40000").err == ""


def test_encoder_decoder_models_take_an_encoder_length() -> None:
    row = 32 * 2 * 20 * 64 * 2  # whisper-large-v2: layers x K and V x heads x width x 2 B
    assert kvcalc("size", "whisper-large-v2", "-s", "100", "-q").out == f"{row * (100 + 1500)}\n"
    assert kvcalc("size", "whisper-large-v2", "-s", "100", "-q", "--encoder-len", "63").out == f"{row * 163}\n"
    unknown = kvcalc("size", "t5-11b", "-s", "100", "-q")
    assert "--encoder-len" in unknown.err
    assert unknown.out == f"{24 * 2 * 128 * 128 * 2 * 100}\n"
    assert kvcalc("size", "t5-11b", "-s", "100", "--encoder-len", "0").err == ""


def test_formats_per_stream() -> None:
    # DeepSeek-V3.2, 61 layers: the fp8 rows are 656 + 132 B; with bf16 latents 1,152 + 132 B
    assert kvcalc("size", "deepseek-v3.2", "-s", "1", "-q", "--kv-cache-dtype", "fp8_ds_mla").out == "48068\n"
    assert (
        kvcalc("size", "deepseek-v3.2", "-s", "1", "-q", "--kv-cache-dtype", "bf16,index=fp8_ds_mla").out == "78324\n"
    )


def test_json_holds_exact_integers_and_a_schema_version() -> None:
    report = json.loads(kvcalc("size", "gemma-3-27b", "-s", "128K", "-b", "3", "-o", "json").out)
    assert report["schema_version"] == 1
    assert report["report"] == "size"
    (model,) = report["models"]
    assert model["logical_bytes"] == 3 * 11_173_625_856
    assert [len(group["layers"]) for group in model["groups"]] == [52, 10]
    assert model["growth"] == {
        "fixed_bytes": 436_207_616, "step_bytes": 81_920, "step_tokens": 1, "from_tokens": 1024,
    }  # fmt: skip


def test_csv_holds_bare_numbers_with_units_in_the_heading() -> None:
    rows = list(csv.DictReader(io.StringIO(kvcalc("size", "gemma-3-27b", "qwen-72b", "-s", "128K", "-o", "csv").out)))
    assert [row["model"] for row in rows] == ["gemma-3-27b", "gemma-3-27b", "qwen-72b"]
    assert [int(row["bytes [B]"]) for row in rows] == [436_207_616, 10_737_418_240, 2_621_440 * 131_072]


def test_markdown_is_a_table() -> None:
    lines = kvcalc("size", "gemma-3-27b", "-o", "markdown").out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    assert "10,737,418,240" in table[3]


def test_per_layer_lists_every_layer_in_order() -> None:
    rows = csv.reader(io.StringIO(kvcalc("size", "gemma-3-27b", "-s", "2000", "--per-layer", "-o", "csv").out))
    heads, *layers = rows
    assert [int(row[heads.index("layer")]) for row in layers] == list(range(62))
    assert sum(int(row[heads.index("bytes [B]")]) for row in layers) == 2000 * 81_920 + 436_207_616


def test_several_models_and_totals() -> None:
    ran = kvcalc("size", "qwen-72b", "deepseek-v3", "-s", "63")
    assert f"{63 * 2_621_440:,} B" in ran.out
    assert f"{63 * 70_272:,} B" in ran.out
    assert "several models" in refused("size", "qwen-72b", "deepseek-v3", "-q")


def test_a_spec_comes_from_a_file_or_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    expected = f"{(10 * 100 + 2 * 2000) * 3 * 192 * 2}\n"
    assert kvcalc("size", str(path), "-q").out == expected
    assert kvcalc("size", "-", "-q", stdin=SPEC.encode()).out == expected


def test_machine_readable_output_does_not_depend_on_colour_or_width() -> None:
    for form in ("json", "csv", "markdown"):
        plain = kvcalc("size", "gemma-3-27b", "-o", form)
        assert kvcalc("size", "gemma-3-27b", "-o", form, FORCE_COLOR="1", COLUMNS="20") == plain


def test_colour_is_forced_and_forbidden_by_the_environment() -> None:
    plain = kvcalc("size", "qwen-72b")
    forced = kvcalc("size", "qwen-72b", FORCE_COLOR="1")
    assert "\x1b[" not in plain.out
    assert "\x1b[" in forced.out
    assert kvcalc("size", "qwen-72b", FORCE_COLOR="1", NO_COLOR="1") == plain


BAD_ARGUMENTS = [
    ("size", "qwen-72b", "-b", "0"), ("size", "qwen-72b", "-b", "-1"), ("size", "qwen-72b", "-b", "1.5"),
    ("size", "qwen-72b", "-b", "1" + "0" * 30), ("size", "qwen-72b", "-b", ""), ("size", "qwen-72b", "-b", "10^30"),
    ("size", "qwen-72b", "-s", "0"), ("size", "qwen-72b", "-s", "-32K"), ("size", "qwen-72b", "-s", "1" + "0" * 30),
    ("size", "qwen-72b", "-s", "long"), ("size", "qwen-72b", "-s", "32KiB"), ("size", "qwen-72b", "-s", "9" * 5000),
    ("size", "qwen-72b", "--max-model-len", "0"), ("size", "whisper-large-v2", "--encoder-len", "-1"),
    ("size", "qwen-72b", "--kv-cache-dtype", "bf17"), ("size", "qwen-72b", "--kv-cache-dtype", "fp8_ds_mla"),
    ("size", "qwen-72b", "--kv-cache-dtype", "fp8,int4-g32"), ("size", "qwen-72b", "--kv-cache-dtype", "keys=fp8"),
    ("size", "deepseek-v3", "--kv-cache-dtype", "kivi2"), ("size", "hunyuan-large", "--kv-cache-dtype", "q8_0"),
    ("size", "no-such-model"), ("size", "x" * 5000), ("size", "no-such-file.yaml"), ("size", "."), ("size", "/"),
    ("size",), ("size", "qwen-72b", "-o", "xml"), ("size", "qwen-72b", "--no-such-option"), ("no-such-command",),
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS, ids=lambda a: " ".join(a)[:60])
def test_bad_input_is_one_clear_problem(arguments: tuple[str, ...]) -> None:
    refused(*arguments)


@pytest.mark.parametrize("output", ["table", "json", "csv", "markdown"])
def test_nothing_is_printed_on_an_error_in_any_form(output: str) -> None:
    refused("size", "qwen-72b", "-s", "0", "-o", output)
    refused("size", "qwen-72b", "no-such-model", "-o", output)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("head_dim: 96}", "head_dims: 96}", 4, "head_dim"), ("head_dim: 96}", 'head_dim: "96"}', 4, "integer"),
        ("head_dim: 96}", "head_dim: 0}", 4, "at least 1"), ("head_dim: 96}", "head_dim: -96}", 4, "at least 1"),
        ("num_key_value_heads: 3", "num_key_value_heads: 5", 4, "cannot be shared"),
        ("sliding_window: 100", "sliding_window: 0", 5, "at least 1"), ("count: 2", "count: x", 7, "integer"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_told_with_file_line_and_column(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC.replace(old, new, 1))
    told = refused("size", str(path))
    assert told.startswith(f"{path}:{line}:")
    assert says in told
    assert "^" in told


def test_empty_and_broken_standard_input() -> None:
    assert refused("size", "-").startswith("<stdin>:1:1: KV002 empty")
    assert refused("size", "-", stdin=b"\xff\xfe").startswith("<stdin>:1:1: KV001 not UTF-8")
    assert refused("size", "-", stdin=b"[" * 100_000).startswith("<stdin>:1:")


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    assert "qwen2-72b" in refused("size", "qwen-2-72b")
    assert "gpt-oss-120b" in refused("size", "gptoss-120b")
    assert "deepseek-v3" in refused("size", "deepseek-ai/DeepSeekV3")


def test_a_spec_cannot_drive_the_terminal_or_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC.replace("name: test-model", r'name: "\e[31mred\u202ex"'))
    ran = kvcalc("size", str(path))
    assert ran.code == 0
    assert not {"\x1b", "\u202e"} & set(ran.out)
    for start in ("=", "+", "-", "@"):
        path.write_text(SPEC.replace("name: test-model", f'name: "{start}1+1"'))
        cell = next(csv.DictReader(io.StringIO(kvcalc("size", str(path), "-o", "csv").out)))["model"]
        assert cell == f"'{start}1+1"


@pytest.mark.parametrize(
    "flags",
    [
        ("--block-size", "16"), ("--max-num-batched-tokens", "2048"), ("--num-speculative-tokens", "1"),
        ("--disable-hybrid-kv-cache-manager",),
    ],
    ids=lambda flags: flags[0],
)  # fmt: skip
def test_what_only_an_engine_heeds_is_refused_without_one(flags: tuple[str, ...]) -> None:
    """It used to be passed over in silence: the figure looked like an answer to the flag."""
    assert f"KV901 {flags[0]} is an engine's" in refused("size", "qwen-72b", *flags)


def test_lines_per_layer_are_logical() -> None:
    assert "leave out the engine" in refused("size", "qwen-72b", "--per-layer", "--engine", "vllm")


def test_an_engine_takes_what_the_other_answers_take(tmp_path: Path) -> None:
    """`--assume` and `--hub` hold with an engine too."""
    config = {"model_type": "unheard-of", "num_hidden_layers": 3, "hidden_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": 100,
              "intermediate_size": 512}  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config), "utf-8")
    asked = ("size", str(file), "-s", "160", "-q", "--assume", "dense-gqa")
    # 3 layers x K and V x 2 heads x 64 x 2 B x 160 tokens: ten blocks of 16, so nothing is lost
    assert kvcalc(*asked).out == kvcalc(*asked, "--engine", "vllm").out == f"{3 * 2 * 2 * 64 * 2 * 160}\n"
    assert "KV802" in refused("size", str(file), "--engine", "vllm")
