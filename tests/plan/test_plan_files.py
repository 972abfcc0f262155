"""Plan files: every key reaches the planner; what is left out; what is loaded in place of names."""

from __future__ import annotations

import json
from dataclasses import fields
from fractions import Fraction
from typing import Any

import pytest
from planning import PLAN, dense_model, gpu, problems, read, resolved
from pydantic import TypeAdapter

from kvcalc.plan import planfile
from kvcalc.plan.planfile import PlanSpec
from kvcalc.plan.planning import plan
from kvcalc.plan.resolving import answer, length_of, resolve
from kvcalc.plan.search import MAX_GPUS
from kvcalc.plan.times import NODE_LINK
from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import find_model

# --- every key


EVERY: dict[str, tuple[str, Any, Any]] = {
    "model": ("", lambda r: r.request.spec.name, "qwen3-8b"),
    "gpu": ("", lambda r: [each.name for each in r.hardware], ["h200"]),
    "gpus": ("gpus: 6\n", lambda r: r.request.max_gpus, 6),
    "batch_size": ("batch_size: 1k\n", lambda r: r.request.demand.batch_size, 1000),
    "seq_len": ("seq_len: 2K\n", lambda r: r.request.demand.lengths.longest, 2048),
    "encoder_len": ("encoder_len: 0\n", lambda r: r.request.encoder_len, 0),
    "rate": (
        "rate: 2.5\nisl: 10\nosl: 5\n",
        lambda r: (r.request.demand.rate, r.request.demand.batch_size),
        (2.5, None),
    ),
    "isl": ("isl: 1K\nosl: 6\n", lambda r: (r.request.demand.isl, r.request.demand.lengths.longest), (1024, 1030)),
    "osl": ("isl: 10\nosl: 2k\n", lambda r: (r.request.demand.osl, r.request.demand.seq_len), (2000, 1010)),
    "slo": (
        "slo: {tpot: 50ms, ttft: 2s}\nisl: 10\n",
        lambda r: (r.request.target.tpot_s, r.request.target.ttft_s),
        (0.05, 2.0),
    ),
    "kv_cache_dtype": ("kv_cache_dtype: fp8\n", lambda r: r.request.formats.name, "fp8"),
    "weight_dtype": ("weight_dtype: nvfp4\n", lambda r: r.request.scheme.default.name, "nvfp4"),
    "engine": (
        "engine: vllm@0.13.0\n",
        lambda r: (r.request.engine.name, r.request.engine.version),
        ("vllm", "0.13.0"),
    ),
    "settings": (
        "settings: {block_size: 32, enable_prefix_caching: false, mamba_ssm_cache_dtype: fp32}\n",
        lambda r: r.request.options,
        {"block_size": 32, "enable_prefix_caching": False, "mamba_ssm_cache_dtype": "fp32"},
    ),
    "gpu_memory_utilization": ("gpu_memory_utilization: 0.85\n", lambda r: r.request.utilization, Fraction(85, 100)),
    "overheads": ("overheads: {activation: 1.5GiB}\n", lambda r: r.request.overheads, {"activation": 3 * 2**29}),
    "tensor_parallel_size": ("tensor_parallel_size: 4\n", lambda r: r.request.pins.tensor, 4),
    "pipeline_parallel_size": ("pipeline_parallel_size: 3\n", lambda r: r.request.pins.pipeline, 3),
    "data_parallel_size": ("data_parallel_size: 2\n", lambda r: r.request.pins.data, 2),
    "decode_context_parallel_size": ("decode_context_parallel_size: 1\n", lambda r: r.request.pins.decode_context, 1),
    "enable_expert_parallel": ("enable_expert_parallel: false\n", lambda r: r.request.pins.expert_parallel, False),
    "tensor_across_nodes": ("tensor_across_nodes: true\n", lambda r: r.request.pins.tensor_across_nodes, True),
    "node_size": ("node_size: 4\n", lambda r: r.request.node, 4),
    "node_link": ("node_link: 25 GB/s\n", lambda r: r.request.node_link, 25 * 10**9),
    "objective": ("objective: throughput\n", lambda r: r.request.objective, "throughput"),
    "prices": ("prices: {h200-sxm: 2.5}\n", lambda r: r.request.prices, {"h200": 2.5}),
}


@pytest.mark.parametrize("key", EVERY)
def test_every_key_reaches_the_planner(key):
    text, seen, wanted = EVERY[key]
    assert seen(resolved(PLAN + text)) == wanted


EXAMPLES = [
    (planfile.COUNT, [8, 32 * 1024]), (planfile.GPUS, [8]), (planfile.COUNT_0, [8, 32 * 1024]),
    (planfile.DURATION, [50 * 10**6]), (planfile.BYTES, [3 * 2**29]), (planfile.BYTE_RATE, [50 * 10**9]),
    (planfile.DECIMAL, [Fraction(5, 2), 4]), (planfile.FRACTION, [Fraction(9, 10)]),
]  # fmt: skip


