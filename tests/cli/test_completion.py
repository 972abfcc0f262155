"""Shell completion, by the protocol that the shells' scripts speak: a variable says which shell asks, others what."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvcalc.cli.app import COMMANDS, load
from kvcalc.cli.completion import COMPLETED, NAMES_FILE, gpus, models, names_text, tables
from kvcalc.spec.catalog import find_model, shipped
from kvcalc.spec.hardware_catalog import shipped_hardware

KVCALC = [sys.executable, "-m", "kvcalc"]


def asked(environment: dict[str, str]) -> str:
    """What a fresh process answers; `python -m kvcalc` is told the name under which it is installed."""
    code = "import sys; sys.argv[0] = 'kvcalc'; from kvcalc.cli import run; run()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMP_", "_TYPER", "_KVCALC"))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    return ran.stdout


def bash(line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    words = line.split(" ")
    environment = {"_KVCALC_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return asked(environment).split()


OFFERED = {
    "kvcalc si": ["size"],
    "kvcalc size gemma-3-2": ["gemma-3-27b"],
    "kvcalc compare qwen-72b deepseek-v3.": ["deepseek-v3.2"],
    "kvcalc size meta-llama/Llama-3.2": ["meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B"],
    "kvcalc size ./model": [],
    "kvcalc tiers qwen-72b --gpu h100": ["h100-nvl", "h100-pcie", "h100-sxm"],
    "kvcalc sweep qwen-72b --gpu h200,a100-80": ["h200,a100-80gb", "h200,a100-80gb-pcie"],
    "kvcalc plan qwen-72b --gpu h200,h100-s": ["h200,h100-sxm"],
    "kvcalc plan qwen-72b --price h100-s": ["h100-sxm="],
    "kvcalc plan qwen-72b --price h200=2.5,h100-s": ["h200=2.5,h100-sxm="],
    "kvcalc size qwen-72b --engine v": ["vllm"],
    "kvcalc fit qwen-72b --engine ll": ["llama.cpp"],
    "kvcalc size qwen-72b --kv-cache-dtype fp8_d": ["fp8_ds_mla"],
    "kvcalc size qwen-72b --kv-cache-dtype key=q8_0,value=q4_": ["key=q8_0,value=q4_1", "key=q8_0,value=q4_0"],
    "kvcalc roofline qwen-72b --weight-dtype awq_int4_g12": ["awq_int4_g128"],
    "kvcalc explain KV203": ["KV203"],
    "kvcalc explain kv203": ["kv203"],
    "kvcalc explain sli": ["sliding"],
    "kvcalc explain q8": ["q8_0"],
    "kvcalc explain h20-": ["h20-141gb"],
    "kvcalc check --select KV2,KV30": [f"KV2,KV30{n}" for n in range(1, 8)],
    "kvcalc compare qwen-72b --as mqa,win": ["mqa,window:4096"],
    "kvcalc plan qwen-72b --objective t": ["tpot", "throughput"],
    "kvcalc list f": ["formats"],
    "kvcalc schema ha": ["hardware"],
    "kvcalc schema --report fi": ["fit"],
    "kvcalc size qwen-72b -o ": ["table", "json", "csv", "markdown"],
    "kvcalc check --output-format gi": ["github", "gitlab"],
    "kvcalc size qwen-72b --no-such-option x": [],
}


@pytest.mark.parametrize("line", OFFERED)
def test_bash_is_offered(line: str) -> None:
    assert bash(line) == OFFERED[line]


def test_bash_is_offered_options() -> None:
    assert "--kv-cache-dtype" in bash("kvcalc size qwen-72b --kv")


def test_zsh_is_offered() -> None:
    found = asked({"_KVCALC_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "kvcalc tiers qwen-72b --gpu h100"})
    assert found.startswith("_arguments '*: :((")
    assert '"h100-nvl"\n"h100-pcie"\n"h100-sxm"' in found
    files = asked({"_KVCALC_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "kvcalc size ./model"})
    assert files.strip() == "_files"


def test_fish_is_offered() -> None:
    question = {"_KVCALC_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert asked({**question, "_TYPER_COMPLETE_ARGS": "kvcalc size qwen-"}).split() == ["qwen-72b", "qwen-7b"]
    assert asked({**question, "_TYPER_COMPLETE_ARGS": "kvcalc explain KV30"}).split() == [
        f"KV30{n}" for n in range(1, 8)
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_the_installed_script_completes_in_a_real_bash(tmp_path: Path) -> None:
    """--install-completion writes the script and the line that loads it; bash itself then asks kvcalc."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kvcalc"
    program.write_text(f"#!{sys.executable}\nfrom kvcalc.cli import run\nrun()\n")
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    script = """
        kvcalc --install-completion >/dev/null || exit 3
        source ~/.bash_completions/kvcalc.sh
        COMP_WORDS=(kvcalc size qwen-7); COMP_CWORD=2
        _kvcalc_completion kvcalc
        echo "${COMPREPLY[@]}"
        complete -p kvcalc
    """
    ran = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [
        "qwen-72b qwen-7b", "complete -o default -F _kvcalc_completion kvcalc"
    ], ran.stderr  # fmt: skip
    assert "kvcalc.sh" in (tmp_path / ".bashrc").read_text()


