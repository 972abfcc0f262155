"""SGLang, transformers, llama.cpp, LMDeploy, TensorRT-LLM, KIVI: every case of the oracle, to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from engine_factories import (
    cases,
    compressed,
    full,
    gdn,
    kda,
    mamba,
    mamba2,
    mla,
    model,
    parallel,
    shared,
    short_conv,
    sliding,
    sparse,
    work,
)

from kvcalc.attention import Attention
from kvcalc.cache_dtypes import BF16, parse_kv_cache_dtype
from kvcalc.engines import hf_transformers, ideal, llamacpp, lmdeploy, sglang, tensorrt_llm
from kvcalc.engines.base import Allocation
from kvcalc.spec.model import ModelSpec

Case = dict[str, Any]
GIB = 2**30


def attention(g: dict[str, Any]) -> Attention:
    if g.get("index_head_dim"):
        return sparse(g["index_head_dim"])
    if g.get("mla") or "kv_lora_rank" in g:
        return mla()
    return full(g.get("num_kv_heads", g.get("num_kv_heads_rank", 8)), g["head_dim"], g.get("v_head_dim"))


def uniform(g: dict[str, Any], layers: int) -> ModelSpec:
    return model({"a": attention(g)}, "a" * layers)


# --- SGLang


@pytest.mark.parametrize("case", cases("sglang", "cell_size_bytes_per_token_per_rank"))
def test_sglang_cells(case: Case) -> None:
    g = case["geometry"]
    settings = sglang.Settings(parallel=parallel(tp=case["tp"]))
    cells = sglang.pools(uniform(g, g["num_hidden_layers"]), parse_kv_cache_dtype(case["kv_dtype"]), settings)
    assert cells.full == case["expect_bytes"]


@pytest.mark.parametrize("case", cases("sglang", "pool_bytes_per_rank"))
def test_sglang_pools_keep_a_page_more(case: Case) -> None:
    g = case["geometry"]
    settings = sglang.Settings(parallel=parallel(tp=case["tp"]), block_size=case["page_size"])
    cells = sglang.pools(uniform(g, g["num_layers"]), parse_kv_cache_dtype(case["kv_dtype"]), settings)
    assert sglang.pool_bytes(cells, case["page_size"], tokens=case["pool_tokens"]) == case["expect_bytes"]


@pytest.mark.parametrize("case", cases("sglang", "state_pool_bytes_per_rank"))
def test_sglang_states_keep_a_slot_more(case: Case) -> None:
    kind = {"gated_delta_net": gdn(), "mamba2": mamba2(), "kda": kda()}[case["attn_kind"]]
    spec = model({"a": kind}, "a" * case["geometry"]["num_layers"])
    cells = sglang.pools(spec, BF16, sglang.Settings(parallel=parallel(tp=case["tp"])))
    assert cells.state == case["expect_bytes_per_req"]
    assert sglang.pool_bytes(cells, 1, states=case["pool_slots"]) == case["expect_bytes"]


@pytest.mark.parametrize("case", cases("sglang", "pool"))
def test_sglang_published_pools(case: Case) -> None:
    """Two logs of one pull request: with and without the indexer's keys. The padding page makes 54.515 print 54.52."""
    cell = 61 * 656 if "excluded" in case["attn_kind"] else None
    if cell is None:
        cell = sglang.pools(model({"a": sparse()}, "a" * 61), parse_kv_cache_dtype("fp8"), sglang.Settings()).full
    assert cell == case["expect_bytes_per_token"]
    assert cell * case["pool_tokens"] == case["expect_bytes"]
    assert f"{cell * (case['pool_tokens'] + 64) / GIB:.2f}" == f"{case['expect_gib_printed']:.2f}"


SGLANG_LOGS = [
    # (kind, layers, dtype, tp, tokens, printed K or KV in "GB", of K alone, source)
    (mla(), 61, "bf16", 8, 2_454_421, "160.63", False, "Kimi-K2.5 on 8 x B300 (stored copy 1272019175)"),
    (full(2, 128), 6, "fp8", 4, 19_644_177, "14.05", True, "Nemotron-H VL, 0.5.21 (stored copy 70117488909)"),
    (full(2, 512), 7, "bf16", 1, 805_556, "10.76", True, "gemma-4-E4B full pool (stored copy 54553741852)"),
    (full(2, 64), 24, "bf16", 1, 20_480, "0.12", True, "Qwen2-0.5B (stored copy 53259568910)"),
    (sparse(), 61, "fp8", 1, 975_424, "43.67", False, "DeepSeek-V3.2-Exp, sglang PR 11309"),
]