def test_the_examples_of_an_editor_are_what_messages_and_the_command_line_show():
    """8 GPUs, 32K tokens, 50ms, 1.5GiB, 50GB/s, 2.5 or 4 per hour, 0.9 of the memory."""
    for written, values in EXAMPLES:
        assert [written.read(str(example)) for example in written.examples] == values


def test_the_text_below_a_key_is_what_an_editor_shows():
    schema = TypeAdapter(type(read(PLAN).spec)).json_schema()
    shown = schema["properties"], schema["$defs"]["Slo"]["properties"], schema["$defs"]["Expected"]["properties"]
    assert shown[0]["isl"]["description"] == "Tokens of a prompt."
    assert shown[1]["tpot"]["description"] == "Time per output token."
    assert shown[2]["gpus"]["description"].startswith("Of the best layout, exactly")


def test_every_key_is_tested():
    elsewhere = {"lengths", "calibration", "expect"}
    assert {field.name for field in fields(PlanSpec)} == set(EVERY) | elsewhere


def test_what_is_left_out():
    found = resolved(PLAN).request
    assert (found.demand.batch_size, found.demand.rate, found.demand.isl, found.demand.osl) == (1, None, None, None)
    assert found.demand.lengths.longest == 40_960  # Qwen3-8B's context
    assert (found.engine.name, found.formats.name, found.objective) == ("vllm", "bf16", "gpus")
    assert (found.max_gpus, found.node, found.node_link, found.utilization) == (MAX_GPUS, None, NODE_LINK, None)
    assert found.encoder_len == 0
    assert (found.options, found.overheads, found.prices, found.calibration, found.trace) == ({}, {}, {}, None, None)
    assert not found.target.asked
    assert found.alternatives
    assert found.scheme.default.name == "bf16"
    assert (found.pins.tensor, found.pins.tensor_across_nodes) == (None, False)


def test_settings_reach_the_engine_as_they_are_written():
    """Words keep their case; true and false are YAML's."""
    found = resolved(PLAN + "settings: {kv_cache_layout: LBNHC, enable_prefix_caching: true}\n").request
    assert found.options == {"kv_cache_layout": "LBNHC", "enable_prefix_caching": True}


def test_an_encoder_is_as_long_as_the_models_context_of_it():
    assert resolved("model: whisper-large-v2\ngpu: h200\nseq_len: 448\n").request.encoder_len == 1500
    assert resolved("model: whisper-large-v2\ngpu: h200\nseq_len: 448\nencoder_len: 100\n").request.encoder_len == 100


def test_several_gpus_by_name_and_alias_once_each():
    found = resolved("model: qwen3-8b\ngpu: [h200, h100, h200-sxm]\n")
    assert [each.name for each in found.hardware] == ["h200", "h100-sxm"]


def test_a_trace_stands_for_all_lengths(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "trace.csv").write_text("isl,osl\n1000,100\n3000,300\n")
    name = str(tmp_path / "plan.yaml")
    found = resolved(PLAN + "lengths: trace.csv\nbatch_size: 4\n", name).request
    assert found.trace is not None
    assert found.demand.lengths == found.trace.bucketed
    assert (found.demand.isl, found.demand.osl, found.demand.decoded) == (2000, 200, int(found.trace.mean_decoded))
    given_too = resolved(PLAN + "lengths: trace.csv\nbatch_size: 4\nisl: 50\nosl: 8\n", name).request.demand
    assert (given_too.isl, given_too.osl, given_too.decoded, given_too.seq_len) == (50, 8, None, 54)
    file = read(PLAN + "lengths: trace.csv\n", name)
    assert length_of(file.spec, file)[0] == 3300
    rate = resolved(PLAN + "lengths: trace.csv\nrate: 3\nslo: {ttft: 9s}\n", name).request.demand
    assert (rate.rate, rate.batch_size) == (3.0, None)


def test_totals_alone_are_timed_at_their_mean(tmp_path):
    (tmp_path / "trace.csv").write_text("seq_len\n100\n300\n")
    found = resolved(PLAN + "lengths: trace.csv\n", str(tmp_path / "plan.yaml")).request.demand
    assert (found.isl, found.osl, found.decoded, found.seq_len) == (None, None, 200, 200)


def calibrated(folder, gpu: str, device: str, rate: float):
    """The plan of a calibration that was measured on `device`."""
    report = {"machine": {"device": device}, "ceilings": {"read_bytes_per_s": rate, "gemm_flops_per_s": {"bf16": 7e14}}}
    (folder / "c.json").write_text(json.dumps(report))
    found = resolved(
        f"model: qwen3-8b\ngpu: {gpu}\ncalibration: c.json\ngpus: 1\nseq_len: 9\n", str(folder / "plan.yaml")
    )
    return plan(found.request, found.hardware)


