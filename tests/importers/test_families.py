"""Each family's config becomes the caches its model keeps; what is not understood is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_asking import answer, imported
from import_configs import KNOWN, Known, of

from kvcalc.importers.hf_config import FAMILIES, read_document
from kvcalc.importers.load import json_document, load_config, spec_of
from kvcalc.importers.refused import REFUSED
from kvcalc.problems import KvcalcError

LONG = 1_280_000
"""Beyond every window, and whole strides of DeepSeek-V4."""


@pytest.mark.parametrize("known", KNOWN.values(), ids=list(KNOWN))
def test_bytes_by_hand_arithmetic(known: Known) -> None:
    found = answer(spec_of(imported(known.config)), (LONG,)).at[0]
    assert found[0] == known.token * LONG + known.window
    assert found[2] == known.state


def test_a_config_with_a_format_for_each_matrix_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    """MiniMax-M3-NVFP4's config.json has 3,087,083 bytes: 22,422 entries of `quantized_layers`."""
    lists = {f"model.layers.{n}.mlp.experts.0.w1": {"quant_algo": "NVFP4", "group_size": 16} for n in range(22_422)}
    config = of("llama", quantization_config={"quant_method": "modelopt", "quantized_layers": lists})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert 2**20 < path.stat().st_size < 2**22
    assert load_config(str(path)).raw["layers"] == imported(of("llama")).raw["layers"]
    path.write_text(json.dumps(config) + " " * 2**22, encoding="utf-8")
    with pytest.raises(KvcalcError, match="larger than 4,194,304 bytes"):
        load_config(str(path))


def test_encoder_decoders_keep_both() -> None:
    t5 = {"model_type": "t5", "num_layers": 3, "num_decoder_layers": 5, "num_heads": 4, "d_kv": 32, "d_model": 512,
          "d_ff": 64, "vocab_size": 100, "n_positions": 512}  # fmt: skip
    found = answer(spec_of(imported(t5)), (10,))
    # 5 decoder layers x 2 x 4 heads x 32 x 2 B, for each of 10 tokens; the same for each of 1,000 encoder tokens
    assert found.at[0][0] == 5 * 2 * 4 * 32 * 2 * 10
    assert found.cross == 5 * 2 * 4 * 32 * 2 * 1000


def test_whisper_states_its_source_length() -> None:
    whisper = {"model_type": "whisper", "d_model": 512, "encoder_layers": 2, "decoder_layers": 4, "vocab_size": 100,
               "encoder_attention_heads": 4, "decoder_attention_heads": 8, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
               "max_source_positions": 1500, "max_target_positions": 448, "num_mel_bins": 80}  # fmt: skip
    spec = spec_of(imported(whisper))
    assert (spec.max_source_positions, spec.max_position_embeddings) == (1500, 448)
    assert answer(spec, (10,)).cross == 4 * 2 * 512 * 2 * 1000


