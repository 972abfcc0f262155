"""Shipped specs against figures that others computed.

models.csv: bytes in bf16 of the models' own configs, worked out from first principles by a script that shares
nothing with kvcalc; where a model has a class in transformers 5.23, its KV elements were compared with that
class's real cache (equal, but for Falcon-40B, whose cache there holds expanded heads). `kv_N` leaves out
recurrent states and cross-attention. State columns: all in bf16, and a recurrent part in fp32 beside a bf16
convolution, which keeps kernel - 1 columns.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Footprint, Workload, footprint
from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import find_model, shipped, shipped_raw
from kvcalc.spec.validate import load_model

ROWS = {row["model"]: row for row in csv.DictReader((Path(__file__).parent / "models.csv").open(encoding="utf-8"))}

NO_HUB_ID = {"openai/gpt3-175b": "gpt3-175b"}
"""Never published there: the row's name is not a repository."""

REQUIRED = [
    "qwen-7b", "qwen-72b", "qwen1.5-72b", "qwen2-72b", "qwen2.5-72b", "qwen3-8b", "qwen3-32b",
    "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-next-80b-a3b", "qwen3.5-27b", "llama-2-7b", "llama-2-70b",
    "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-4-scout-17b-16e", "llama-4-maverick-17b-128e",
    "mistral-7b-v0.1", "mistral-7b-v0.3", "mixtral-8x7b", "deepseek-llm-67b", "deepseek-v2",
    "deepseek-v2-lite", "deepseek-v3", "deepseek-v3.2", "deepseek-v4-pro", "kimi-k2", "kimi-linear-48b-a3b",
    "minicpm3-4b", "glm-4.5", "glm-5", "gemma-2-9b", "gemma-3-27b", "gemma-3n-e4b", "gemma-4-26b-a4b",
    "gpt-oss-120b", "phi-3-mini-4k", "phi-4", "falcon-7b", "falcon-40b", "starcoder", "mpt-7b", "gpt2",
    "gpt3-175b", "opt-13b", "bloom", "yi-34b", "dbrx", "grok-1", "jamba-v0.1", "mamba2-2.7b",
    "nemotron-h-56b", "nemotron-3-nano-30b-a3b", "granite-4.0-h-small", "minimax-text-01", "minimax-m2",
    "step3", "mimo-v2-flash", "olmo-2-1124-7b", "olmo-3-1025-7b", "smollm3-3b", "lfm2-1.2b", "t5-11b",
    "whisper-large-v2", "command-r", "hunyuan-large",
]  # fmt: skip


def counted(model: str, seq_len: int, dtype: str = "bf16", encoder: int = 0) -> Footprint:
    formats = parse_kv_cache_dtype(dtype)
    spec = find_model(NO_HUB_ID.get(model, model))
    return footprint(spec, Workload(batch_size=1, seq_len=seq_len, encoder_len=encoder, formats=formats))


def test_sixty_models_are_shipped() -> None:
    assert len(shipped()) >= 60


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_model_is_shipped_under_its_name(name: str) -> None:
    assert name in shipped()


@pytest.mark.parametrize("model", ROWS)
def test_every_reference_model_is_found_by_its_hub_id(model: str) -> None:
    assert find_model(NO_HUB_ID.get(model, model)).layers


@pytest.mark.parametrize("model", ROWS)
def test_bytes_at_three_lengths(model: str) -> None:
    for tokens in (4096, 32768, 131072):
        found = counted(model, tokens, encoder=37)
        assert found.kv_bytes - found.cross_bytes == int(ROWS[model][f"kv_{tokens}"]), tokens


@pytest.mark.parametrize("model", ROWS)
def test_slope_and_indexer(model: str) -> None:
    row = ROWS[model]
    grown = counted(model, 1).growth
    told = int(row["kv_bytes_per_token"]) + int(row["index_bytes_per_token"])
    assert grown.step_bytes == told * grown.step_tokens
    at = 128 * 1000  # a multiple of every stride
    assert counted(model, at).index_bytes == int(row["index_bytes_per_token"]) * at


