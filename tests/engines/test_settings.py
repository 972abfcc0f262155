"""Engines by name and version, their settings as a user writes them, and what each refuses, to the word."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from engine_factories import chunked, compressed, cross, full, gdn, kda, mla, model, parallel, sliding, sparse, work
from geometries import llama

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import NAMES, all_engines, find_engine
from kvcalc.engines.base import Allocation, Parallel, Waste
from kvcalc.engines.checks import context_limit, longest_that_fits, per_stage, version_key
from kvcalc.engines.sizing import Memory, parse_settings, size_in_engine
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec


def said(*call: Any, **options: Any) -> tuple[str, str | None]:
    """(message, help) of the refusal of `call[0](*call[1:], **options)`."""
    with pytest.raises(KvcalcError) as caught:
        call[0](*call[1:], **options)
    (problem,) = caught.value.problems
    return problem.message, problem.help


# --- names and versions


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("vllm", "vllm", "0.33.0"), (" vLLM@0.19 ", "vllm", "0.19"), ("vllm@v0.8.2rc1", "vllm", "0.8.2rc1"),
        ("llamacpp", "llama.cpp", "0.5.0"), ("llama_cpp", "llama.cpp", "0.5.0"), ("trtllm", "tensorrt-llm", "1.2.1"),
        ("TRT-LLM@1", "tensorrt-llm", "1"), ("hf@4.57.6", "transformers", "4.57.6"), ("ideal", "ideal", "1"),
        ("SGLang", "sglang", "0.5.23"), ("lmdeploy", "lmdeploy", "0.18.0"),
    ],
)  # fmt: skip
def test_an_engine_is_found_by_its_name(text: str, name: str, version: str) -> None:
    found = find_engine(text)
    assert (found.name, found.version) == (name, version)
    assert found.configure().version == version


def test_an_unknown_engine_is_told_what_there_is() -> None:
    assert said(find_engine, "vlm") == ("unknown engine 'vlm'", "did you mean vllm?")
    message, help = said(find_engine, "q" * 41)
    assert (message, help) == (f"unknown engine '{'q' * 40}'", f"engines: {', '.join(NAMES)}")
    assert said(find_engine, "vllm@") == ("'' is not a version", "write it like 0.33.0")
    assert said(find_engine, "vllm@" + "x" * 41)[0] == f"'{'x' * 40}' is not a version"


def test_every_engine_is_listed_and_says_what_it_does() -> None:
    engines = all_engines()
    assert tuple(engine.name for engine in engines) == NAMES
    assert len({engine.summary for engine in engines}) == len({engine.source for engine in engines}) == len(NAMES)
    # DP attention with the rest over all ranks, and experts that must be dealt out evenly: SGLang alone
    assert [engine.name for engine in engines if engine.dense_over_data] == ["sglang"]
    assert [engine.name for engine in engines if engine.even_experts] == ["sglang"]
    assert [engine.name for engine in engines if engine.gpu_defaults] == ["vllm", "lmdeploy"]
    # a context, and a pool of states, are as large for one sequence as for several
    assert [engine.name for engine in engines if not engine.batch_scales] == ["sglang", "llama.cpp"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0.20.1rc1", (0, 20, 1)), ("v1.2", (1, 2, 0)), ("3", (3, 0, 0)), ("1.2.3.4", (1, 2, 3)), ("1.x.7", (1, 0, 0)),
        ("999999.0.1", (999_999, 0, 1)), ("1.1000000", (1, 0, 0)),
    ],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(text: str, key: tuple[int, int, int]) -> None:
    assert version_key(text) == key


@pytest.mark.parametrize("text", ["", "new", "1000000", "vv1", "-1"])
def test_what_has_no_number_is_no_version(text: str) -> None:
    assert said(version_key, text) == (f"{text!r} is not a version", "write it like 0.33.0")


# --- settings


def test_counts_are_bounded() -> None:
    limit = "must be at least 1 and at most 1,048,576"
    assert said(Parallel, tensor=0) == (f"tensor {limit}, got 0", None)
    assert said(Parallel, pipeline=2**20 + 1) == (f"pipeline {limit}, got 1,048,577", None)
    assert Parallel(data=2**20, tensor=3, pipeline=5).ranks == 15 * 2**20
    assert said(Parallel, tensor=6, decode_context=4) == (
        "-dcp 4 does not divide -tp 6",
        "decode context parallelism shares the tensor-parallel ranks",
    )
    assert (Parallel().ranks, Parallel(tensor=6, decode_context=3).ranks) == (1, 6)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("llama.cpp", "transformers")])
def test_every_count_of_an_engine_is_at_least_one_and_speculative_tokens_none(name: str) -> None:
    engine = find_engine(name)
    limit = f"at most {2**60:,}"
    assert engine.configure(num_speculative_tokens=0, max_model_len=2**60).num_speculative_tokens == 0
    assert said(engine.configure, num_speculative_tokens=-1)[0] == (
        f"num_speculative_tokens must be at least 0 and {limit}, got -1"
    )
    assert said(engine.configure, max_model_len=0)[0] == f"max_model_len must be at least 1 and {limit}, got 0"
    assert said(engine.configure, max_model_len=2**60 + 1)[0].endswith(f"got {2**60 + 1:,}")


@pytest.mark.parametrize(
    ("name", "defaults"),
    # as each engine's documentation and source have them (see its file)
    [
        ("vllm", {"block_size": None, "max_num_batched_tokens": 8192, "max_num_seqs": 1024, "async_scheduling": True,
                  "enable_prefix_caching": None, "hybrid_kv_cache_manager": True, "num_speculative_tokens": 0,
                  "kv_cache_layout": None, "mamba_ssm_cache_dtype": "auto", "skip_layers": None,
                  "max_model_len": None}),
        ("sglang", {"block_size": None, "swa_full_tokens_ratio": Fraction(4, 5), "hybrid_swa": True,
                    "mamba_full_memory_ratio": Fraction(9, 10), "num_speculative_tokens": 0, "mla": False,
                    "max_model_len": None}),
        ("tensorrt-llm", {"block_size": 32, "window_blocks": False, "num_speculative_tokens": 0,
                          "max_model_len": None}),
        ("lmdeploy", {"block_size": 64, "backend": "pytorch", "vocab_size": None, "max_prefill_token_num": 8192,
                      "max_batch_size": 128, "num_speculative_tokens": 0, "max_model_len": None}),
        ("llama.cpp", {"n_ctx": None, "n_seq_max": None, "kv_unified": False, "n_batch": 2048, "n_ubatch": 512,
                       "flash_attn": True, "swa_full": False}),
        ("transformers", {"cache": "dynamic", "max_cache_len": None, "nbits": 4, "q_group_size": 64,
                          "residual_length": 128, "prompt_len": None}),
        ("ideal", {"num_speculative_tokens": 0, "max_model_len": None}),
    ],
)  # fmt: skip
def test_settings_default_to_the_engines_own(name: str, defaults: dict[str, Any]) -> None:
    settings = find_engine(name).configure(block_size=None)  # None: not given
    assert {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in ("version", "parallel")} == (
        defaults
    )
    assert settings.parallel == Parallel(tensor=1, pipeline=1, data=1, decode_context=1)


def test_settings_are_read_by_their_types() -> None:
    vllm, sglang, llama = (find_engine(name) for name in ("vllm", "sglang", "llama.cpp"))
    pairs = ["block-size=1K", " max_num_seqs = 7 ", "skip_layers=0,3,", "async_scheduling=off"]
    assert parse_settings(vllm, pairs) == {
        "block_size": 1024, "max_num_seqs": 7, "skip_layers": (0, 3), "async_scheduling": False,
    }  # fmt: skip
    assert parse_settings(sglang, ["swa_full_tokens_ratio=0.25"]) == {"swa_full_tokens_ratio": Fraction(1, 4)}
    assert parse_settings(find_engine("transformers"), ["cache=static"]) == {"cache": "static"}
    assert parse_settings(vllm, ["mamba_ssm_cache_dtype=bf16"]) == {"mamba_ssm_cache_dtype": "bf16"}
    for word, value in (("yes", True), ("ON", True), ("1", True), ("no", False), ("0", False), ("False", False)):
        assert parse_settings(llama, [f"swa_full={word}"]) == {"swa_full": value}
    assert parse_settings(llama, ["swa_full=true"]) == {"swa_full": True}


@pytest.mark.parametrize(
    ("engine", "pair", "message", "help"),
    [
        ("vllm", "b" * 61, f"'{'b' * 60}' is no setting", "write it like n_ctx=8192"),
        ("vllm", "blocksize=3", "vllm has no setting 'blocksize'", "did you mean block_size?"),
        ("ideal", "q" * 41 + "=3", f"ideal has no setting '{'q' * 40}'",
         "it has max_model_len, num_speculative_tokens"),
        ("ideal", "version=3", "ideal has no setting 'version'",
         "it has max_model_len, num_speculative_tokens"),
        ("llama.cpp", f"swa_full={'x' * 21}", f"swa_full is true or false, not '{'x' * 20}'", None),
        ("transformers", f"cache={'x' * 21}", f"cache is one of dynamic, quantized, static, not '{'x' * 20}'", None),
        ("vllm", "skip_layers=-1", "skip_layers must be at least 0, got -1", None),
        ("vllm", "max_num_seqs=0", "max_num_seqs must be at least 1, got 0", None),
        ("sglang", "swa_full_tokens_ratio=1.5",
         "swa_full_tokens_ratio is a decimal above 0 and at most 1, not '1.5'", None),
        ("vllm", f"kv_cache_layout={'x' * 21}", f"unknown KV cache layout '{'x' * 20}'", "LBNHC, LBHNC, BLNHC, BLHNC"),
        ("vllm", "version=7", "vllm has no setting 'version'", None),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(engine: str, pair: str, message: str, help: str | None) -> None:
    found = find_engine(engine)
    refused, hint = said(lambda: found.configure(**parse_settings(found, [pair])))
    assert refused == message
    assert help is None or hint == help


def test_an_option_that_an_engine_does_not_have_is_refused() -> None:
    assert said(find_engine("vllm").configure, blok_size=3) == (
        "vllm has no setting 'blok-size'",
        "did you mean block_size?",
    )


def test_versions_of_vllm_change_its_rules() -> None:
    """Each on its first release and the one before; the sources stand in engines/vllm/settings.py."""
    settings = find_engine("vllm").configure

    def both(attribute: str, first: str, before: str, **options: Any) -> list[Any]:
        return [getattr(settings(version=version, **options), attribute) for version in (first, before)]

    assert both("tokens_by_concurrency", "0.21.0", "0.20.99") == [True, False]
    assert both("default_utilization", "0.21.0", "0.20.99") == [Fraction(92, 100), Fraction(90, 100)]
    assert both("separate_kinds", "0.10.0", "0.9.99") == [True, False]
    assert both("separate_kinds", "0.10.0", "0.33.0", hybrid_kv_cache_manager=False) == [False, False]
    assert both("counts_graphs", "0.20.0", "0.19.99") == [True, False]
    assert both("aligned_states", "0.28.0", "0.27.99") == [True, False]
    assert both("aligned_states", "0.28.0", "0.27.99", enable_prefix_caching=False) == [False, False]
    assert both("aligned_states", "0.28.0", "0.27.99", enable_prefix_caching=True) == [True, True]
    # two batches in flight, one more with every pipeline stage; before 0.26 the step alone
    assert both("in_flight_tokens", "0.26.0", "0.25.99") == [16_384, 8192]
    pipelined = {"parallel": parallel(pp=3), "max_num_batched_tokens": 100}
    assert both("in_flight_tokens", "0.26.0", "0.25.99", **pipelined) == [400, 100]
    assert both("in_flight_tokens", "0.26.0", "0.25.99", **pipelined, async_scheduling=False) == [300, 100]
    assert settings().release == (0, 33, 0)


# --- what the rooms share


@pytest.mark.parametrize("limit", [0, 1, 7, 100])
def test_the_longest_that_fits_is_found_by_halving(limit: int) -> None:
    for longest in range(limit + 1):
        asked: list[int] = []

        def fits(n: int, longest: int = longest, asked: list[int] = asked) -> bool:
            asked.append(n)
            return n <= longest

        assert longest_that_fits(fits, limit) == longest
        assert len(asked) <= limit.bit_length()
    assert longest_that_fits(lambda n: True, limit) == limit
    assert longest_that_fits(lambda n: False, limit) == 0


def test_a_context_is_given_or_the_models_or_unknown() -> None:
    known, unknown = model({"f": full()}, "f", context=77), model({"f": full()}, "f", context=None)
    assert [context_limit(known, 5), context_limit(known, None), context_limit(unknown, None, 9)] == [5, 77, 9]
    assert said(context_limit, unknown, None) == ("test-model states no context length", "give --max-model-len")


def test_a_budget_is_one_for_all_stages_or_one_for_each() -> None:
    assert per_stage(7, 3) == (7, 7, 7)
    assert per_stage((1, 2), 2) == (1, 2)


def test_an_allocation_whose_causes_do_not_add_up_is_our_own_fault() -> None:
    terms: dict[str, Any] = {
        "engine": "e", "version": "1", "model": "m", "batch_size": 1, "seq_len": 1, "kv_cache_dtype": "bf16",
        "logical_bytes": 10, "allocated_bytes": 15, "waste": (Waste(cause="rounding", bytes=5),), "ranks": 2,
        "per_rank_bytes": 10, "per_stage_bytes": (10,), "sharding_waste": (Waste(cause="uneven", bytes=5),),
    }  # fmt: skip
    assert Allocation(**terms).unit_tokens == Allocation(**terms).unit_bytes == Allocation(**terms).units == 0
    for name, message in (("logical_bytes", "waste does not"), ("per_rank_bytes", "sharding waste does not")):
        with pytest.raises(AssertionError, match=message):
            Allocation(**{**terms, name: 9})


# --- refusals

DENSE = model({"f": full(8)}, "ffff")
WINDOWED = model({"s": sliding(100), "f": full(8)}, "sf")
COMPRESSED = model({"c": compressed(4, 128)}, "c")
REFUSALS: list[tuple[str, ModelSpec, dict[str, Any], str, str | None]] = [
    ("vllm", DENSE, {"formats": "q8_0"}, "vllm cannot store q8_0", None),
    ("vllm", DENSE, {"formats": "bf16,value=q8_0"}, "vllm cannot store q8_0", None),
    ("vllm", DENSE, {"tp": 3}, "vllm cannot split 8 key heads over 3 tensor-parallel ranks",
     "choose -tp so that it divides 8, or is a multiple of it"),
    ("vllm", WINDOWED, {"tp": 16, "dcp": 2},
     "vLLM does not shard sliding or chunked windows over -dcp ranks", "use -dcp 1"),
    ("vllm", model({"c": chunked(96), "f": full()}, "cf"), {"tp": 16, "dcp": 2},
     "vLLM does not shard sliding or chunked windows over -dcp ranks", "use -dcp 1"),
    ("vllm", DENSE, {"tp": 16, "dcp": 4}, "-dcp 4 needs 4 replicas of each KV head: -tp 16 over 8 heads gives 2",
     "raise -tp or lower -dcp"),
    ("vllm", DENSE, {"tp": 4, "dcp": 2}, "-dcp 2 needs 2 replicas of each KV head: -tp 4 over 8 heads gives 1",
     "raise -tp or lower -dcp"),
    ("vllm", model({"c": compressed(5)}, "c"), {}, "vLLM has no compressor for a stride of 5 tokens",
     "it has 4 and 128"),
    ("sglang", DENSE, {"formats": "q8_0"}, "sglang cannot store q8_0",
     "it has bf16*, fp16*, fp8*, fp8_ds_mla*, mxfp8*, nvfp4*"),
    ("sglang", COMPRESSED, {}, "SGLang's pools for compressed attention (DeepSeek-V4) are not modelled", "use vllm"),
    ("lmdeploy", DENSE, {"tp": 16}, "LMDeploy cannot split 8 KV heads over 16 ranks", "-tp must divide the KV heads"),
    ("lmdeploy", COMPRESSED, {}, "LMDeploy's caches for compressed attention are not modelled", "use vllm"),
    ("lmdeploy", DENSE, {"tp": 2, "dcp": 2}, "LMDeploy's context parallelism is not modelled", "use -dcp 1"),
    ("lmdeploy", DENSE, {"formats": "q8_0"}, "lmdeploy cannot store q8_0", "it has bf16*, fp16*, fp8*, lmdeploy_*"),
    ("tensorrt-llm", COMPRESSED, {}, "TensorRT-LLM's caches for compressed attention are not modelled", "use vllm"),
    ("tensorrt-llm", DENSE, {"tp": 2, "dcp": 2}, "TensorRT-LLM's context parallelism is not modelled", "use -dcp 1"),
    ("tensorrt-llm", DENSE, {"formats": "q8_0"}, "tensorrt-llm cannot store q8_0",
     "it has bf16*, fp16*, fp8*, int8*, nvfp4*"),
    ("transformers", DENSE, {"tp": 2, "dcp": 2}, "transformers has no context parallelism for its caches",
     "use -dcp 1"),
    ("transformers", DENSE, {"formats": "fp8"}, "transformers cannot store fp8", "it has bf16*, fp16*, fp32*"),
    ("transformers", DENSE, {"set": {"cache": "static", "max_cache_len": 999}},
     "max_cache_len 999 is shorter than 1,000 tokens", None),
    ("llama.cpp", DENSE, {"tp": 2}, "llama.cpp splits layers over devices, not heads or tokens",
     "use -pp for -sm layer"),
    ("llama.cpp", DENSE, {"dp": 2}, "llama.cpp splits layers over devices, not heads or tokens",
     "use -pp for -sm layer"),
    ("llama.cpp", DENSE, {"formats": "fp8"}, "llama.cpp cannot store fp8",
     "it has bf16*, fp16*, fp32*, q8_0*, q5_0*, q5_1*, q4_0*, q4_1*, iq4_nl*"),
    ("llama.cpp", DENSE, {"formats": "bf16,value=iq4_nl", "set": {"flash_attn": False}},
     "llama.cpp stores V as iq4_nl only with -fa", "leave flash attention on"),
    ("llama.cpp", DENSE, {"formats": "q8_0", "set": {"flash_attn": False}}, "llama.cpp stores V as q8_0 only with -fa",
     "leave flash attention on"),
    ("llama.cpp", COMPRESSED, {}, "llama.cpp has no cache for compressed attention as modelled here", "use vllm"),
    ("llama.cpp", DENSE, {"pp": 5}, "4 layers cannot fill 5 devices", "lower -pp"),
    ("llama.cpp", DENSE, {"batch": 3, "set": {"n_seq_max": 2}}, "3 sequences exceed -np 2", "raise -np"),
    ("llama.cpp", DENSE, {"set": {"n_ctx": 768}}, "a context of 768 cells does not hold 1 x 1,000 tokens", "raise -c"),
    ("llama.cpp", DENSE, {"batch": 2, "set": {"n_ctx": 1999, "kv_unified": True, "n_seq_max": 2}},
     "a context of 2,048 cells does not hold 2 x 1,025 tokens", "raise -c"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "spec", "options", "message", "help"),
    [pytest.param(*row, id=f"{row[0]}: {row[3]}") for row in REFUSALS],
)
def test_an_engine_says_what_it_does_not_do(
    engine: str, spec: ModelSpec, options: dict[str, Any], message: str, help: str | None
) -> None:
    options = dict(options)
    formats, batch = parse_kv_cache_dtype(options.pop("formats", "bf16")), options.pop("batch", 1)
    own = options.pop("set", {})
    found = find_engine(engine)
    tokens = 1025 if own.get("kv_unified") else 1000
    settings = found.configure(parallel=parallel(**options), **own)
    refused = said(found.allocate, spec, work(tokens, batch, formats, encoder=100), settings)
    assert refused[0] == message
    assert help is None or refused[1] == help


@pytest.mark.parametrize(
    ("engine", "spec", "options", "formats"),
    [
        ("vllm", DENSE, {"parallel": parallel(tp=16, dcp=2)}, "bf16"),
        ("vllm", model({"m": mla()}, "m"), {"parallel": parallel(tp=8, dcp=8)}, "bf16"),
        ("vllm", model({"k": kda(), "m": mla()}, "km"), {"parallel": parallel(tp=8, dcp=8)}, "bf16"),
        ("vllm", DENSE, {}, "fp8,state=q8_0"),
        ("llama.cpp", DENSE, {"flash_attn": False}, "q8_0,value=bf16"),
        ("llama.cpp", DENSE, {"n_ctx": 1000}, "iq4_nl"),
        ("llama.cpp", DENSE, {"n_ctx": 2048, "kv_unified": True, "n_seq_max": 2}, "bf16"),
        ("transformers", DENSE, {"cache": "static", "max_cache_len": 1000}, "bf16"),
        ("lmdeploy", model({"m": sparse()}, "m"), {"parallel": parallel(tp=16)}, "bf16"),
        ("lmdeploy", model({"a": gdn()}, "a"), {"parallel": parallel(tp=4)}, "bf16"),
        ("tensorrt-llm", model({"x": cross()}, "x", encoder=100), {"parallel": parallel(tp=3)}, "bf16"),
    ],
)
def test_what_is_next_to_a_refusal_is_answered(
    engine: str, spec: ModelSpec, options: dict[str, Any], formats: str
) -> None:
    found = find_engine(engine)
    batch = 2 if options.get("kv_unified") else 1
    asked = work(1000, batch, parse_kv_cache_dtype(formats), encoder=100)
    assert found.allocate(spec, asked, found.configure(**options)).allocated_bytes > 0


def test_memory_is_asked_of_engines_that_budget_it() -> None:
    def asked(name: str, memory: Memory) -> Any:
        engine = find_engine(name)
        return size_in_engine([DENSE], engine, engine.configure(), seq_len=64, memory=memory).models[0]

    assert said(asked, "llama.cpp", Memory(gpu_bytes=1)) == (
        "llama.cpp has no memory budget: its cache is as large as the context",
        "leave out the GPU's memory, or set the context with --set n_ctx=N",
    )
    assert said(asked, "transformers", Memory(cache_bytes=1))[0].startswith("transformers has no memory budget")
    assert said(asked, "ideal", Memory(gpu_bytes=1)) == (
        "ideal has no rule for its share of the memory",
        "give --kv-cache-memory-bytes",
    )
    nothing = asked("vllm", Memory())
    assert (nothing.budget, nothing.capacity) == (None, None)
    outright = asked("vllm", Memory(cache_bytes=10 * 4 * 65_536 + 1))
    assert (outright.budget, outright.capacity.units) == (None, 10)
    shared = asked("vllm", Memory(gpu_bytes=2**33, utilization=Fraction(1, 2), weights_bytes=0,
                                  overheads={"activation": 0, "cuda_graphs": 0, "non_torch": 5}))  # fmt: skip
    assert shared.budget.available_bytes == 2**32 - 5
    assert shared.capacity.units == (2**32 - 5) // (4 * 65_536)


def test_weights_are_counted_from_the_spec_unless_given() -> None:
    """2 layers of hidden 8: 4 heads of 3 over 2 KV heads, ffn 5; a vocabulary of 11 padded to 64 rows; bf16."""
    layer = 12 * 8 + 6 * 8 + 6 * 8 + 8 * 12 + 3 * 8 * 5 + 2 * 8
    spec = llama(2, 8, 5, 11, 4, 2, dim=3)
    engine = find_engine("vllm")

    def weights(drafts: int = 0, **ranks: int) -> int:
        settings = engine.configure(parallel=parallel(**ranks), max_model_len=64, num_speculative_tokens=drafts)
        sized = size_in_engine([spec], engine, settings, seq_len=64, memory=Memory(gpu_bytes=2**30)).models[0]
        assert sized.budget is not None
        return sized.budget.overheads[0].bytes

    assert weights() == 2 * (2 * layer + 8 + 2 * 64 * 8)
    # the first of two stages has the embedding and a layer, the last one the norm as well
    assert weights(pp=2) == 2 * (layer + 8 + 64 * 8)
    # half the heads and the rows, 3 of the 5 columns of a block
    assert weights(tp=2) == 2 * (2 * (288 // 2 + 3 * 8 * 3 + 2 * 8) + 8 + 64 * 8)
    # a prediction layer, its three norms and its projection of two hidden states, where drafts are asked for
    spec = replace(spec, mtp_layers=(replace(spec.layers[0], count=1),))
    mtp = layer + 3 * 8 + 2 * 8 * 8
    assert weights() == 2 * (2 * layer + 8 + 2 * 64 * 8)
    assert weights(drafts=1) == weights() + 2 * mtp
    report = size_in_engine([DENSE, DENSE], engine, engine.configure(), seq_len=10**6)
    assert (len(report.models), len(report.warnings)) == (2, 2)
    assert [one.allocation.batch_size for one in report.models] == [1, 1]