def test_prediction_layers_are_kept_apart() -> None:
    found = imported(KNOWN["deepseek_v3"].config).raw
    assert sum(entry.get("count", 1) for entry in found["layers"]) == 12
    assert [entry["attention"] for entry in found["mtp_layers"]] == ["mla"]


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ({"model_type": "mystery", "num_hidden_layers": 2, "kv_ratio": 3}, "KV802", "kv_ratio"),
        ({"model_type": "lama"}, "KV802", "did you mean llama"),
        ({"num_hidden_layers": 2}, "KV802", "model_type is missing"),
        ({"model_type": 7}, "KV802", "model_type is missing"),
        (of("rwkv"), "KV802", "recurrent state"),
        (of("bert"), "KV802", "keeps no KV cache"),
        (of("llama", sliding_window=128), "KV803", "sliding_window"),
        (of("llama", kv_sharing_map=[0, 0]), "KV803", "kv_sharing_map"),
        (of("llama", compressed_attention={"ratio": 4}), "KV803", "compressed_attention"),
        (of("deepseek_v3", kv_lora_rank=8), "KV801", "qk_rope_head_dim"),
        (of("llama", num_hidden_layers=0), "KV801", "at least 1"),
        (of("llama", num_hidden_layers="12"), "KV801", "expected an integer"),
        (of("llama", num_hidden_layers=True), "KV801", "expected an integer"),
        (of("llama", num_hidden_layers=2**50), "KV801", "at most 1,000"),
        (of("llama", head_dim=2**50), "KV801", "at most 2\\^40"),
        (of("llama", num_attention_heads=7), "KV801", "not a multiple"),
        (of("gemma3_text", head_dim=64), "KV801", "sliding_window is missing"),
        (of("gemma2", head_dim=64, sliding_window=8, layer_types=["full_attention"]), "KV801", "1 entries for 12"),
        (of("gemma2", sliding_window=8, layer_types=["linear_attention"] * 12), "KV801", "linear_attention"),
        (of("falcon", num_key_value_heads=..., num_kv_heads=2), "KV801", "new_decoder_architecture is missing"),
        (of("lfm2", full_attn_idxs=[12], conv_L_cache=3), "KV801", "a layer beyond"),
        (of("qwen3_moe", sliding_window=8, use_sliding_window=True), "KV801", "which layers take the window"),
        (of("bailing_moe_v2", num_key_value_heads=...), "KV801", "num_key_value_heads is missing"),
        ({"model_type": "llava"}, "KV801", "text_config is missing"),
        ({"model_type": "gemma3", "text_config": [1]}, "KV801", "expected a mapping"),
        ({"model_type": "qwen3_vl", "text_config": {"model_type": "mystery"}}, "KV802", "mystery"),
        (of("grok-1", head_dim=64, num_key_value_heads=3), "KV101", "cannot be shared"),
    ],
)  # fmt: skip
def test_refused_with_a_reason(config: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(KvcalcError, match=message) as caught:
        spec_of(imported(config))
    problem = caught.value.problems[0]
    assert problem.code == code
    assert problem.path == "config.json"


def test_a_key_that_is_not_understood_is_pointed_at() -> None:
    text = '{\n  "model_type": "llama",\n  "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,\n'
    text += '  "num_key_value_heads": 2,\n  "kv_stride": 4\n}\n'
    with pytest.raises(KvcalcError) as caught:
        read_document(json_document("my/config.json", text.encode()))
    problem = caught.value.problems[0]
    assert (problem.code, problem.place) == ("KV803", "my/config.json:5:3")
    assert "--assume dense-gqa" in (problem.help or "")


def test_an_assumption_is_the_users_word_and_shows_in_the_name() -> None:
    strange = of("mystery", kv_stride=4)
    with pytest.raises(KvcalcError):
        imported(strange)
    document = json_document("strange.json", json.dumps(strange).encode())
    found = read_document(document, assume="dense-gqa")
    assert found.assumed
    spec = spec_of(found)
    assert spec.name == "strange [assumed dense-gqa]"
    assert answer(spec, (10,)).at[0][0] == KNOWN["llama"].token * 10
    with pytest.raises(KvcalcError, match="--assume 'mla' is not known"):
        read_document(document, assume="mla")


def test_an_assumption_does_not_touch_what_is_understood() -> None:
    document = json_document("c.json", json.dumps(KNOWN["gemma2"].config).encode())
    found = read_document(document, assume="dense-gqa")
    assert not found.assumed
    assert spec_of(found).name == "c"


def test_what_a_checkpoint_says_of_its_kv_cache_is_noted_and_not_followed() -> None:
    quantised = of("llama", quantization_config={
        "quant_method": "modelopt", "quant_algo": "NVFP4",
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"}})  # fmt: skip
    found = imported(quantised)
    assert "FP8" in found.raw["notes"]
    assert answer(spec_of(found)) == answer(spec_of(imported(of("llama"))))


def test_defaults_are_told() -> None:
    found = imported(KNOWN["gemma3, nested and sparse"].config)
    told = " ".join(found.defaults)
    for key in ("num_attention_heads = 8", "num_key_value_heads = 4", "head_dim = 256", "sliding_window_pattern = 6"):
        assert key in told
    assert {"source": "transformers 5.23.0", "kind": "class-default"} in found.raw["sources"]


def test_no_family_is_both_read_and_refused() -> None:
    assert not set(FAMILIES) & set(REFUSED)
    assert len(FAMILIES) >= 140
    assert all(family.source for family in FAMILIES.values())
