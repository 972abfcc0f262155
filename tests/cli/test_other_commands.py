"""kvcalc compare, explain, list and schema."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
from command_line import kvcalc, refused
from factories import SPEC

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import CACHE_DTYPES, PARAMETRIC
from kvcalc.spec.catalog import shipped


def compared(*arguments: str) -> dict[str, dict[str, str]]:
    ran = kvcalc("compare", *arguments, "-o", "csv")
    assert ran.code == 0, ran.err
    return {row["model"]: row for row in csv.DictReader(io.StringIO(ran.out))}


def test_the_table_that_explanations_of_mla_draw() -> None:
    rows = compared("qwen-72b", "--as", "mha,mqa,gqa:8,mla:512+64,window:4096,kv:int4-g32", "-s", "32K")
    layers, tokens = 80, 32_768
    expected = {
        "qwen-72b": layers * tokens * 2 * 64 * 128 * 2, "qwen-72b mha": layers * tokens * 2 * 64 * 128 * 2,
        "qwen-72b mqa": layers * tokens * 2 * 128 * 2, "qwen-72b gqa:8": layers * tokens * 2 * 8 * 128 * 2,
        "qwen-72b mla:512+64": layers * tokens * 576 * 2, "qwen-72b window:4096": layers * 4096 * 2 * 64 * 128 * 2,
        "qwen-72b kv:int4-g32": layers * tokens * 2 * 64 * (64 + 4 * 2),
    }  # fmt: skip
    assert {name: int(row["bytes [B]"]) for name, row in rows.items()} == expected
    assert float(rows["qwen-72b gqa:8"]["ratio_to_first"]) == 0.125


def test_deepseek_v2_against_67b_shows_both_savings() -> None:
    ran = kvcalc("compare", "deepseek-67b", "deepseek-v2", "deepseek-v2@kv:int6", "-s", "4096")
    assert ran.code == 0
    assert "82.24 %" in ran.out
    assert "93.34 %" in ran.out


def test_variants_join_and_apply_to_one_model_alone() -> None:
    rows = compared("qwen-72b@gqa:8@kv:fp8", "deepseek-v3", "-s", "63")
    assert int(rows["qwen-72b gqa:8@kv:fp8"]["bytes [B]"]) == 80 * 63 * 2 * 8 * 128
    assert int(rows["deepseek-v3"]["bytes [B]"]) == 63 * 70_272


def test_a_hybrid_keeps_its_windows_under_a_what_if() -> None:
    rows = compared("gemma-3-27b", "--as", "mla:512+64", "-s", "128K")
    assert int(rows["gemma-3-27b mla:512+64"]["bytes [B]"]) == (52 * 1024 + 10 * 131_072) * 576 * 2


def test_one_length_for_all_models() -> None:
    rows = compared("qwen-72b", "llama-3.1-8b")
    assert int(rows["llama-3.1-8b"]["bytes [B]"]) == 32_768 * 131_072


@pytest.mark.parametrize(
    "arguments",
    [
        ("qwen-72b", "--as", "gqa:7"), ("qwen-72b", "--as", "gqa:0"), ("qwen-72b", "--as", "gqa:128"),
        ("qwen-72b", "--as", "gqa"), ("qwen-72b", "--as", "mha:3"), ("qwen-72b", "--as", "mla"),
        ("qwen-72b", "--as", "mla:0+64"), ("qwen-72b", "--as", "window:0"), ("qwen-72b", "--as", "window:-1"),
        ("qwen-72b", "--as", "kv:"), ("qwen-72b", "--as", "kv:bf17"), ("qwen-72b", "--as", "mhaa"),
        ("qwen-72b", "--as", "mha,,mqa"), ("qwen-72b@",), ("qwen-72b@@mha",), ("no-such-model",), (),
        ("qwen-72b", "-s", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_comparisons_are_refused(arguments: tuple[str, ...]) -> None:
    refused("compare", *arguments)


# --- explain


def test_a_model_is_explained_with_its_numbers_put_in() -> None:
    ran = kvcalc("explain", "gemma-3-27b", "-s", "128K", "-b", "2")
    assert ran.code == 0
    for text in ("min(S, 1024) = min(131,072, 1024) = 1,024 rows", f"{2 * 11_173_625_856:,} B", "81,920 B x tokens"):
        assert text in ran.out
    assert "source: " in ran.out


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_explained_with_its_source(name: str) -> None:
    ran = kvcalc("explain", name)
    assert ran.code == 0
    assert KINDS[name].summary in ran.out
    assert f"source: {KINDS[name].source}" in ran.out


@pytest.mark.parametrize("name", [*CACHE_DTYPES, "int4-g32-zp", "kivi2-g16-r64"])
def test_every_format_is_explained_with_its_bytes(name: str) -> None:
    ran = kvcalc("explain", name)
    assert ran.code == 0
    assert "bytes = " in ran.out
    assert "source: " in ran.out


@pytest.mark.parametrize("output", ["json", "csv", "markdown"])
@pytest.mark.parametrize("subject", ["gemma-3-27b", "mla", "fp8_ds_mla"])
def test_explanations_come_in_every_form(subject: str, output: str) -> None:
    ran = kvcalc("explain", subject, "-o", output)
    assert ran.code == 0
    assert ran.out
    if output == "json":
        assert json.loads(ran.out)["schema_version"] == 1


@pytest.mark.parametrize("subject", ["no-such-thing", "kivi2-g32-r100", ""])
def test_what_is_unknown_is_not_explained(subject: str) -> None:
    refused("explain", subject)


def test_a_spec_of_ones_own_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    assert "2000 * 3 * 96" in kvcalc("explain", str(path)).out.replace(",", "")


# --- list, schema, version


@pytest.mark.parametrize(
    ("what", "names"),
    [("models", shipped), ("kinds", lambda: KINDS), ("formats", lambda: [*CACHE_DTYPES, *PARAMETRIC])],
)
def test_lists_name_all_there_is(what: str, names: object) -> None:
    rows = list(csv.reader(io.StringIO(kvcalc("list", what, "-o", "csv").out)))
    assert {row[0] for row in rows[1:]} == set(names())  # type: ignore[operator]
    assert len(json.loads(kvcalc("list", what, "-o", "json").out)["rows"]) == len(rows) - 1


def test_what_cannot_be_listed_is_refused_with_a_suggestion() -> None:
    assert "models" in refused("list", "model")


def test_the_schema_is_draft_07_and_accepts_what_the_loader_accepts() -> None:
    import yaml

    schema = json.loads(kvcalc("schema").out)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)
    check = jsonschema.Draft7Validator(schema)
    assert check.is_valid(yaml.safe_load(SPEC))
    for old, new in (
        ("head_dim: 96}", "head_dims: 96, head_dim: 96}"), ("head_dim: 96}", "head_dim: 0}"),
        ("kind: full, ", ""), ("kind: full", "kind: ful"), ("sliding_window: 100", "sliding_window: lots"),
        (", sliding_window: 100", ""),
    ):  # fmt: skip
        assert not check.is_valid(yaml.safe_load(SPEC.replace(old, new, 1))), new


def test_version_and_help() -> None:
    from kvcalc import __version__

    assert kvcalc("--version").out == f"kvcalc {__version__}\n"
    for command in ("size", "compare", "explain", "list", "schema"):
        ran = kvcalc(command, "--help")
        assert ran.code == 0
        assert f"Example: kvcalc {command}" in " ".join(ran.out.split())
        assert command in kvcalc("--help").out
