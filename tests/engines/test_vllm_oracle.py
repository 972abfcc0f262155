"""vLLM: every case of the oracle, to the byte. Values were got by executing vLLM's own planner (see each `source`)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from engine_factories import (
    cases,
    chunked,
    compressed,
    cross,
    full,
    gdn,
    kda,
    lightning,
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

from kvcalc.cache_dtypes import FormatChoice, parse_kv_cache_dtype
from kvcalc.engines.base import Figure
from kvcalc.engines.checks import longest_that_fits
from kvcalc.engines.vllm import allocate, capacity, planned
from kvcalc.engines.vllm.capacity import capacity_of_blocks
from kvcalc.engines.vllm.pages import Page, model_pages
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import Settings
from kvcalc.spec.model import ModelSpec

Case = dict[str, Any]
BEYOND = {
    "vllm-130": "QSA key ring (qwen4_exp): no such kind in kvcalc",
    "vllm-133": "MSA indexer (minimax_m3): no such kind in kvcalc",
    "vllm-135": "sparse summary (step5): no such kind in kvcalc",
}
"""Out of scope; docs/engines.md lists them. Their bytes are checked as plain arithmetic below."""


def formats_of(case: Case) -> FormatChoice:
    name = case["kv_dtype"].split("/")[0]
    rope = case["geometry"].get("rope_dim")
    if name.startswith("octave") and rope != case["geometry"]["head_dim"]:
        name = f"{name}-r{rope}"
    return parse_kv_cache_dtype("fp8_ds_mla" if name.startswith("uint8") else name)


def page_of(case: Case) -> Page:
    """The one page that a page_bytes case is about."""
    kind, g, settings = case["attn_kind"], case["geometry"], settings_of(case)
    formats = formats_of(case)
    if kind.startswith("deepseek_v4"):
        return compressed_page(case)
    if kind.startswith("mla"):
        return model_pages(model({"m": mla()}, "m"), formats, settings)[0]
    if kind == "dsa_indexer":
        return model_pages(model({"m": sparse(g["index_head_dim"])}, "m"), formats, settings)[1]
    heads = g.get("num_kv_heads_total", g.get("num_kv_heads_rank"))
    layers = model({"f": full(heads, g["head_dim"], g.get("head_dim_v"))}, "f")
    from dataclasses import replace

    return model_pages(layers, formats, replace(settings, skip_layers=()))[0]


def compressed_page(case: Case) -> Page:
    g, name = case["geometry"], case["attn_kind"].split(":")[-1]
    record = "mxfp8_ds_mla" if "MXFP8" in g.get("record", "") else "fp8_ds_mla"
    index = ",index=mxfp4" if name.endswith("fp4") else ""
    formats = parse_kv_cache_dtype(record + index)
    ratio = g.get("compress_ratio", 4)
    kind = compressed(ratio, index=128 if ratio == 4 else None)
    pages = {p.streams[0].name: p for p in pages_without_compressor(kind, formats, settings_of(case))}
    wanted = {
        "csa_c4_main": "compressed",
        "hca_c128_main": "compressed",
        "csa_c4_indexer_fp8": "index",
        "csa_c4_indexer_fp4": "index",
        "dsv4_swa": "window",
        "c4_compressor_state": "compressor",
        "c128_compressor_state": "compressor",
        "c4_indexer_compressor_state": "index_compressor",
        "deepseek_v41_kv_source": "compressed",
    }[name]
    return pages[wanted]


def pages_without_compressor(kind: Any, formats: FormatChoice, settings: Settings) -> list[Page]:
    """V4.1's strides of 1 and 2 have no compressor of V4's: look at the compressed rows alone."""
    from kvcalc.engines.vllm.pages import _latent_page

    if kind.compress_ratio in (4, 128):
        from dataclasses import replace

        return list(model_pages(model({"c": kind}, "c"), formats, replace(settings, block_size=None)))
    stream = next(s for s in kind.streams() if s.name == "compressed")
    return [_latent_page(0, stream, formats, settings.block_size or 256, compressed=True)]


def settings_of(case: Case) -> Settings:
    disabled = "disable_hybrid" in case["attn_kind"]
    hybrid = case["attn_kind"].startswith(("hybrid_gdn", "hybrid_mamba"))
    block = None if hybrid or "skip_layers" in case["geometry"] else case.get("block_size")
    return Settings(
        parallel=parallel(tp=case.get("tp", 1), dcp=case.get("dcp", 1)),
        block_size=block,
        max_model_len=case.get("max_model_len"),
        max_num_batched_tokens=case.get("prefill_chunk") or case.get("max_num_batched_tokens") or 8192,
        async_scheduling=case.get("async_scheduling", True),
        hybrid_kv_cache_manager=not disabled,
        num_speculative_tokens=1 if "mtp" in case["attn_kind"] else 0,
    )


@pytest.mark.parametrize("case", cases("vllm", "page_bytes_per_layer_per_rank"))
def test_a_page_takes_what_vllm_says(case: Case) -> None:
    if case["id"] in BEYOND:
        pytest.skip(BEYOND[case["id"]])
    page = page_of(case)
    assert page.page_bytes == case["expect_bytes"]
    assert page.block_size == case["block_size"]
    if "unpadded_bytes" in case:
        assert page.rank_bytes == case["unpadded_bytes"]


def state_model(case: Case) -> ModelSpec:
    g, kind = case["geometry"], case["attn_kind"]
    if kind == "gated_delta_net":
        return model({"a": gdn()}, "a")
    if kind == "mamba1":
        return model({"a": mamba(g["mamba_expand"] * g["hidden_size"], g["mamba_d_state"], g["mamba_d_conv"])}, "a")
    if kind == "mamba2":
        kinds = {"a": mamba2(g["mamba_num_heads"], g["mamba_head_dim"], g["ssm_state_size"], g["n_groups"])}
        return model(kinds, "a", model_type="nemotron_h")
    if kind == "short_conv":
        return model({"a": short_conv(g["conv_dim"], g["conv_L_cache"])}, "a")
    if kind == "kda":
        return model({"a": kda(g["num_heads"], g["head_dim"])}, "a", model_type="kimi_linear")
    return model({"a": lightning(g["num_heads"], g["head_dim"])}, "a")


@pytest.mark.parametrize("case", cases("vllm", "state_bytes_per_layer_per_rank"))
def test_a_state_takes_what_vllm_says(case: Case) -> None:
    dtypes = case["kv_dtype"].split("/")
    settings = Settings(parallel=parallel(tp=case["tp"]))
    if case["attn_kind"].startswith("lightning"):
        settings = Settings(parallel=parallel(tp=case["tp"]), mamba_ssm_cache_dtype=dtypes[-1])
    (page,) = model_pages(state_model(case), parse_kv_cache_dtype("bf16"), settings)
    assert page.page_bytes == case["expect_bytes"]


GEMMA3 = "".join("f" if i % 6 == 5 else "s" for i in range(62))


def sequence_model(case: Case) -> ModelSpec:
    """The layers of a sequence_bytes case."""
    g, kind, name = case["geometry"], case["attn_kind"], case["geometry"]["model"]
    layers = g["num_hidden_layers"]
    context = case["max_model_len"]
    heads = g.get("num_key_value_heads", g.get("num_kv_heads_rank", 0))
    if "num_kv_heads_rank" in g:
        heads = TOTAL_HEADS.get(name, heads)
    plain = {"f": full(heads, g["head_dim"])} if "head_dim" in g and heads else {}
    if kind.startswith("mla+dsa"):
        return model({"m": sparse(g["index_head_dim"])}, "m" * layers, context=context)
    if kind.startswith("mla"):
        return model({"m": mla()}, "m" * layers, mtp="m" if "mtp" in kind else None, context=context)
    if kind == "swa":
        return model({"s": sliding(g["sliding_window"], heads)}, "s" * layers, context=context)
    if "chunked" in kind:
        return model({"f": full(heads), "c": chunked(g["attention_chunk_size"], heads)}, "cccf" * (layers // 4))
    if "kv_sharing" in kind:
        kinds = {
            "f": full(heads, 256),
            "s": sliding(g["sliding_window"], heads, 256),
            "x": shared("s"),
            "y": shared("f"),
        }
        return model(kinds, "ssssf" * 4 + "xxxxy" * 3, context=context)
    if kind.startswith("hybrid_swa"):
        kinds = {"f": full(heads, g["head_dim"]), "s": sliding(g["sliding_window"], heads, g["head_dim"])}
        return model(kinds, GEMMA3 if "gemma3-27b" in name else "sf" * (layers // 2), context=context)
    if "gdn" in kind:
        return model({"a": gdn(), "f": full(2, 256)}, "aaaf" * 12, context=context)
    if "mamba2" in kind:
        kinds = {"a": mamba2(), "f": full(8)}
        return model(kinds, "a" * 24 + "f" * 4, context=context, model_type="nemotron_h")
    if "mamba1" in kind:
        return model({"a": mamba(), "f": full(8)}, "aaaf" * 4 + "a" * 16, context=context)
    if kind.startswith("deepseek_v4"):
        kinds = {"a": compressed(4, 128), "h": compressed(128)}
        return model(kinds, "h" + "ha" * 20 + "hh", context=context)
    return model(plain, "f" * layers, context=context)


TOTAL_HEADS = {"llama31-8b": 8, "llama31-70b": 8, "llama31-405b": 8, "llama2-7b": 32, "falcon-7b": 1}


def figure(figures: tuple[Figure, ...], name: str) -> Figure:
    return next(f for f in figures if f.name == name)


@pytest.mark.parametrize("case", cases("vllm", "sequence_bytes_per_rank"))
def test_a_sequence_holds_what_vllm_says(case: Case) -> None:
    spec, settings = sequence_model(case), settings_of(case)
    formats = formats_of(case)
    shared_pool = planned(spec, formats, settings)
    assert shared_pool.block_bytes == case["bytes_per_pool_block"]
    assert sorted(g.page_bytes() for g in shared_pool.groups) == sorted(
        g["page_bytes"] * (1 if g["spec"] == "UniformTypeKVCacheSpecs" else g["n_layers"]) for g in case["groups"]
    )
    answer = allocate(spec, work(case["seq_len"], formats=formats), settings)
    peak, steady = figure(answer.figures, "prefill_peak"), figure(answer.figures, "steady")
    assert (peak.units, peak.bytes) == (case["blocks_peak_prefill"], case["expect_bytes"])
    assert (steady.units, steady.bytes) == (case["blocks_after_next_decode"], case["expect_bytes_after_next_decode"])


@pytest.mark.parametrize("case", cases("vllm", "max_memory_usage_bytes_per_layer"))
def test_admission_charges_what_vllm_says(case: Case) -> None:
    g = case["geometry"]
    if "encoder_len" in g:
        spec = model({"x": cross(g["num_kv_heads"], g["head_dim"])}, "x")
    elif "sliding_window" in g:
        spec = model({"s": sliding(g["sliding_window"])}, "s")
    else:
        spec = model({"c": chunked(g["attention_chunk_size"])}, "c")
    settings = Settings(max_num_batched_tokens=case.get("max_in_flight_tokens", 16384) // 2)
    (page,) = model_pages(spec, parse_kv_cache_dtype("bf16"), settings)
    counter = Counter(
        settings=settings, max_model_len=case.get("max_model_len", 448), encoder_len=g.get("encoder_len", 0)
    )
    blocks = counter.admission(page)
    assert blocks == case.get("expect_blocks", blocks)
    assert blocks * page.page_bytes == case["expect_bytes"]


@pytest.mark.parametrize("case", cases("vllm", "pool"))
def test_a_budget_yields_the_blocks_that_vllm_says(case: Case) -> None:
    g = case["geometry"]
    heads = TOTAL_HEADS.get(g.get("model", ""), g.get("num_kv_heads_rank", 8))
    spec = model({"f": full(heads, g["head_dim"])}, "f" * g["num_hidden_layers"])
    if case["method"] == "published-log":  # V0, whose budget is known through its blocks alone
        settings = Settings(version="0.6.6", max_model_len=8192)
        pool = planned(spec, parse_kv_cache_dtype("bf16"), settings)
        found = capacity_of_blocks(spec, pool, case["expect_num_blocks"], settings, 8192, case["expect_bytes"])
        assert pool.block_bytes * found.units == case["expect_bytes"]
        assert found.log_lines[1] == "Maximum concurrency for 8192 tokens per request: 11.12x"
        return
    settings = Settings(
        parallel=parallel(tp=case.get("tp", 1)), block_size=case["block_size"], max_model_len=case.get("max_model_len")
    )
    found = capacity(spec, case["available_bytes"], settings, parse_kv_cache_dtype(case.get("kv_dtype", "bf16")))
    assert found.units == case["expect_num_blocks"]
    if "expect_capacity_tokens" in case:
        assert found.tokens == case["expect_capacity_tokens"]
        assert found.concurrency == Fraction(case["expect_max_concurrency"])
        assert found.usable_units == case["usable_blocks"]


@pytest.mark.parametrize("case", cases("vllm", "estimate_max_model_len"))
def test_the_longest_request_is_the_one_vllm_estimates(case: Case) -> None:
    """vLLM's estimate takes the bytes after the null block has been set aside, so it is counted here without one."""
    g = case["geometry"]
    spec = model({"f": full(g["num_kv_heads_rank"], g["head_dim"])}, "f" * g["num_hidden_layers"])
    settings = Settings(block_size=case["block_size"])
    pool = planned(spec, parse_kv_cache_dtype("fp16"), settings)
    counter = Counter(settings=settings, max_model_len=case["max_model_len"], encoder_len=0)
    fits = lambda n: counter.admission_of(pool, n) * pool.block_bytes <= case["available_bytes"]  # noqa: E731
    assert longest_that_fits(fits, case["max_model_len"]) == case["expect_tokens"]


