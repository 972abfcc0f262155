"""Names of shipped models, as people write them."""

from __future__ import annotations

import pytest

from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import catalogue_name, find_model, hub_ids, shipped, short_forms


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Qwen-72B", "qwen-72b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("deepseek-r1", "deepseek-v3"),
        ("llama-3.3-70b", "llama-3.1-70b"),
        ("Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("QwQ-32B", "qwen2.5-32b"),
    ],
)
def test_a_model_is_found_by_name_hub_id_or_what_is_left_of_one(written: str, name: str) -> None:
    assert catalogue_name(written) == name
    assert find_model(written).name == name


def test_no_short_form_names_two_models() -> None:
    """A short form is a catalogue name of its own model, or of none."""
    owners: dict[str, str] = {name: name for name in shipped()}
    for hub_id, name in hub_ids().items():
        for form in short_forms(hub_id):
            assert owners.setdefault(form, name) == name, form


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(KvcalcError) as caught:
        find_model("qwen-73b")
    assert "qwen-72b" in (caught.value.problems[0].help or "")
