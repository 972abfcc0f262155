"""Drift from a config.json: layers are compared as they resolve, never as they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checks.spec_text import checked, found, plain

from kvcalc.checks.subject import World
from kvcalc.problems import KvcalcError, Problem

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 64, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 1000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def drift(tmp_path: Path, spec: str, **changed: object) -> list[tuple[str, str]]:
    """(code, line:column) of a spec beside a config with these changes."""
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **changed}))
    path = tmp_path / "tiny.yaml"
    path.write_text(spec)
    report = checked(path, world=World(against=str(tmp_path / "config.json")))
    return [(code, place) for _, code, place in found(report)]


def place_of(text: str, spec: str) -> str:
    """line:column of the first `text` in a spec."""
    before = spec[: spec.index(text)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def test_an_equal_config_is_no_drift(tmp_path: Path) -> None:
    assert drift(tmp_path, plain()) == []


def test_another_way_of_writing_is_no_drift(tmp_path: Path) -> None:
    split = plain().replace("- {count: 12, attention: full}", "- {count: 6, pattern: [{count: 2, attention: full}]}")
    assert drift(tmp_path, split) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"num_hidden_layers": 13}, ("KV401", "layers:")),
        ({"num_key_value_heads": 4}, ("KV402", "2, head_dim")),
        ({"head_dim": 32}, ("KV402", "64}")),
        ({"max_position_embeddings": 8192}, ("KV403", "4096")),
    ],
)
def test_a_figure_that_differs_is_found_at_its_place(
    tmp_path: Path, changed: dict[str, object], expected: tuple[str, str]
) -> None:
    code, text = expected
    assert drift(tmp_path, plain(), **changed) == [(code, place_of(text, plain()))]


def test_layers_that_keep_a_window_in_the_config_alone_are_drift(tmp_path: Path) -> None:
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 1024}
    assert drift(tmp_path, plain(), **mistral) == [("KV402", place_of("full, num", plain()))]


def test_weights_that_differ_are_found(tmp_path: Path) -> None:
    weights = "hidden_size: 512\nvocab_size: 1001\nffn:\n  dense: {kind: dense, intermediate_size: 4096}\n"
    spec = plain(more=weights).replace("attention: full}", "attention: full, ffn: dense}")
    assert drift(tmp_path, spec) == [("KV404", place_of("1001", spec)), ("KV404", place_of("4096}", spec))]


def test_a_folder_of_configs_is_searched_by_hub_id(tmp_path: Path) -> None:
    (tmp_path / "configs" / "nobody" / "tiny").mkdir(parents=True)
    config = {**LLAMA, "num_hidden_layers": 13}
    (tmp_path / "configs" / "nobody" / "tiny" / "config.json").write_text(json.dumps(config))
    (tmp_path / "a.yaml").write_text(plain("a", more="hub_id: nobody/tiny\n"))
    (tmp_path / "b.yaml").write_text(plain("b", more="hub_id: nobody/other\n"))
    report = checked(tmp_path / "a.yaml", tmp_path / "b.yaml", world=World(against=str(tmp_path / "configs")))
    assert found(report) == [("a.yaml", "KV401", "6:1"), ("b.yaml", "KV405", "1:1")]


def test_a_config_that_is_refused_is_reported(tmp_path: Path) -> None:
    assert drift(tmp_path, plain(), model_type="nobody_knows") == [("KV405", "1:1")]


def test_the_folder_of_reference_configs_agrees_with_our_own_specs() -> None:
    """The mirror of the catalogue's own tests: where configs are at hand, no shipped spec drifts from its config."""
    from kvcalc.spec.catalog import SPEC_FOLDER

    configs = Path(__file__).parents[3] / "shared" / "reference" / "configs"
    if not configs.is_dir():
        pytest.skip("no folder of configs here")
    report = checked(SPEC_FOLDER, world=World(against=str(configs)), select=("KV40",))
    drifted = [
        (f.problem.path, f.problem.code, f.problem.message) for f in report.findings if f.problem.code != "KV405"
    ]
    assert drifted == []


def test_the_hub_is_asked_once_for_each_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(hub_id: str, commit: str) -> Path:
        asked.append((hub_id, commit))
        if hub_id.endswith("gone"):
            raise KvcalcError(Problem(code="KV805", message=f"{hub_id}: no such repository"))
        return tmp_path / "config.json"

    monkeypatch.setattr("kvcalc.importers.hub.fetch_config", fetch)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 13}))
    for name, hub_id in (("a", "nobody/tiny"), ("b", "nobody/gone"), ("c", None)):
        (tmp_path / f"{name}.yaml").write_text(plain(name, more=f"hub_id: {hub_id}\n" if hub_id else ""))
    report = checked(*sorted(tmp_path.glob("*.yaml")), world=World(hub=True))
    assert found(report) == [("a.yaml", "KV401", "6:1"), ("b.yaml", "KV405", "1:1")]
    assert asked == [("nobody/tiny", "main"), ("nobody/gone", "main")]


def test_a_commit_pins_the_config_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(hub_id: str, commit: str) -> Path:
        asked.append(commit)
        return tmp_path / "config.json"

    monkeypatch.setattr("kvcalc.importers.hub.fetch_config", fetch)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 13}))
    commit = "0123456789abcdef" * 2 + "01234567"
    (tmp_path / "a.yaml").write_text(plain("a", more=f'hub_id: nobody/tiny\nrevision: "{commit}"\n'))
    (tmp_path / "b.yaml").write_text(plain("b", more='hub_id: nobody/small\nrevision: "2026-11"\n'))
    report = checked(tmp_path / "a.yaml", tmp_path / "b.yaml", world=World(hub=True))
    assert asked == [commit, "main"]
    assert [f.problem.message for f in report.findings] == [
        "12 layers, but nobody/tiny's config.json at 0123456789 has 13",
        "12 layers, but nobody/small's config.json has 13",
    ]


def test_of_a_hub_cache_the_pinned_commit_is_read(tmp_path: Path) -> None:
    commits = ["a" * 40, "b" * 40]
    for commit, layers in zip(commits, (13, 12), strict=True):
        folder = tmp_path / "hub" / "models--nobody--tiny" / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": layers}))
    path = tmp_path / "tiny.yaml"
    for commit, codes in zip(commits, (["KV401"], []), strict=True):
        path.write_text(plain(more=f'hub_id: nobody/tiny\nrevision: "{commit}"\n'))
        report = checked(path, world=World(against=str(tmp_path / "hub")))
        assert [code for _, code, _ in found(report)] == codes


@pytest.mark.parametrize("name", ["../outside", "{outside}", "*", "../configs/**"])
def test_a_name_leads_to_no_config_outside_the_folder(tmp_path: Path, name: str) -> None:
    configs, outside = tmp_path / "configs", tmp_path / "outside"
    for folder in (configs / "other", outside):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(LLAMA))
    path = tmp_path / "tiny.yaml"
    path.write_text(plain() + f"hub_id: {json.dumps(name.format(outside=outside))}\n")
    report = checked(path, world=World(against=str(configs)), select=("KV4",))
    assert [code for _, code, _ in found(report)] == ["KV405"]