@pytest.mark.parametrize("case", cases("vllm", "max_concurrency"))
def test_the_concurrency_is_the_one_vllm_computes(case: Case) -> None:
    g = case["geometry"]
    kinds = {"f": full(32), "s": sliding(1024, 32)}
    order = "s" * 32 if case["attn_kind"] == "swa" else "f" * 32
    if "groups" in g:
        order = "f" * 32 + "s" * 32
    spec = model({name: kind for name, kind in kinds.items() if name in order}, order)
    settings = settings_of(case)
    pool = planned(spec, parse_kv_cache_dtype("fp16"), settings)
    found = capacity_of_blocks(spec, pool, case["num_blocks"], settings, case["max_model_len"], 0)
    assert found.concurrency == Fraction(case["expect_max_concurrency"])
    assert found.units_per_request == case.get("blocks_per_request", found.units_per_request)


@pytest.mark.parametrize("case", cases("vllm", "auto_fit_max_model_len"))
def test_a_context_is_fitted_with_room_for_the_null_block(case: Case) -> None:
    """64 blocks for the tokens, 1 + 2 for the state and its speculative tokens, 1 null block (the unit test's words).

    The unit test builds its state with the attention's page, so any state no larger serves here.
    """
    spec = model({"a": mamba(inner=64, state=16), "f": full(2, 64)}, "af", context=16384)
    settings = Settings(block_size=16, num_speculative_tokens=2, enable_prefix_caching=False)
    found = capacity(spec, case["available_bytes"], settings, parse_kv_cache_dtype("fp32"))
    assert found.unit_bytes == 16 * 2 * 64 * 4 * 2
    assert found.max_tokens_per_request == case["expect_tokens"]


def test_cases_beyond_the_kinds_are_plain_arithmetic() -> None:
    bytes_of = {c.values[0]["id"]: c.values[0]["expect_bytes"] for c in cases("vllm") if c.values[0]["id"] in BEYOND}
    assert bytes_of == {"vllm-130": 4 * 128 * 2, "vllm-133": 128 * 128 * 2, "vllm-135": 8 * 256}