@pytest.mark.parametrize("row", SGLANG_LOGS, ids=[str(r[-1]) for r in SGLANG_LOGS])
def test_sglang_start_up_logs(row: tuple[Attention, int, str, int, int, str, bool, str]) -> None:
    kind, layers, dtype, tp, tokens, printed, key_alone, _ = row
    spec, settings = model({"a": kind}, "a" * layers), sglang.Settings(parallel=parallel(tp=tp))
    stored = sglang.engine_formats(spec, parse_kv_cache_dtype(dtype))
    key, value = sglang.side_bytes(spec, stored, settings, tokens + 1)
    assert f"{(key if key_alone else key + value) / GIB:.2f}" == printed


def test_sglang_window_pools_by_ratio() -> None:
    """gemma-4-E4B on a GB10 (stored copy 66975556316): 79.94 "GB", swa size 798,276, full size 997,846.

    The sizes are those of 71,680 B per window slot (20 layers of 2 x 256 heads... here 35 x 1 x 512) and 28,672 B per
    full slot; the ratio of 0.8 gives int(997,846 x 0.8) = 798,276.
    """
    spec = model({"s": sliding(512, 2, 256), "f": full(2, 512)}, "s" * 35 + "f" * 7)
    cells = sglang.pools(spec, BF16, sglang.Settings())
    assert (cells.window, cells.full) == (71_680, 28_672)
    budget = 997_846 * 28_672 + 798_276 * 71_680 + 71_680
    found = sglang.capacity(spec, budget, sglang.Settings(), BF16)
    assert (found.tokens, found.log_lines[0]) == (
        997_846,
        "SWAKVPool mem usage: 79.94 GB, swa size: 798276, full size: 997846",
    )


# --- TensorRT-LLM, LMDeploy


@pytest.mark.parametrize("case", cases("tensorrt-llm"))
def test_tensorrt_llm_sequences(case: Case) -> None:
    g = case["geometry"]
    settings = tensorrt_llm.Settings(parallel=parallel(tp=case["tp"]), block_size=case["block_size"])
    formats = parse_kv_cache_dtype(case["kv_dtype"])
    answer = tensorrt_llm.allocate(uniform(g, g["num_hidden_layers"]), work(case["seq_len"], formats=formats), settings)
    assert answer.per_rank_bytes == case["expect_bytes"]
    assert answer.unit_bytes == case["expect_bytes_per_token"] * case["block_size"]


def test_tensorrt_llm_log() -> None:
    """Qwen3-Reranker-0.6B on an H100 (stored copy 66094399229): 68.69 GiB, 643,136 tokens."""
    spec = model({"a": full(8)}, "a" * 28)
    found = tensorrt_llm.capacity(spec, int(68.695 * GIB), tensorrt_llm.Settings(), BF16)
    assert abs(643_136 * found.unit_bytes / 32 / GIB - 68.69) < 0.005
    assert found.tokens >= 643_136


LMDEPLOY_DTYPES = {"NONE": "bf16", "INT4": "int4", "INT8": "int8", "TURBO_QUANT": "lmdeploy_turbo_quant"}


@pytest.mark.parametrize("case", cases("lmdeploy(pytorch)"))
def test_lmdeploy_blocks(case: Case) -> None:
    g = case["geometry"]
    name = g.get("mla_kv_cache_dtype") or LMDEPLOY_DTYPES[case["kv_dtype"]]
    kind = mla() if g.get("use_flash_mla") else full(g["num_kv_heads"], g["head_dim"])
    spec = model({"a": kind}, "a" * g["num_hidden_layers"])
    settings = lmdeploy.Settings(parallel=parallel(tp=case["tp"]), block_size=case["block_size"])
    answer = lmdeploy.allocate(spec, work(case["seq_len"], formats=parse_kv_cache_dtype(name)), settings)
    assert (answer.unit_bytes, answer.per_rank_bytes) == (case["expect_block_bytes"], case["expect_bytes"])


