"""Spec files: what is read, and the one clear Problem for what is wrong, with line and column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories import SPEC, logical

from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.catalog import find_model
from kvcalc.spec.document import read_bytes
from kvcalc.spec.model import ModelSpec, write_out
from kvcalc.spec.validate import load_model
from kvcalc.spec.yamlio import load_yaml


def load(text: str | bytes) -> ModelSpec:
    return load_model("x.yaml", text if isinstance(text, bytes) else text.encode())[0]


def problems(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(KvcalcError) as caught:
        load(text)
    for problem in caught.value.problems:
        assert problem.path == "x.yaml"
        assert problem.line is not None
        assert problem.column is not None
        assert problem.message
    return caught.value.problems


def problem(text: str | bytes) -> Problem:
    (only,) = problems(text)
    return only


def place(text: str, word: str) -> tuple[int, int]:
    """Line and column of a word, counted from 1."""
    before = text[: text.index(word)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def changed(old: str, new: str) -> str:
    assert old in SPEC
    return SPEC.replace(old, new, 1)


def test_a_spec_is_read_with_its_layers_in_order() -> None:
    spec = load(SPEC)
    assert [use.attention[0] for use in write_out(spec.layers)] == (["window"] * 5 + ["full"]) * 2
    assert logical(spec, 2000) == (10 * 100 + 2 * 2000) * 3 * 192 * 2


def test_a_pattern_and_its_layers_written_out_are_the_same_model() -> None:
    flat = (
        SPEC[: SPEC.index("layers:")] + "layers:\n" + ("  - {count: 5, attention: window}\n  - {attention: full}\n" * 2)
    )
    assert write_out(load(flat).layers) == write_out(load(SPEC).layers)


WRONG = [
    # (what is wrong, old text, new text, code, word at whose place the Problem stands, what it says)
    ("unknown key", "head_dim: 96}", "head_dims: 96, head_dim: 96}", "KV010", "head_dims", "unknown key 'head_dims'"),
    ("unknown top key", "name:", "nam: 3\nname:", "KV010", "nam:", "unknown key 'nam'"),
    ("missing key", ", sliding_window: 100}", "}", "KV011", "{kind: sliding", "missing key 'sliding_window'"),
    ("unknown kind", "kind: sliding", "kind: slidin", "KV014", "slidin,", "unknown kind 'slidin'"),
    ("no kind", "kind: sliding, ", "", "KV014", "{num_attention_heads: 12, num_key_value_heads: 3, head_dim: 96, s",
     "missing key 'kind'"),
    ("a word for a number", "sliding_window: 100", "sliding_window: many", "KV012", "many", "expected an integer"),
    ("a quoted number", "sliding_window: 100", 'sliding_window: "100"', "KV012", '"100"', "expected an integer"),
    ("a fraction", "sliding_window: 100", "sliding_window: 99.5", "KV012", "99.5", "expected an integer"),
    ("1e3", "sliding_window: 100", "sliding_window: 1e3", "KV012", "1e3", "expected an integer"),
    ("true", "sliding_window: 100", "sliding_window: true", "KV012", "true", "expected an integer"),
    ("nothing", "sliding_window: 100", "sliding_window: ~", "KV012", "~", "expected an integer"),
    ("a suffix", "sliding_window: 100", "sliding_window: 4K", "KV012", "4K", "expected an integer"),
    ("a list", "sliding_window: 100", "sliding_window: [100]", "KV012", "[100]", "expected an integer"),
    ("window 0", "sliding_window: 100", "sliding_window: 0", "KV013", "0}\nlayers", "at least 1"),
    ("negative", "sliding_window: 100", "sliding_window: -5", "KV013", "-5", "at least 1"),
    ("zero context", "2000", "0", "KV013", "0\natt", "at least 1"),
    ("too large", "sliding_window: 100", "sliding_window: 1099511627777", "KV013", "1099", "at most 1099511627776"),
    ("empty name", "name: test-model", 'name: ""', "KV013", '""', "at least 1 character"),
    ("heads not divisible", "num_key_value_heads: 3", "num_key_value_heads: 5", "KV101", "5, head",
     "12 query heads cannot be shared by 5 KV heads"),
    ("a layer of an unknown entry", "attention: full}", "attention: [full, fuller]}", "KV101", "[full, fuller]",
     "'fuller' is not under"),
    ("an unknown ffn", "attention: full}", "attention: full, ffn: dense}", "KV101", "dense",
     "'dense' is not under `ffn`"),
    ("an entry that no layer uses", "  full:", "  spare: {kind: short_conv, conv_dim: 8, conv_L_cache: 3}\n  full:",
     "KV101", "{kind: short", "'spare' is used by no layer"),
    ("too many layers", "count: 2", "count: 5000", "KV101", "- count: 5000", "30,000 layers"),
    ("5,000 digits", "sliding_window: 100", "sliding_window: " + "9" * 5000, "KV003", "999", "5,000 digits"),
    ("NaN", "sliding_window: 100", "sliding_window: .nan", "KV003", ".nan", "not a size"),
    ("infinity", "sliding_window: 100", "sliding_window: -.inf", "KV003", "-.inf", "not a size"),
    ("1e999", "sliding_window: 100", "sliding_window: 1e999", "KV003", "1e999", "too large"),
    ("a duplicate key", "  window:", "  full: {}\n  window:", "KV003", "full: {}", "stands twice"),
    ("an anchor", "name: test-model", "name: &a test-model", "KV003", "&a", "anchors and aliases"),
    ("an alias", "name: test-model", "name: *a", "KV003", "*a", "anchors and aliases"),
    ("a tag", "name: test-model", "name: !!str test-model", "KV003", "!!str", "tag"),
    ("a python tag", "name: test-model", "name: !!python/object:os.system ls", "KV003", "!!python", "tag"),
    ("a key that is a list", "name:", "? [a]\n: b\nname:", "KV003", "[a]", "plain word"),
    ("a second document", "name:", "--- 1\n--- 2\nname:", "KV003", "--- 2", "more than one"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "word", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, code: str, word: str, says: str) -> None:
    text = changed(old, new)
    found = problem(text)
    assert found.code == code
    assert says in found.message
    assert (found.line, found.column) == place(text, word if word in text else word.strip())
    assert found.snippet == text.splitlines()[found.line - 1][:200]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("sliding_window:", "slidng_window:", "sliding_window"), ("kind: sliding", "kind: slidin", "sliding"),
        ("max_position_embeddings", "max_position_embedding", "max_position_embeddings"),
        ("attention: full}", "attention: fuller}", "entries: full, window"),
    ],
)  # fmt: skip
def test_a_near_word_is_suggested(old: str, new: str, hint: str) -> None:
    assert any(hint in str(found.help) for found in problems(changed(old, new)))


def test_mla_without_a_rank_is_refused() -> None:
    text = changed(
        "kind: full, num_attention_heads: 12, num_key_value_heads: 3, head_dim: 96",
        "kind: mla, num_attention_heads: 12, qk_rope_head_dim: 64, qk_nope_head_dim: 128, v_head_dim: 128",
    )
    found = problem(text)
    assert (found.code, found.line) == ("KV011", 4)
    assert "kv_lora_rank" in found.message


def test_every_fault_is_told_in_the_order_of_the_file() -> None:
    text = changed("head_dim: 96}", "head_dim: 0, x: 1}").replace("sliding_window: 100", "sliding_window: no")
    found = problems(text)
    assert [(p.code, p.line) for p in found] == [("KV013", 4), ("KV010", 4), ("KV012", 5)]


SHARING = """\
name: x
attention:
  own: {kind: full, num_attention_heads: 2, num_key_value_heads: 2, head_dim: 8}
  reader: {kind: shared, reads: own, num_attention_heads: 2}
