"""One question or more of every command, and what it may import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checks.spec_text import plain

HEAVY = frozenset({
    "torch", "triton", "transformers", "numpy", "matplotlib", "pydantic", "rich", "huggingface_hub", "gguf", "pathspec",
})  # fmt: skip
"""Packages that take longer to import than a short answer takes."""

CONFIG = """{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "vocab_size": 10, "intermediate_size": 16}"""
LOG = """\
INFO LLM engine (v0.11.0) with config: model='Qwen/Qwen3-8B', max_seq_len=40960, kv_cache_dtype=auto
INFO Available KV cache memory: 50.00 GiB
INFO GPU KV cache size: 364,080 tokens
"""
PLAN = "model: qwen3-8b\ngpu: h200\nbatch_size: 8\nseq_len: 8K\nexpect: {gpus: 1}\n"
BAD = plain("bad").replace("value: 6144", "value: 1")


@dataclass(frozen=True, slots=True)
class Question:
    """`{folder}` in an argument is where `write_inputs` has put its files."""

    line: str
    imports: tuple[str, ...] = ()
    """Of HEAVY, on a pipe."""
    code: int = 0
    alone: bool = True
    """Whether it is asked in a bare interpreter as well; other forms of the same answer need not be."""

    @property
    def for_machines(self) -> bool:
        """Whether the answer is always the same: tables may fold and shine on a terminal."""
        return not {"-o", "-q", "import", "schema", "--version"}.isdisjoint(self.line.split())

    def arguments(self, folder: Path) -> list[str]:
        return [word.format(folder=folder) for word in self.line.split()]


def write_inputs(folder: Path) -> None:
    """The files that questions are about."""
    files: Mapping[str, str] = {
        "spec.yaml": plain(), "bad.yaml": BAD, "worse.yaml": "name: [\n", "config.json": CONFIG, "server.log": LOG,
        "plan.yaml": PLAN, "trace.csv": "isl,osl\n100,20\n300,7\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


CHECK = ("pathspec", "pydantic")
QUESTIONS: Mapping[str, Question] = {
    "version": Question("--version"),
    "help": Question("--help", ("rich",)),
    "size": Question("size qwen-72b gemma-3-27b -b 8 -s 32K"),
    "size quiet": Question("size qwen-72b -q"),
    "size json": Question("size deepseek-v3.2 -s 2000 -o json", alone=False),
    "size csv": Question("size kimi-linear-48b-a3b -s 2000 --per-layer -o csv", alone=False),
    "size markdown": Question("size jamba-v0.1 -s 2000 -o markdown", alone=False),
    "size in an engine": Question("size gemma-3-27b --engine vllm -s 8K -tp 2 -o json"),
    "size of a spec": Question("size {folder}/spec.yaml -o json", ("pydantic",)),
    "size of a config": Question("size {folder}/config.json -o csv", ("pydantic",)),
    "compare": Question("compare qwen-72b --as gqa:8,mqa,mla:512+64,kv:int4-g32 -o json"),
    "explain a model": Question("explain gemma-3-27b -s 128K -o json"),
    "explain a kind": Question("explain mla -o json"),
    "explain a format": Question("explain q8_0 -o json", alone=False),
    "explain a GPU": Question("explain h200 -o json"),
    "explain a code": Question("explain KV201 -o json", ("pydantic",)),
    "tiers": Question("tiers qwen-72b --gpu a100-40gb -b 8 -s 32K -o json"),
    "tiers drawn": Question("tiers qwen-72b --gpu a100-40gb --plot {folder}/tiers.svg -o csv", ("matplotlib", "numpy")),
    "roofline": Question("roofline deepseek-v3 --gpu h200 -b 64 -s 8K -o json"),
    "sweep csv": Question("sweep gemma-3-27b -b 1:8:*2 -s 1K:8K:*2 --gpu h200 -o csv", ("numpy",)),
    "sweep json": Question("sweep qwen-72b -b 1,3 -s 1K,7 -o json", ("numpy",), alone=False),
    "plan": Question("plan qwen3-8b --gpu h200 -b 64 -s 8K --tpot 20ms -o json"),
    "plan of a file": Question("plan -f {folder}/plan.yaml -o csv", ("pydantic",)),
    "plan of a trace": Question("plan qwen3-8b --gpu l4 --lengths {folder}/trace.csv -b 4 -o json"),
    "fit": Question("fit qwen3-8b --gpu h200 --gpus 2 -o json"),
    "check": Question("check --isolated {folder}/spec.yaml", CHECK),
    "check json": Question("check --isolated {folder} -o json", CHECK, 1),
    "check csv": Question("check --isolated {folder}/bad.yaml {folder}/worse.yaml -o csv", CHECK, 1, alone=False),
    "check github": Question("check --isolated {folder} -o github", CHECK, 1, alone=False),
    "check sarif": Question("check --isolated {folder} -o sarif", CHECK, 1, alone=False),
    "check junit": Question("check --isolated {folder} -o junit", CHECK, 1, alone=False),
    "check gitlab": Question("check --isolated {folder} -o gitlab", CHECK, 1, alone=False),
    "diff": Question("diff qwen-72b qwen-7b -o json", ("pydantic",)),
    "verify refuses": Question("verify --device tpu", (), 2),
    "reconcile": Question("reconcile {folder}/server.log --model qwen3-8b -o json"),
    "list models": Question("list models -o csv"),
    "list gpus": Question("list gpus -o json", alone=False),
    "list formats": Question("list formats -o markdown", alone=False),
    "import": Question("import {folder}/config.json", ("pydantic",)),
    "schema": Question("schema", ("pydantic",)),
    "schema of a report": Question("schema --report plan", ("pydantic",)),
}  # fmt: skip