@pytest.mark.parametrize("model", ROWS)
def test_windows_and_states_make_up_the_fixed_bytes(model: str) -> None:
    row = ROWS[model]
    for dtype, column in (
        ("bf16,state=bf16,conv=bf16", "state_bytes_bf16"),
        ("bf16,state=fp32,conv=bf16", "state_bytes_fp32_and_bf16"),
    ):
        found = counted(model, 131072, dtype)
        assert found.state_bytes == int(row[column])
        assert found.growth.fixed_bytes == int(row["window_bytes_saturated"]) + int(row[column])


@pytest.mark.parametrize("model", ROWS)
def test_cross_attention_per_encoder_token(model: str) -> None:
    assert counted(model, 1, encoder=63).cross_bytes == 63 * int(ROWS[model]["cross_bytes_per_encoder_token"])


# --- figures that stand by themselves, with a source of their own

PER_TOKEN = [
    # (model, dtype, bytes per token, arithmetic)
    ("qwen-72b", "bf16", 2_621_440),  # 2 x 80 layers x 64 heads x 128 x 2 B
    ("deepseek-v2", "bf16", 69_120),  # 60 x 576 x 2 B
    ("deepseek-v3", "bf16", 70_272),  # 61 x 576 x 2 B; arXiv 2505.09343 table 1: 70.272 KB
    ("minicpm3-4b", "bf16", 35_712),  # 62 x (256 + 32) x 2 B
    ("llama-3.1-405b", "bf16", 516_096),  # 126 x 2 x 8 x 128 x 2 B; arXiv 2505.09343 table 1: 516.096 KB
    ("qwen2.5-72b", "bf16", 327_680),  # 80 x 2 x 8 x 128 x 2 B; arXiv 2505.09343 table 1: 327.680 KB
    ("deepseek-v3.2", "fp8_ds_mla", 48_068),  # 61 x (656 + 132): SGLang 0.5.23 prints this cell size
    ("deepseek-v3.2", "bf16,index=fp8_ds_mla", 78_324),  # 61 x (1,152 + 132): SGLang 0.5.23
]


@pytest.mark.parametrize(("model", "dtype", "expected"), PER_TOKEN)
def test_bytes_per_token(model: str, dtype: str, expected: int) -> None:
    grown = counted(model, 1, dtype).growth
    assert (grown.fixed_bytes, grown.step_bytes, grown.step_tokens) == (0, expected, 1)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemma-3-27b", 11_173_625_856), ("gpt-oss-120b", 4_836_556_800), ("llama-4-scout-17b-16e", 7_650_410_496),
        ("llama-4-maverick-17b-128e", 7_650_410_496), ("qwen3-next-80b-a3b", 3_221_225_472),
    ],
)  # fmt: skip
def test_bytes_at_131072_tokens(model: str, expected: int) -> None:
    assert counted(model, 131_072).kv_bytes == expected


def test_step_3_report_table_3_counts_at_32k() -> None:
    # Step-3 report, table 3: DeepSeek-V3 and Kimi-K2 read 1.15e9 B per decoded token at 32K: fp8 latents
    for model in ("deepseek-v3", "kimi-k2"):
        assert round(counted(model, 32_768, "fp8").kv_bytes / 1e9, 2) == 1.15


# --- every spec holds


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_spec_validates_and_is_built_alike(name: str) -> None:
    path = shipped()[name]
    spec, _ = load_model(path.name, path.read_bytes())
    assert find_model(name) == spec
    assert spec.name == name
    assert spec.sources
    assert spec.hub_id is None or find_model(spec.hub_id) == spec


def test_no_two_specs_answer_to_one_hub_id() -> None:
    seen: dict[str, str] = {}
    for name in shipped():
        raw = shipped_raw(name)
        for hub_id in {str(i).lower() for i in (raw.get("hub_id"), *raw.get("aliases", ())) if i}:
            assert seen.setdefault(hub_id, name) == name, hub_id
            assert hub_id not in shipped() or hub_id == name


def test_ambiguous_names_are_not_answered_by_guess() -> None:
    assert find_model("qwen-72b") != find_model("qwen2-72b")
    for wrong in ("qwen72b", "llama", "deepseek"):
        with pytest.raises(KvcalcError):
            find_model(wrong)
