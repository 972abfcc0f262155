"""`import kvcalc`: what it gives, that it says what the commands say, and what it refuses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from command_line import kvcalc as command

import kvcalc

ROOT = Path(__file__).resolve().parents[2]


def _isolated(code: str) -> str:
    """What a fresh interpreter prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


# --- the front


def test_types_and_interpreter_are_told_the_same_names() -> None:
    tree = ast.parse((ROOT / "kvcalc" / "__init__.py").read_text("utf-8"))
    typed = {
        (node.module, alias.name)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert typed == {(home, name) for home, names in kvcalc._HOMES.items() for name in names}
    assert set(kvcalc.__all__) == {name for _, name in typed} | {"__version__"}
    assert set(kvcalc.__all__) <= set(dir(kvcalc))
    for name in kvcalc.__all__:
        assert getattr(kvcalc, name) is not None


def test_importing_kvcalc_imports_nothing_else_of_it() -> None:
    loaded = "sorted(m for m in sys.modules if m.startswith('kvcalc.'))"
    assert _isolated(f"import sys, kvcalc; print({loaded})") == "[]"
    # The check can fail: asking for a function does import its room.
    assert "kvcalc.api.sizes" in _isolated(f"import sys, kvcalc; kvcalc.size; print({loaded})")


def test_sizing_from_python_needs_no_terminal_library() -> None:
    heavy = "[m for m in ('typer', 'rich', 'numpy', 'pydantic', 'torch', 'matplotlib') if m in sys.modules]"
    assert _isolated(f"import sys, kvcalc; kvcalc.size('qwen-72b', seq_len=1); print({heavy})") == "[]"
    assert "numpy" in _isolated(f"import sys, kvcalc; kvcalc.sweep('qwen-72b', batch_size=1); print({heavy})")


@pytest.mark.parametrize("name", ["plan", "reconcile", "roofline", "sweep", "tiers"])
def test_a_room_of_the_same_name_does_not_hide_the_function(name: str) -> None:
    """Before and after the submodule has been imported."""
    code = "import kvcalc; {0}kvcalc.{1}.__module__; print(kvcalc.{1}.__module__)"
    for first in ("", f"import kvcalc.{name}; ", f"from kvcalc.{name} import __name__ as n; "):
        assert _isolated(code.format(first, name)).startswith("kvcalc.api.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sise'"):
        kvcalc.sise  # noqa: B018


# --- the same answers as the commands

SAME = {
    "size": (
        lambda: kvcalc.size("qwen-72b", "gemma-3-27b", batch_size=8, seq_len="32K", kv_cache_dtype="fp8"),
        "size qwen-72b gemma-3-27b -b 8 -s 32K --kv-cache-dtype fp8",
    ),
    "max_model_len": (
        lambda: kvcalc.size("qwen-72b", max_model_len="8K"),
        "size qwen-72b --max-model-len 8K",
    ),
    "allocate": (
        lambda: kvcalc.allocate(
            "gemma-3-27b", engine="vllm", batch_size=32, seq_len="128K", tensor_parallel_size=2, block_size=32,
            gpu_memory="80GiB", gpu_memory_utilization=0.9, overheads={"activation": "1.5GiB"},
        ),
        "size gemma-3-27b --engine vllm -b 32 -s 128K -tp 2 --block-size 32 --gpu-memory 80GiB "
        "--gpu-memory-utilization 0.9 --overhead activation=1.5GiB",
    ),
    "compare": (
        lambda: kvcalc.compare("deepseek-llm-67b", ("deepseek-v2", "kv:int6"), variants=["mqa"], seq_len=4096),
        "compare deepseek-llm-67b deepseek-v2@kv:int6 --as mqa -s 4096",
    ),
    "explain": (lambda: kvcalc.explain("deepseek-v3.2", seq_len=1), "explain deepseek-v3.2 -s 1"),
    "diff": (
        lambda: kvcalc.diff("deepseek-v2", "deepseek-v3", seq_len="8K", gpu="h200"),
        "diff deepseek-v2 deepseek-v3 -s 8K --gpu h200",
    ),
    "tiers": (
        lambda: kvcalc.tiers("qwen-72b", "a100-40gb", batch_size=8, seq_len="32K", storage="7GB/s"),
        "tiers qwen-72b --gpu a100-40gb -b 8 -s 32K --storage 7GB/s",
    ),
    "roofline": (
        lambda: kvcalc.roofline("deepseek-v3", "h200", batch_size=64, seq_len="8K", tensor_parallel_size=8),
        "roofline deepseek-v3 --gpu h200 -b 64 -s 8K -tp 8",
    ),
    "sweep": (
        lambda: kvcalc.sweep("qwen-72b", batch_size=[1, 2], seq_len="1K:4K:*2", gpus=["h200"]),
        "sweep qwen-72b -b 1,2 -s 1K:4K:*2 --gpu h200",
    ),
    "plan": (
        lambda: kvcalc.plan("qwen-72b", "h200", batch_size=8, seq_len="32K", tpot=0.05, prices={"h200": 2.5}),
        "plan qwen-72b --gpu h200 -b 8 -s 32K --tpot 50ms --price h200=2.5",
    ),
    "fit": (
        lambda: kvcalc.fit("qwen-72b", "h200", gpus=8, seq_len="32K", gpu_memory_utilization=0.9),
        "fit qwen-72b --gpu h200 --gpus 8 -s 32K --gpu-memory-utilization 0.9",
    ),
    "check": (lambda: kvcalc.check("model_specs/qwen-72b.yaml"), "check model_specs/qwen-72b.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_function_says_what_its_command_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    function, arguments = SAME[name]
    assert kvcalc.to_json(function()) == command(*arguments.split(), "-o", "json").out


def test_a_log_is_reconciled_as_by_the_command(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "llama_kv_cache: size = 128.00 MiB (  1024 cells,  32 layers,  1/1 seqs), "
        "K (f16): 64.00 MiB, V (f16): 64.00 MiB\n"
    )
    asked = ["reconcile", str(log), "--model", "llama-3.1-8b", "-o", "json"]
    # 1,024 cells x 32 layers x 8 heads x 128 x 2 (K, V) x 2 B = 128 MiB
    found = kvcalc.reconcile(log, "llama-3.1-8b")
    assert found.agrees
    assert kvcalc.to_json(found) == command(*asked).out


def test_a_plan_file_is_planned_as_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("model: qwen-72b\ngpu: h200\nbatch_size: 8\nseq_len: 32K\n")
    assert kvcalc.to_json(kvcalc.plan_file(path)) == command("plan", "-f", str(path), "-o", "json").out


# --- friendly arguments

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192, "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip


def test_a_model_may_be_a_name_a_path_its_content_or_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    # 32 layers x 8 heads x 128 x 2 (K, V) x 2 B
    with pytest.warns(kvcalc.KvcalcWarning, match="head_dim = 128"):
        assert kvcalc.size(CONFIG, seq_len=1).logical_bytes == 131072
    with pytest.warns(kvcalc.KvcalcWarning, match="head_dim = 128"):
        assert kvcalc.size(path, seq_len=1).logical_bytes == 131072
    spec = kvcalc.find_model("llama-3.1-8b")
    assert kvcalc.find_model(spec) is spec
    assert kvcalc.size(spec, "meta-llama/Meta-Llama-3.1-8B", seq_len=1).logical_bytes == 2 * 131072


def test_a_model_may_be_a_what_if(tmp_path: Path) -> None:
    """As the commands take it; 2 x 80 layers x 8 heads x 128 x 2 B a token."""
    row = 2 * 80 * 8 * 128 * 2
    assert kvcalc.size("qwen-72b@gqa:8", seq_len=63).logical_bytes == 63 * row
    assert kvcalc.tiers("qwen-72b@gqa:8", "h200", seq_len=63).cache_bytes == 63 * row
    spec = tmp_path / "mine@home.yaml"
    spec.write_text((ROOT / "model_specs" / "qwen-72b.yaml").read_text("utf-8"), "utf-8")
    assert kvcalc.find_model(spec).name == "qwen-72b"
    assert kvcalc.find_model(f"{spec}@gqa:8").name == "qwen-72b gqa:8"
    with pytest.raises(kvcalc.KvcalcError, match="names a format"):
        kvcalc.size("qwen-72b@kv:fp8")


def test_the_content_of_a_spec_is_a_model() -> None:
    full = {"kind": "full", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    data = {"name": "mine", "attention": {"full": full}, "layers": [{"count": 3, "attention": "full"}]}
    # 3 layers x 2 heads x 64 x 2 (K, V) x 2 B x 10 tokens
    assert kvcalc.size(data, seq_len=10).logical_bytes == 15360


def test_a_warning_names_the_callers_line() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kvcalc.find_model(CONFIG)
    if sys.version_info >= (3, 12):
        assert [Path(warning.filename).name for warning in said] == [Path(__file__).name]
    assert len(said) == 1


def test_a_gpu_may_be_a_name_an_alias_a_path_or_a_spec() -> None:
    by_path = kvcalc.find_gpu(ROOT / "kvcalc" / "hardware" / "h200.yaml")
    assert by_path == kvcalc.find_gpu("h200")
    assert kvcalc.find_gpu(by_path) is by_path
    assert kvcalc.find_gpu("RTX 4090").name == "rtx-4090"


@pytest.mark.parametrize("count", [32768, "32768", "32K", "32.768k"])
def test_counts_are_numbers_or_text(count: int | str) -> None:
    assert kvcalc.size("qwen-72b", seq_len=count).models[0].seq_len == 32768


# --- refusals

WRONG = {
    "no model": (lambda: kvcalc.size(), "no model is named"),
    "unknown model": (lambda: kvcalc.size("qwen-72"), "unknown model"),
    "not a model": (lambda: kvcalc.size(3), "3 is no model"),
    "not plain": (lambda: kvcalc.size({"a": object()}), "no plain data"),
    "unknown gpu": (lambda: kvcalc.tiers("qwen-72b", "h300"), "unknown GPU"),
    "not a gpu": (lambda: kvcalc.tiers("qwen-72b", 3), "3 is no GPU"),
    "zero": (lambda: kvcalc.size("qwen-72b", batch_size=0), "batch_size must be at least 1"),
    "negative": (lambda: kvcalc.size("qwen-72b", seq_len=-1), "seq_len must be at least 1"),
    "huge": (lambda: kvcalc.size("qwen-72b", seq_len=2**61), "at most 2\\^60"),
    "bool": (lambda: kvcalc.size("qwen-72b", batch_size=True), "whole number, not True"),
    "float": (lambda: kvcalc.size("qwen-72b", batch_size=1.5), "whole number, not 1.5"),
    "suffix": (lambda: kvcalc.size("qwen-72b", seq_len="32X"), "'32X' is not a seq_len"),
    "format": (lambda: kvcalc.size("qwen-72b", kv_cache_dtype="bf17"), "unknown KV cache format"),
    "engine": (lambda: kvcalc.allocate("qwen-72b", engine="vlm"), "unknown engine"),
    "setting": (lambda: kvcalc.allocate("qwen-72b", engine="vllm", blocks=3), "no setting 'blocks'"),
    "memory twice": (
        lambda: kvcalc.allocate("qwen-72b", engine="vllm", gpu_memory=1, kv_cache_memory_bytes=1),
        "exclude each other",
    ),
    "share alone": (lambda: kvcalc.allocate("qwen-72b", engine="vllm", gpu_memory_utilization=0.9), "needs gpu_memory"),
    "share": (
        lambda: kvcalc.allocate("qwen-72b", engine="vllm", gpu_memory="80GB", gpu_memory_utilization=1.1),
        "gpu_memory_utilization",
    ),
    "variant": (lambda: kvcalc.compare("qwen-72b", variants=["mqq"]), "unknown variant"),
    "phase": (lambda: kvcalc.roofline("qwen-72b", "h200", phase="train"), "unknown phase"),
    "rate": (lambda: kvcalc.tiers("qwen-72b", "h200", storage="7GB"), "not a bandwidth"),
    "zero rate": (lambda: kvcalc.tiers("qwen-72b", "h200", storage=0), "storage"),
    "empty axis": (lambda: kvcalc.sweep("qwen-72b", batch_size=[]), "0 batch sizes"),
    "axis": (lambda: kvcalc.sweep("qwen-72b", batch_size="8:1"), "runs backwards"),
    "tpot": (lambda: kvcalc.plan("qwen-72b", "h200", tpot=0), "tpot is more than 0"),
    "not a number": (lambda: kvcalc.plan("qwen-72b", "h200", tpot=float("nan")), "tpot is more than 0"),
    "two demands": (lambda: kvcalc.plan("qwen-72b", "h200", batch_size=1, rate=2, isl=1, osl=1), "rate"),
    "no gpu": (lambda: kvcalc.plan("qwen-72b", []), "GPU"),
    "ranks": (lambda: kvcalc.plan("qwen-72b", "h200", tensor_parallel_size="two"), "'two' is not a tensor_parallel"),
    "half ranks": (
        lambda: kvcalc.fit("qwen-72b", "h200", data_parallel_size=2.0),
        "data_parallel_size is a whole number",
    ),
    "node": (lambda: kvcalc.plan("qwen-72b", "h200", node_size=0), "node_size must be at least 1"),
    "no rate": (lambda: kvcalc.plan("qwen-72b", "h200", rate=float("nan"), isl=1, osl=1), "rate is a decimal"),
    "plan and more": (
        lambda: kvcalc.diff("qwen-72b", "qwen2-72b", plan="docs/examples/plan.yaml", batch_size=8, gpu="h200"),
        "a plan brings its own batch_size, gpu",
    ),
    "path": (lambda: kvcalc.check("/no/such/file"), "no such file"),
    "code": (lambda: kvcalc.check(".", select=["KV999"]), "no rule has the code"),
    "log": (lambda: kvcalc.reconcile("/no/such/log", "qwen-72b"), "cannot be read"),
    "list": (lambda: kvcalc.names("gpu"), "cannot list"),
    "report": (lambda: kvcalc.report_schema("sise"), "no report is called"),
    "not a report": (lambda: kvcalc.to_json(3), "is no report"),
}


def test_small_rates_and_prices_are_read_though_python_writes_them_with_an_exponent() -> None:
    """One request in ten days, at 0.00005 an hour."""
    found = kvcalc.plan(
        "qwen3-8b", "h200", rate=1.2e-6, isl=100, osl=100, prices={"h200": 5e-5}, tensor_parallel_size="1",
        max_gpus=1, alternatives=False,
    )  # fmt: skip
    assert found.rate == 1.2e-6
    assert found.plans[0].choices[0].cost_per_hour == 5e-5


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_kvcalc_error(name: str) -> None:
    function, message = WRONG[name]
    with pytest.raises(kvcalc.KvcalcError, match=message) as caught:
        function()
    assert caught.value.problems
    assert all(problem.code.startswith("KV") for problem in caught.value.problems)


def test_a_traceback_shows_what_to_do() -> None:
    with pytest.raises(kvcalc.KvcalcError) as caught:
        kvcalc.find_gpu("h20o")
    assert any(note.startswith("help: did you mean") for note in caught.value.__notes__)


# --- types

SNIPPET = '''
"""What a user of the typed package writes."""
from pathlib import Path

import kvcalc
import kvcalc.tiers  # the room of that name does not hide the function
from kvcalc import FitReport, KvcalcError, PlanReport, SizeReport, SweepReport, size


def gib(model: str | Path, batch: int) -> float:
    report: SizeReport = size(model, batch_size=batch, seq_len="32K")
    total: int = report.logical_bytes
    return total / 2**30


plan: PlanReport = kvcalc.plan("qwen-72b", ["h100", "h200"], batch_size=8, seq_len=32768, tpot=0.05)
gpus: int | None = plan.plans[0].gpus
fit: FitReport = kvcalc.fit("qwen-72b", kvcalc.find_gpu("h200"), gpus=8)
plane: SweepReport = kvcalc.sweep("qwen-72b", batch_size=range(1, 9))
seconds: float | None = kvcalc.tiers("qwen-72b", "h200").tiers[0].read_s
allocated: int = kvcalc.allocate("qwen-72b", engine="vllm", block_size=32).models[0].allocation.allocated_bytes
try:
    kvcalc.size({"model_type": "llama"})
except KvcalcError as error:
    codes: list[str] = [problem.code for problem in error.problems]
kvcalc.names("models")
'''
MISTAKES = """
import kvcalc

kvcalc.size("qwen-72b", batch=8)
kvcalc.size("qwen-72b", seq_len=1.5)
kvcalc.plan("qwen-72b")
kvcalc.names("gpu")
kvcalc.size("qwen-72b").logical_byte
"""


def test_a_users_program_type_checks_and_his_mistakes_do_not(tmp_path: Path) -> None:
    """mypy --strict over both files in one run: it takes seconds."""
    (tmp_path / "right.py").write_text(SNIPPET)
    (tmp_path / "wrong.py").write_text(MISTAKES)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nwarn_unused_configs = false\n")
    arguments = ["--config-file", "mypy.ini", "--cache-dir", str(tmp_path / "cache"), "--no-error-summary"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, "right.py", "wrong.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in ran.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[0] for line in errors] == ["wrong.py"] * 5, ran.stdout + ran.stderr
    assert [int(line.split(":")[1]) for line in errors] == [4, 5, 6, 7, 8]
