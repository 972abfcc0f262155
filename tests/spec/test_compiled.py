"""What a wheel keeps compiled says the same as the files that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvcalc.spec import compiled
from kvcalc.spec.catalog import catalogue_name, hub_ids, shipped, shipped_model
from kvcalc.spec.compiling import compile_shipped
from kvcalc.spec.hardware_catalog import shipped_hardware
from kvcalc.spec.yamlio import load_yaml


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "FOLDER", found)
        compile_shipped()
    return found


@pytest.fixture(autouse=True)
def kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "FOLDER", folder)


def test_the_data_of_every_file_is_kept_with_its_types() -> None:
    for path in (*shipped().values(), *shipped_hardware().values()):
        assert compiled.data_file(path).exists()
        assert repr(compiled.plain_data(path)) == repr(load_yaml(str(path), path.read_bytes()).data)


def test_the_layout_of_every_model_is_kept() -> None:
    for name, path in shipped().items():
        assert compiled.layout(path) == shipped_model(name).layout()


def test_a_file_that_has_changed_since_is_read_itself(tmp_path: Path) -> None:
    path = shipped()["qwen-72b"]
    changed = tmp_path / path.parent.name / path.name
    changed.parent.mkdir()
    changed.write_bytes(path.read_bytes().replace(b"max_position_embeddings: 32768", b"max_position_embeddings: 9"))
    assert compiled.plain_data(path)["max_position_embeddings"] == 32_768
    assert compiled.plain_data(changed)["max_position_embeddings"] == 9
    assert compiled.layout(changed) is None


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    path = shipped()["qwen-72b"]
    for damaged in (compiled.data_file(path), compiled.layout_file(path)):
        damaged.parent.mkdir(parents=True)
        damaged.write_text("[1, ")
    assert compiled.plain_data(path)["name"] == "qwen-72b"
    assert compiled.layout(path) is None


def test_every_hub_id_leads_to_its_model() -> None:
    assert len(hub_ids()) > len(shipped()) * 0.9
    for hub_id, name in hub_ids().items():
        assert catalogue_name(hub_id.upper()) == name
    assert catalogue_name("no-such/model") is None
    assert catalogue_name("qwen") is None