layers: [{attention: own}, {attention: reader}]
"""


def test_a_layer_reads_only_what_an_earlier_layer_keeps() -> None:
    assert logical(load(SHARING), 63) == 63 * 2 * 16 * 2
    early = SHARING.replace("{attention: own}, {attention: reader}", "{attention: reader}, {attention: own}")
    assert (problem(early).line, problem(early).column) == place(early, "own, num_attention_heads: 2}")
    for wrong in ("reads: nowhere", "reads: reader"):
        assert {p.code for p in problems(SHARING.replace("reads: own", wrong))} == {"KV101"}


def test_contradictions_of_a_pattern_are_told() -> None:
    assert "side by side" in problem(changed("  - count: 2\n", "  - count: 2\n    attention: full\n")).message
    assert "empty pattern" in problem(SPEC + "  - pattern: []\n").message
    assert "at least 1 entries" in problem(SPEC[: SPEC.index("layers:")] + "layers: []\n").message


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"", "KV002", "empty"), (b"\n\n# nothing\n", "KV002", "empty"), (b"---\n", "KV012", "expected a mapping"),
        (b"- a\n", "KV012", "expected a mapping"), (b"42\n", "KV012", "expected a mapping"),
        (b"a: [1\n", "KV002", "YAML"), (b"a: b: c\n", "KV002", "YAML"), (b"\ta: 1\n", "KV002", "YAML"),
        (b"a: \"\x07\"\n", "KV002", "not allowed"), (b"%YAML 3.0\n---\na: 1\n", "KV002", "YAML"),
        (b"a: 1\nb: \xff\n", "KV001", "not UTF-8: byte 0xff"), ("name: x".encode("utf-16"), "KV001", "not UTF-8"),
        (b"[" * 100_000, "KV003", "nested deeper"), (b"{a: " * 100_000, "KV003", "nested deeper"),
        (b"- " * 100_000, "KV003", "nested deeper"), (b"- 1\n" * 60_000, "KV003", "nodes"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_no_plain_mapping_is_told(text: bytes, code: str, says: str) -> None:
    found = problems(text)[0]
    assert found.code == code
    assert says in found.message


def test_the_place_of_a_byte_that_is_not_utf_8() -> None:
    found = problem(b"a: 1\nb: \xff\n")
    assert (found.line, found.column) == (2, 4)


def test_scalars_are_read_as_yaml_1_2() -> None:
    text = b"[010, 0o10, 0x10, +5, -5, no, on, 1:30, 1_000, 1e3, .5, null, ~, True, '7', 2026-11-24, =, 1.]"
    assert load_yaml("x", text).data == [
        10, 8, 16, 5, -5, "no", "on", "1:30", "1_000", 1000.0, 0.5, None, None, True, "7", "2026-11-24", "=", 1.0,
    ]  # fmt: skip


def test_marks_survive_a_byte_order_mark_and_dos_line_ends() -> None:
    text = changed("sliding_window: 100", "sliding_window: 0")
    for variant in ("\ufeff" + text, text.replace("\n", "\r\n")):
        found = problem(variant.encode())
        assert (found.line, found.column) == place(text, "0}\nlayers")


# --- hostile sizes: bounded in time and in what is said


@pytest.mark.parametrize(
    "text",
    [
        SPEC + "".join(f"k{index}: 1\n" for index in range(24_000)),
        "{" + ", ".join(f"k{index}: 1" for index in range(24_000)) + "}",
        changed("attention: full}", "count: 1000, attention: [" + ", ".join(["full"] * 20_000) + "]}"),
        changed("layers:", "".join(f"  b{i}: {{kind: short_conv, conv_dim: 8, conv_L_cache: 2}}\n" for i in range(4000))
                + "layers:") + "".join(f"  - {{attention: c{i}}}\n" for i in range(4000)),
        changed("attention: full}", "attention: [" + ", ".join(["1"] * 40_000) + "]}"),
        changed("name: test-model", "name: " + "x" * 900_000),
        SPEC + "x" * 1000 + ": 1\n",
    ],
    ids=["unknown keys", "keys on one line", "names", "entries", "numbers", "a long name", "a long key"],
)  # fmt: skip
def test_many_faults_are_told_briefly(text: str) -> None:
    from kvcalc.render.problems import render_problem

    found = problems(text)
    assert len(found) <= 200
    assert all(len(render_problem(p)) < 1200 for p in found)


# --- files


def test_a_file_above_1_mib_is_not_read_further(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 5_000_000)
    with pytest.raises(KvcalcError, match="larger than"):
        read_bytes(str(big))
    with pytest.raises(KvcalcError, match="larger than"):
        read_bytes("/dev/zero")


@pytest.mark.parametrize(
    ("name", "says"), [("no-such.yaml", "cannot be read"), (".", "is a directory"), ("a\0b", "no file name")]
)
def test_what_cannot_be_read_is_told(name: str, says: str) -> None:
    with pytest.raises(KvcalcError, match=says):
        read_bytes(name)


@pytest.mark.parametrize("name", ["no-such-model", "", "x" * 5000, "a/b/c", "qwen-72b\0", "../qwen-72b", "modèle"])
def test_an_unknown_model_is_told_with_help(name: str) -> None:
    with pytest.raises(KvcalcError) as caught:
        find_model(name)
    (found,) = caught.value.problems
    assert len(found.message) < 300


def test_a_spec_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    assert find_model(str(path)) == load(SPEC)
    monkeypatch.chdir(tmp_path)
    assert find_model("mine.yaml") == find_model("./mine.yaml") == load(SPEC)
    (tmp_path / "plain").write_text(SPEC)
    assert find_model("plain") == load(SPEC)


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qwen-72b").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    assert find_model("qwen-72b").name == "qwen-72b"
    assert find_model("Qwen-72B") == find_model("Qwen/Qwen-72B") == find_model(" qwen-72b ")


def test_the_layout_is_all_that_a_footprint_needs() -> None:
    spec = load(SPEC)
    assert logical(replace(spec, notes="other")) == logical(spec)
    assert spec.layout().context == 2000
