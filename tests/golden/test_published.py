"""Figures that papers and engines print, against the same geometry here."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from factories import full, mla, model, size

from kvcalc.cache_dtypes import cache_dtype
from kvcalc.comparison import compare
from kvcalc.formats import Role, bytes_of
from kvcalc.spec.catalog import find_model
from kvcalc.variants import parse_variant

HERE = Path(__file__).parent
ENGINE_ROWS: list[dict[str, Any]] = json.loads((HERE / "engine_rows.json").read_text("utf-8"))


@pytest.mark.parametrize("case", ENGINE_ROWS, ids=lambda case: f"{case['id']}-{case['kv_cache_dtype']}")
def test_engines_store_rows_in_as_many_bytes(case: dict[str, Any]) -> None:
    """Blocks, tensors and pools that the engines' own code made, before they round them up."""
    dtype = cache_dtype(case["kv_cache_dtype"])
    total = 0
    for role, heads, width in case["streams"]:
        total += bytes_of(dtype.format(Role(role), width).bits(case["rows"], heads, width))
    assert total == case["bytes"]


# DeepSeek-V2, arXiv 2405.04434, table 9: KV cache per token (elements), printed in thousands.
# MHA of the small model: 27 layers x 16 heads x 128; of the large one: 60 layers x 56 heads x 128
# (n_heads x layers = 3,360 is the only product that prints as 860.2K at a head size of 128).
TABLE_9 = [
    ("small, MHA", model((27, full(num_attention_heads=16, num_key_value_heads=16, head_dim=128))), "110.6K"),
    ("small, MLA", model((27, mla(kv_lora_rank=512, qk_rope_head_dim=64))), "15.6K"),
    ("large, MHA", model((60, full(num_attention_heads=56, num_key_value_heads=56, head_dim=128))), "860.2K"),
    ("large, MLA", model((60, mla(kv_lora_rank=512, qk_rope_head_dim=64))), "34.6K"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "spec", "printed"), TABLE_9, ids=[case for case, _, _ in TABLE_9])
def test_deepseek_v2_table_9(case: str, spec: Any, printed: str) -> None:
    assert f"{size(spec, 1).kv_elements_per_sequence / 1000:.1f}K" == printed


def test_shipped_deepseek_models_have_the_latents_of_table_9() -> None:
    assert size(find_model("deepseek-v2-lite"), 1).kv_elements_per_sequence == 15_552
    assert size(find_model("deepseek-v2"), 1).kv_elements_per_sequence == 34_560


def test_93_3_percent_smaller_than_deepseek_67b_holds_only_with_the_6_bit_cache() -> None:
    # DeepSeek-V2, abstract: 93.3 %; section 3.2.3: 6 bits per element on average. 67B: 95 x 2 x 8 x 128 elements
    v2, old = find_model("deepseek-v2"), find_model("deepseek-llm-67b")
    report = compare([(old, None), (v2, None), (v2, parse_variant("kv:int6"))], seq_len=2000)
    plain, six_bits = (row.ratio for row in report.rows[1:])
    assert plain == Fraction(34_560 * 16, 194_560 * 16)
    assert six_bits == Fraction(34_560 * 6, 194_560 * 16)
    assert f"{float(1 - plain):.2%}" == "82.24%"
    assert f"{float(1 - six_bits):.1%}" == "93.3%"


def test_deepseek_v3_paper_multiples_of_its_cache() -> None:
    # arXiv 2505.09343 table 1: Qwen-2.5 72B 4.66x. Its 7.28x for LLaMA-3.1 405B is a slip: 516.096 / 70.272 = 7.344
    v3, qwen, llama = (size(find_model(name), 1).kv_bytes for name in ("deepseek-v3", "qwen2.5-72b", "llama-3.1-405b"))
    assert f"{qwen / v3:.2f}" == "4.66"
    assert f"{llama / v3:.3f}" == "7.344"


def test_qwen_72b_is_not_ten_kilobytes_per_token() -> None:
    # The count that is taken for bytes: 2 x 80 layers x 64 heads vectors of 128 elements of 2 B
    assert size(find_model("qwen-72b"), 1).kv_bytes == (2 * 80 * 64) * 128 * 2


# --- the same figures where the whole reference collection is at hand

REFERENCE = Path(os.environ.get("KVCALC_REFERENCE") or HERE.parents[2] / "shared" / "reference")
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference collection (KVCALC_REFERENCE)")


@needs_reference
def test_the_extract_is_the_reference_table() -> None:
    import csv

    with (
        (REFERENCE / "models.csv").open(encoding="utf-8") as whole,
        (HERE / "models.csv").open(encoding="utf-8") as part,
    ):
        rows = {row["name"]: row for row in csv.DictReader(whole)}
        for ours in csv.DictReader(part):
            theirs = rows.pop(ours["model"])
            for mine, their in (
                ("kv_bytes_per_token", "kv_bytes_per_token_bf16"),
                ("index_bytes_per_token", "indexer_bytes_per_token_bf16"),
                ("window_bytes_saturated",) * 2, ("state_bytes_bf16", "state_bytes_all_bf16"),
                ("state_bytes_fp32_and_bf16", "state_bytes_fp32ssm_bf16conv"), ("cross_bytes_per_encoder_token",) * 2,
                ("kv_4096",) * 2, ("kv_32768",) * 2, ("kv_131072",) * 2,
            ):  # fmt: skip
                assert int(ours[mine]) == int(theirs[their] or 0), (ours["model"], mine)
    assert not rows


@needs_reference
def test_every_oracle_case_of_kivi_ggml_and_per_token_head_is_in_the_extract() -> None:
    cases = json.loads((REFERENCE / "engine_oracle.json").read_text("utf-8"))
    wanted = {
        case["id"]
        for case in cases
        if case["engine"] == "kivi"
        or (case["engine"] == "llama.cpp" and "q" in case["kv_dtype"])
        or "per_token_head" in case["kv_dtype"]
    }
    assert wanted
    assert wanted <= {case["id"] for case in ENGINE_ROWS}