@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("h200", "NVIDIA H200"), ("h100-sxm", "NVIDIA H100 80GB HBM3"), ("a100-80gb", "NVIDIA A100-SXM4-80GB"),
        ("rtx-4090", "NVIDIA GeForce RTX 4090"), ("mi300x", "AMD Instinct MI300X"),
        ("gh200-96gb", "NVIDIA GH200 480GB"),
    ],
)  # fmt: skip
def test_a_calibration_of_the_gpu_itself_is_taken(tmp_path, gpu, device):
    assert calibrated(tmp_path, gpu, device, 9e11).warnings == ()


def test_a_calibration_of_another_gpu_is_asked_about_and_one_beyond_the_peak_refused(tmp_path):
    """An H200 reads 4.57 TB/s: less than a B200 could, and more than an H100's 3.35."""
    assert calibrated(tmp_path, "b200", "NVIDIA H200", 4.57e12).warnings == (
        "calibrated on NVIDIA H200: is that a b200?",
    )
    assert calibrated(tmp_path, "h200", "NVIDIA GH200", 4e12).warnings == (
        "calibrated on NVIDIA GH200: is that a h200?",
    )
    with pytest.raises(KvcalcError) as caught:
        calibrated(tmp_path, "h100", "NVIDIA H200", 4.57e12)
    (found,) = caught.value.problems
    assert (found.message, found.line) == (
        "calibrated on NVIDIA H200 reads 4.57 TB/s, but h100-sxm 3.35 TB/s at most",
        3,
    )


def test_a_calibration_is_of_each_gpu_that_is_given(tmp_path):
    report = {"machine": {"device": "NVIDIA H200"}, "ceilings": {"read_bytes_per_s": 4.57e12}}
    (tmp_path / "c.json").write_text(json.dumps(report))
    spec = PlanSpec(model="qwen3-8b", gpu="h200", seq_len=5, calibration=str(tmp_path / "c.json"))
    for names in (("h200", "h100"), ("h100", "h200")):
        with pytest.raises(KvcalcError) as caught:
            resolve(spec, hardware=[gpu(name=name) for name in names])
        assert "h100-sxm 3.35 TB/s at most" in caught.value.problems[0].message


def test_a_calibration_is_read(tmp_path):
    report = {"command": "verify", "gpu": "x", "ceilings": {}}
    (tmp_path / "c.json").write_text(json.dumps(report))
    (found,) = problems(PLAN + "calibration: c.json\n", str(tmp_path / "plan.yaml"))
    assert "c.json" in (found.path or "") or "c.json" in found.message


def test_lengths_of_a_plan():
    def of(text: str) -> int | None:
        file = read(PLAN + text)
        return length_of(file.spec, file)[0]

    assert [of(""), of("seq_len: 5\n"), of("isl: 5\nosl: 6\n"), of("isl: 5\n")] == [None, 5, 11, None]
    assert [of("seq_len: 11\nisl: 5\nosl: 6\n"), of("seq_len: 19\nisl: 5\nosl: 6\n")] == [11, 19]


# --- models and GPUs


def test_a_loaded_model_and_gpu_take_the_place_of_names():
    found = resolve(PlanSpec(model="nowhere", gpu="none", seq_len=5), model=dense_model(), hardware=[gpu()])
    assert (found.request.spec.name, [each.name for each in found.hardware]) == ("test-model", ["h100-sxm"])
    assert found.remarks == ()


def test_an_imported_model_says_what_was_taken_on_trust(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
            "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "vocab_size": 128,
            "max_position_embeddings": 512, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "tie_word_embeddings": False, "some_new_field": 7,
        })
    )  # fmt: skip
    found = resolved("model: config.json\ngpu: h200\n", str(tmp_path / "plan.yaml"))
    assert found.request.demand.lengths.longest == 512
    (remark,) = found.remarks
    assert remark == f"not in {tmp_path}/config.json: head_dim = 32: hidden_size / num_attention_heads"


# --- the answer of a plan


def test_alternatives_are_looked_for_only_where_it_does_not_fit():
    fine = answer(PlanSpec(model="qwen-72b", gpu="h200", batch_size=8, seq_len="32K"))
    assert fine.fits
    assert fine.plans[0].alternatives == ()
    spec = PlanSpec(model="qwen-72b", gpu="h100", gpus=8, batch_size=8, seq_len="32K")
    assert answer(spec).plans[0].alternatives
    assert answer(spec, alternatives=False).plans[0].alternatives == ()
    assert answer(PlanSpec(model="x", gpu="h200"), model=find_model("qwen3-8b")).model == "qwen3-8b"