@pytest.mark.parametrize("case", cases("lmdeploy(turbomind)"))
def test_turbomind_blocks(case: Case) -> None:
    g = case["geometry"]
    kind = mla() if "share_kv" in case["attn_kind"] else full(g["num_kv_heads_rank"], g["head_dim"])
    settings = lmdeploy.Settings(block_size=case["block_size"], backend="turbomind")
    formats = parse_kv_cache_dtype(case["kv_dtype"])
    answer = lmdeploy.allocate(model({"a": kind}, "a"), work(1, formats=formats), settings)
    assert answer.unit_bytes == case["expect_bytes"]


# --- KIVI: the formats alone, no rounding


@pytest.mark.parametrize("case", cases("kivi"))
def test_kivi_layers(case: Case) -> None:
    bits = case["kv_dtype"][1]
    formats = parse_kv_cache_dtype(f"kivi{bits}-g{case['group_size']}-r{case['residual_length']}")
    answer = ideal.allocate(uniform(case["geometry"], 1), work(case["seq_len"], formats=formats), ideal.Settings())
    assert answer.allocated_bytes == case["expect_bytes"]


# --- transformers


def transformers_model(case: Case) -> ModelSpec:
    g, kind = case["geometry"], case["attn_kind"]
    heads, layers = g["num_key_value_heads"], g["num_hidden_layers"]
    dim = g.get("head_dim", g["hidden_size"] // g["num_attention_heads"])
    kinds: dict[str, Attention] = {
        "f": full(heads, dim, g.get("v_head_dim")),
        "s": sliding(g.get("sliding_window", 1), heads, dim, g.get("v_head_dim")),
    }
    if kind == "diff_kv_swa":  # windows have heads of their own: 1,179,648 = 3 x 8 x 128 x 192 x 2 B
        kinds["s"] = sliding(129, 8, 192, 128)
    if kind == "kv_sharing_swa":
        kinds |= {"x": shared("s"), "y": shared("f")}
        return model(kinds, "ssssf" * 4 + "xxxxy" * 3)
    if kind == "mla_dsa_indexer":
        return model({"m": sparse()}, "m" * layers)
    if kind == "?":  # hy_v4: every other layer reuses an indexer's choice
        return model({"m": sparse(), "n": sparse(index_cache="shared")}, "mnmn")
    if kind == "csa_hca":
        return model({"w": compressed(0), "h": compressed(128), "c": compressed(4, 128)}, "whch")
    if kind == "kda_mla":
        return model({"a": kda(), "f": mla()}, "aaaafaaa")
    if kind == "mamba2_parallel_attn":  # falcon_h1 class defaults: d_ssm 1024 as 128 x 8, one group
        return model({"a": mamba2(128, 8, 256, 1), "f": kinds["f"]}, [("a", "f")] * layers)
    if kind == "mamba2_attn":  # bamba class defaults: 8192 channels as 128 x 64, one group
        return model({"a": mamba2(128, 64, 256, 1), "f": kinds["f"]}, "afaa")
    letters = {"full_attention": "f", "sliding_attention": "s", "linear_attention": "a", "conv": "a", "mlp": ""}
    order: list[str] = [letters[name] for name in g.get("layer_types") or []]
    if kind == "rglru":  # the recurrent block's state is not in this cache
        order = ["" if name == "a" else name for name in order]
    if kind == "swa":
        order = ["s"] * layers
    if "gdn" in kind:
        kinds["a"] = gdn()
    if kind == "hybrid_mamba2_attention":
        kinds["a"] = mamba2()
    if kind == "hybrid_short_conv_attention":
        kinds["a"] = short_conv()
    order = order or ["f"] * layers
    used = {name: value for name, value in kinds.items() if name in order}
    return model(used, order)


@pytest.mark.parametrize("case", cases("transformers", "cache_bytes"))
def test_transformers_caches(case: Case) -> None:
    settings = hf_transformers.Settings(cache=case["cache"], max_cache_len=case["max_cache_len"])
    answer = hf_transformers.allocate(transformers_model(case), work(case["seq_len"]), settings)
    figures = {f.name: f.bytes for f in answer.figures}
    assert figures == {
        "kept": case["expect_bytes"],
        "after_prefill": case["expect_storage_bytes"],
        "kept_next": case["expect_bytes_after_decode1"],
        "decoding_next": case["expect_storage_bytes_after_decode1"],
    }


@pytest.mark.parametrize("case", cases("transformers", "layer_bytes"))
def test_transformers_quantised_caches(case: Case) -> None:
    settings = hf_transformers.Settings(
        cache="quantized",
        nbits=int(case["kv_dtype"][-1]),
        q_group_size=case["q_group_size"],
        residual_length=case["residual_length"],
        prompt_len=case["seq_len"],
    )
    spec, tokens = uniform(case["geometry"], 1), case["seq_len"]
    assert hf_transformers.allocate(spec, work(tokens), settings).allocated_bytes == case["expect_bytes"]
    decoded = hf_transformers.allocate(spec, work(tokens + case["decode_steps"]), settings)
    assert decoded.figures[0].bytes == decoded.logical_bytes == case["expect_bytes_after_decode"]


def test_transformers_4_expanded_the_latent() -> None:
    """4.57.6: every head's K of 192 and V of 128 elements (2 B each), where version 5 stores 576 for all heads."""
    spec = model({"m": mla()}, "mm")
    old = hf_transformers.allocate(spec, work(100), hf_transformers.Settings(version="4.57.6"))
    assert old.allocated_bytes == 2 * 100 * 128 * (192 + 128) * 2
    for version in ("5.0.0", "5.23.0"):
        new = hf_transformers.allocate(spec, work(100), hf_transformers.Settings(version=version))
        assert new.allocated_bytes == 2 * 100 * 576 * 2
    indexed = model({"m": sparse(), "f": full()}, "mf")
    old = hf_transformers.allocate(indexed, work(100), hf_transformers.Settings(version="4.57.6"))
    assert old.allocated_bytes == 100 * 128 * (192 + 128) * 2 + 100 * 4096


# --- llama.cpp


def llamacpp_model(case: Case) -> ModelSpec:
    g, kind = case["geometry"], case["attn_kind"]
    if kind == "mla":
        return model({"a": mla()}, "a" * g["num_layers"])
    if kind == "mamba1":
        return model({"a": mamba(g["d_inner"], g["d_state"], g["d_conv"])}, "a" * g["num_layers"])
    if kind == "mamba2":
        heads = g["n_head"]
        kinds = {"a": mamba2(heads, g["d_inner"] // heads, g["d_state"], g["n_group"], g["d_conv"])}
        return model(kinds, "a" * g["num_layers"])
    kinds = {"f": full(g["num_kv_heads"], g["head_dim"])}
    if "sliding_window" in g:
        kinds["s"] = sliding(g["sliding_window"], g["num_kv_heads"], g["head_dim"])  # type: ignore[assignment]
        return model(kinds, "sssssf" * 2)
    return model(kinds, "f" * g["num_layers"])


def llamacpp_answer(case: Case) -> Allocation:
    key, value = case["kv_dtype"].split("/")
    settings = llamacpp.Settings(
        n_ctx=case["n_ctx_requested"],
        n_seq_max=case["n_seq_max"],
        kv_unified=bool(case["kv_unified"]),
        n_batch=case["n_batch"],
        n_ubatch=case["n_ubatch"],
        swa_full=bool(case["swa_full"]),
    )
    formats = parse_kv_cache_dtype(f"{key},value={value}")
    return llamacpp.allocate(llamacpp_model(case), work(1, formats=formats), settings)


@pytest.mark.parametrize("case", cases("llama.cpp"))
def test_llamacpp_contexts(case: Case) -> None:
    assert llamacpp_answer(case).allocated_bytes == case["expect_bytes"]
    context = llamacpp.cells(
        llamacpp.Settings(
            n_ctx=case["n_ctx_requested"], n_seq_max=case["n_seq_max"], kv_unified=bool(case["kv_unified"])
        )
    )
    assert (context.n_ctx, context.per_sequence) == (case["n_ctx"], case["n_ctx_seq"])


def test_the_batch_does_not_change_a_context() -> None:
    case = cases("llama.cpp")[3].values[0]
    assert isinstance(case, dict)
    settings = llamacpp.Settings(n_ctx=8192, n_seq_max=4)
    answers = [
        replace(llamacpp.allocate(llamacpp_model(case), work(1, batch), settings), batch_size=1).per_rank_bytes
        for batch in (1, 4)
    ]
    assert answers[0] == answers[1]
