"""Plan files: what is wrong stands at its line and column, with what works; files stay within the plan's project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning import PLAN, problems, read, resolved

from kvcalc.plan.planfile import PlanSpec, Unresolved, contradictions, is_file, load_plan, read_plan
from kvcalc.plan.resolving import resolve
from kvcalc.problems import KvcalcError

WRONG = [
    ("gpus: 0\n", "KV013", 3, 7, "number of GPUs must be at least 1, got 0"),
    ("gpus: -1\n", "KV013", 3, 7, "number of GPUs must be at least 1, got -1"),
    ("gpus: 4097\n", "KV013", 3, 7, "a plan is of at most 4,096 GPUs, got 4097"),
    ("gpus: 5k\n", "KV013", 3, 7, "more are several deployments: plan one"),
    (f"gpus: '{'0' * 36}5000.{'0' * 40}'\n", "KV013", 3, 7, f"4,096 GPUs, got {'0' * 36}5000.{'0' * 19} "),
    ("gpus: [8]\n", "KV012", 3, 7, "as in 8"),
    ("rate: [8]\n", "KV012", 3, 7, "as in 4"),
    ("batch_size: many\n", "KV013", 3, 13, "'many' is not a count"),
    ("seq_len: 32Q\n", "KV013", 3, 10, "write it like 8192, 32K (= 32,768) or 32k (= 32,000)"),
    ("encoder_len: -1\n", "KV013", 3, 14, "at least 0"),
    ("slo: {tpot: 50}\n", "KV012", 3, 13, "as in 50ms"),
    ("slo: {tpot: 0ms}\n", "KV013", 3, 13, "not more than 0"),
    (f"slo: {{tpot: {'0' * 40}.{'0' * 30}ms}}\n", "KV013", 3, 13, f"'{'0' * 40}.{'0' * 19}' is not more than 0"),
    ("slo: {tpot: 50 miles}\n", "KV013", 3, 13, "units: ns, us"),
    ("slo: {tpod: 50ms}\n", "KV010", 3, 7, "did you mean tpot?"),
    ("node_link: 0GB/s\n", "KV013", 3, 12, "as in 50GB/s"),
    ("node_size: 0\n", "KV013", 3, 12, "must be at least 1, got 0"),
    ("gpu_memory_utilization: 1.5\n", "KV013", 3, 25, "above 0 and at most 1, not '1.5'"),
    ("gpu_memory_utilization: 0\n", "KV013", 3, 25, "above 0 and at most 1, not '0'"),
    ("prices: {h200: 0}\n", "KV013", 3, 16, "above 0"),
    ("prices: {h200: -2}\n", "KV013", 3, 16, "above 0"),
    ("prices: {h200: .nan}\n", "KV003", 3, 16, ".nan"),
    ("rate: 0\nisl: 1\nosl: 1\n", "KV013", 3, 7, "above 0"),
    ("overheads: {activation: 5}\n", "KV012", 3, 25, "as in 1.5GiB"),
    ("overheads: {activation: 1ZiB}\n", "KV013", 3, 25, "'1ZiB' is not a size"),
    ("objective: fast\n", "KV013", 3, 12, "one of 'gpus', 'tpot', 'throughput' or 'cost'"),
    ("tensor_parallel_size: two\n", "KV012", 3, 23, "expected an integer"),
    ("enable_expert_parallel: 1\n", "KV012", 3, 25, "expected true or false, got 1"),
    ("expect: {gpu: 1}\n", "KV010", 3, 10, "did you mean gpus?"),
    ("lengths: ''\n", "KV013", 3, 10, "at least 1"),
    (f"lengths: {'t' * 1001}\n", "KV013", 3, 10, "at most 1000"),
    ("batchsize: 4\n", "KV010", 3, 1, "did you mean batch_size?"),
    ("settings: [1]\n", "KV012", 3, 11, "expected a mapping, got a list"),
    # what cannot be asked together
    ("batch_size: 4\nrate: 2\nisl: 1\nosl: 1\n", "KV101", 4, 7, "give one of them"),
    ("rate: 2\nisl: 1\n", "KV101", 3, 7, "give isl and osl, or a trace"),
    ("rate: 2\nosl: 1\n", "KV101", 3, 7, "give isl and osl, or a trace"),
    ("lengths: t.csv\nseq_len: 5\n", "KV101", 3, 10, "the trace holds the lengths"),
    ("slo: {ttft: 1s}\n", "KV101", 3, 13, "give isl, or a trace"),
    ("objective: cost\n", "KV101", 3, 12, "as in prices: {h200: 2.50}"),
    ("expect: {fits: false, gpus: 4}\n", "KV101", 3, 29, "what does not fit has no number of GPUs"),
    ("gpus: 2\nexpect: {gpus: 3}\n", "KV101", 4, 16, "3 GPUs are expected, but there are 2"),
    ("osl: 9\n", "KV101", 3, 6, "give isl, or seq_len alone"),
    ("isl: 5\nosl: 6\nseq_len: 10\n", "KV101", 5, 10, "isl + osl = 11 tokens exceed seq_len 10"),
    ("isl: 1k\nseq_len: 999\n", "KV101", 4, 10, "isl = 1,000 tokens exceed seq_len 999"),
    ("isl: 40961\n", "KV901", 3, 6, "a prompt of 40,961 tokens exceeds the context of qwen3-8b (40,960)"),
    # what the engine does not take, however many GPUs there are
    ("kv_cache_dtype: int3\n", "KV901", 3, 17, "vllm cannot store int3"),
    ("settings: {kv_cache_layout: none}\n", "KV901", 3, 11, "unknown KV cache layout 'none'"),
    ("enable_expert_parallel: true\n", "KV901", 3, 25, "leave out --enable-expert-parallel"),
    # what is named and is not there
    ("engine: vlm\n", "KV901", 3, 9, "did you mean vllm?"),
    ("kv_cache_dtype: fp9\n", "KV901", 3, 17, "did you mean fp8?"),
    ("weight_dtype: fp9\n", "KV901", 3, 15, "did you mean fp8?"),
    ("settings: {blok_size: 5}\n", "KV901", 3, 11, "did you mean block_size?"),
    ("tensor_parallel_size: 3\n", "KV901", 3, 23, "nearest -tp that works: 1, 2, 4"),
    ("data_parallel_size: 99999\n", "KV901", 3, 21, "a parallel size is 1 to 65,536, not 99999"),
    ("prices: {h2000: 2}\n", "KV902", 3, 17, "did you mean h200"),
    ("lengths: nowhere.csv\n", "KV904", None, None, "cannot be read"),
    ("lengths: ../../../../etc/passwd\n", "KV904", 3, 10, "outside the plan's project"),
    ("lengths: /etc/passwd\n", "KV904", 3, 10, "outside the plan's project"),
    (f"lengths: ../{'t' * 250}\n", "KV904", 3, 10, f"'../{'t' * 197}' lies outside the plan's project"),
    ("calibration: ~/c.json\n", "KV904", 3, 14, "outside the plan's project"),
]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "said"), WRONG, ids=[text.split("\n")[0][:40] for text, *_ in WRONG]
)
def test_what_is_wrong_stands_where_it_is(tmp_path, monkeypatch, text, code, line, column, said):
    monkeypatch.chdir(tmp_path)
    found = problems(PLAN + text)[0]
    assert (found.code, found.line, found.column) == (code, line, column)
    assert found.path == ("nowhere.csv" if line is None else "plan.yaml")
    assert said in f"{found.message} {found.help}"


def test_what_is_just_within_the_bounds_is_taken():
    """The other side of each contradiction."""
    for text in (
        "rate: 2\nisl: 1\nosl: 1\n", "isl: 5\nslo: {ttft: 1s}\n", "slo: {tpot: 1s}\n",
        "objective: cost\nprices: {h200: 1}\n", "expect: {fits: false}\n", "gpus: 3\nexpect: {gpus: 3}\n",
        "expect: {gpus: 9}\n", "gpu_memory_utilization: 1\n", "node_size: 1\n", "gpus: 4096\n", "calibration: c.json\n",
        "lengths: t.csv\nrate: 1\nslo: {ttft: 1s}\n", "isl: 5\nosl: 6\nseq_len: 11\n", "isl: 5\nseq_len: 5\n",
        "lengths: t.csv\nosl: 6\n", "slo: {tpot: 1ns}\n", "node_link: 1B/s\n",
        f"lengths: {'t' * 1000}\n",
    ):  # fmt: skip
        assert list(contradictions(read(PLAN + text).spec)) == []


def test_a_calibration_is_of_one_kind_of_gpu():
    found = problems("model: qwen3-8b\ngpu: [h200, h100]\ncalibration: c.json\n")[0]
    assert (found.code, found.line, found.column) == ("KV101", 3, 14)
    assert found.help == "give one gpu, or leave it out"


def test_totals_say_nothing_of_prompts(tmp_path):
    (tmp_path / "t.csv").write_text("seq_len\n100\n")
    (found,) = problems(PLAN + "lengths: t.csv\nslo: {ttft: 1s}\n", str(tmp_path / "plan.yaml"))
    assert (found.code, found.line, found.column) == ("KV901", 3, 10)
    assert (found.message, found.help) == ("a time to the first token needs the length of the prompt", "give isl")
    assert resolved(PLAN + "lengths: t.csv\nslo: {tpot: 1s}\n", str(tmp_path / "plan.yaml")).request.target.asked


def test_models_and_gpus_that_are_not_there():
    (model,) = problems("model: qwen-73b\ngpu: h200\n")
    assert (model.line, model.column) == (1, 8)
    assert "qwen-72b" in (model.help or "")
    (gpu,) = problems("model: qwen3-8b\ngpu: [h200, h300]\n")
    assert (gpu.line, gpu.column) == (2, 13)
    (one,) = problems("model: qwen3-8b\ngpu: h300\n")
    assert (one.line, one.column) == (2, 6)
    assert one.help


def test_an_engine_that_does_not_take_a_model_is_told_at_the_engine():
    text = "model: deepseek-v4-pro\ngpu: h200\nseq_len: 8K\nengine: llama.cpp\n"
    (found,) = problems(text)
    assert (found.line, found.message) == (4, "llama.cpp has no cache for compressed attention as modelled here")
    (other,) = problems(text + "kv_cache_dtype: q8_0\n")
    assert other.line == 4


def test_faults_are_reported_together():
    found = problems(PLAN + "batch_size: 4\nrate: 2\nobjective: cost\n")
    assert [problem.line for problem in found] == [4, 4, 5]


def test_a_model_that_states_no_context(tmp_path):
    model = tmp_path / "m.yaml"
    model.write_text(
        "name: m\nhidden_size: 64\nvocab_size: 64\nffn:\n  mlp: {kind: dense, intermediate_size: 64}\nattention:\n"
        "  a: {kind: full, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 64}\n"
        "layers:\n  - {attention: a, ffn: mlp}\n"
    )
    (found,) = problems("model: m.yaml\ngpu: h200\n", str(tmp_path / "plan.yaml"))
    assert found.message == "m states no context length"
    assert (found.help, found.line) == ("give seq_len, or isl and osl", 1)
    assert resolved("model: m.yaml\ngpu: h200\nseq_len: 70\n", str(tmp_path / "plan.yaml")).request.spec.name == "m"


def test_flags_have_no_place_and_python_none_at_all():
    """The same faults from flags: a message and help, no line."""
    for spec in (
        PlanSpec(model="qwen3-8b", gpu="h200", batch_size=4, rate=2, isl=1, osl=1),
        PlanSpec(model="qwen3-8b", gpu="h200", engine="vlm"),
        PlanSpec(model="qwen3-8b", gpu="h200", objective="fast"),  # type: ignore[arg-type]
        PlanSpec(model="qwen3-8b", gpu=()),
        PlanSpec(model="qwen3-8b", gpu="h200", node_link="-1GB/s"),
    ):
        with pytest.raises(KvcalcError) as caught:
            resolve(spec)
        problem = caught.value.problems[0]
        assert (problem.path, problem.line) == (None, None)
        assert problem.message
    with pytest.raises(Unresolved) as unresolved:
        resolve(PlanSpec(model="qwen3-8b", gpu="h200", tensor_parallel_size=3))
    assert unresolved.value.loc == ("tensor_parallel_size",)


FROM_PYTHON = [
    ({"objective": "f" * 31}, f"unknown objective '{'f' * 30}'"),
    ({"prices": {"p" * 41: -1}}, f"price of {'p' * 40} is a decimal above 0 and at most 1,000,000,000, not '-1'"),
    ({"encoder_len": -1}, "encoder_len must be at least 0, got -1"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"seq_len": 0}, "seq_len must be at least 1, got 0"),
]


@pytest.mark.parametrize(("keys", "said"), FROM_PYTHON, ids=[str(i) for i in range(len(FROM_PYTHON))])
def test_what_no_file_can_hold_is_refused_too(keys, said):
    with pytest.raises(KvcalcError) as caught:
        resolve(PlanSpec(model="qwen3-8b", gpu="h200", **keys))
    assert caught.value.problems[0].message == said


def test_a_prompt_may_fill_the_context():
    assert resolved(PLAN + "isl: 40960\nbatch_size: 1\n").request.demand.isl == 40_960


def test_a_changed_key_stands_nowhere_in_the_file():
    file = replace(read(PLAN + "engine: vllm\n"), changed=frozenset({"engine"}))
    assert file.problem("KV901", ("engine",), "no").line is None
    assert file.problem("KV901", ("model",), "no").line == 1
    assert file.problem("KV901", (), "no").line == 1
    inner = replace(file, changed=frozenset({"slo"}))
    assert inner.problem("KV901", ("slo", "engine"), "no").line is None
    assert inner.problem("KV901", ("engine", "slo"), "no").line == 3
    with pytest.raises(KvcalcError) as caught:
        resolve(replace(file.spec, engine="vlm"), file)
    assert caught.value.problems[0].line is None


# --- paths


def test_paths_lead_from_the_plan_file(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    inner = tmp_path / "plans" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "trace.csv").write_text("isl,osl\n10,5\n")
    (tmp_path / "gpu.yaml").write_text((Path(__file__).parents[2] / "kvcalc/hardware/h200.yaml").read_text())
    plan = inner / "plan.yaml"
    plan.write_text("model: qwen3-8b\ngpu: [../../gpu.yaml, h100]\nlengths: ../../trace.csv\n")
    monkeypatch.chdir(tmp_path)
    found = load_plan(str(plan.relative_to(tmp_path)))
    assert (found.spec.gpu, found.spec.lengths) == (("gpu.yaml", "h100"), "trace.csv")
    assert [each.name for each in resolve(found.spec, found).hardware] == ["h200", "h100-sxm"]
    one = read("model: ./m.yaml\ngpu: ../gpu.yaml\ncalibration: c.json\n", str(inner / "plan.yaml"))
    assert one.spec.model == str(inner / "m.yaml")
    assert one.spec.gpu == str(tmp_path / "plans" / "gpu.yaml")
    assert one.spec.calibration == str(inner / "c.json")


def test_a_path_in_the_project_may_not_be_absolute(tmp_path, monkeypatch):
    """Else a plan would say where its author keeps things, and mean nothing elsewhere."""
    monkeypatch.chdir(tmp_path)
    (found,) = problems(f"model: qwen3-8b\ngpu: [h200, {tmp_path}/gpu.yaml]\n")
    assert (found.code, found.line, found.column) == ("KV904", 2, 13)


def test_a_path_shows_that_it_is_one():
    assert all(map(is_file, ("m.yaml", "M.YML", "config.json", "w.gguf", "./m", "/m", "~m")))
    assert not any(map(is_file, ("-", "qwen3-8b", "yaml", "m.yaml.bak", "a/b")))


def test_a_bare_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3-8b").write_text("not a model")
    assert read(PLAN).spec.model == "qwen3-8b"


def test_a_plan_on_standard_input_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read("model: ./m.yaml\ngpu: h200\n", "<stdin>").spec.model == "m.yaml"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_plan_or_problems(content):
    try:
        file = read_plan("plan.yaml", content)
    except KvcalcError as error:
        assert error.problems  # noqa: PT017
    else:
        assert list(contradictions(file.spec)) == []