# --- the names


def test_names_are_those_of_the_tables() -> None:
    assert Path(NAMES_FILE).read_text("utf-8") == names_text(tables()), "run: python -m kvcalc.cli.completion"


def test_files_are_names() -> None:
    assert models() == sorted(shipped())
    assert gpus() == sorted(shipped_hardware())


def test_what_is_offered_in_lower_case_is_found() -> None:
    assert find_model("QWEN-72B").name == "qwen-72b"


FREE = {
    "batch_size", "seq_len", "max_model_len", "encoder_len", "tensor", "pipeline", "data", "context_parallel",
    "block_size", "max_num_batched_tokens", "num_speculative_tokens", "disable_hybrid", "settings", "gpu_memory",
    "utilization", "cache_memory", "overhead", "per_rank", "per_layer", "quiet", "hub", "output", "storage", "pool",
    "calibration", "plot", "phase", "tensor_parallel_size", "data_parallel_size", "enable_expert_parallel",
    "decode_context_parallel_size", "gpu_memory_utilization", "gpus", "node_size", "node_link", "rate", "isl", "osl",
    "lengths", "tpot", "ttft", "pipeline_parallel_size", "tensor_across_nodes", "overheads", "file", "paths", "fix",
    "diff", "against", "output_format", "output_file", "skip_unknown", "stdin_filename", "config", "isolated",
    "exit_zero", "force_exclude", "plan", "rev", "exit_code", "quick", "seed", "json_file", "log",
    "details", "frontier",
}  # fmt: skip
"""Numbers, files, switches and words of an enum, which typer offers itself."""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_parameter_is_completed_or_free(command) -> None:
    """A new option wants a decision: a row in COMPLETED, or a word above."""
    names = {parameter.name for parameter in load(command).params} - {"install_completion", "show_completion", "help"}
    assert names - set(COMPLETED) - FREE == set()


def test_every_completion_is_of_a_parameter() -> None:
    taken = {parameter.name for command in COMMANDS for parameter in load(command).params}
    assert set(COMPLETED) <= taken


# --- light


@pytest.mark.parametrize(("module", "loaded"), [("pydantic", False), ("kvcalc.formats", False), ("typer", True)])
def test_an_answer_imports_no_room(module: str, loaded: bool) -> None:
    """The names are read from one small file, or from a folder. (That typer is seen shows that the check can fail.)"""
    code = (
        "import sys; sys.argv[0] = 'kvcalc'\n"
        "from kvcalc.cli import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        f"print({module!r} in sys.modules, file=sys.__stdout__)"
    )
    question = {"_KVCALC_COMPLETE": "complete_bash", "COMP_WORDS": "kvcalc explain KV203", "COMP_CWORD": "2"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **question}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["KV203", str(loaded)]
