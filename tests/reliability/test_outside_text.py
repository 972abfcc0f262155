"""What a stranger's file says: it drives no terminal, no CI system, no spreadsheet, and nothing else is read for it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from checks.spec_text import plain
from command_line import Ran, kvcalc

EVIL = (
    "=cmd|'/c calc'!A1\x1b[31m\x1b]0;owned\x07\u202etxt\u2066\x9b2J##[error]x##vso[task.setvariable]y"
    "[bold red]z[/] ](http://evil.example) <img src=x> \\| |\n::error::from a spec"
)
"""An escape, a title, a bell, marks that turn text round, commands of CI systems, markup, a cell, a line of its own."""
WORDS = json.dumps(EVIL[:99])
GPU = f"""\
name: {WORDS}
title: {WORDS}
vendor: nvidia
memory: {{kind: hbm, size: 80GB, bandwidth: 2TB/s, source: {WORDS}}}
peak: {{bf16: 400TFLOP/s, source: {WORDS}}}
"""
FILES: Mapping[str, str] = {
    "spec.yaml": plain().replace("name: tiny", f"name: {WORDS}").replace('"paper, table 1"', WORDS),
    "bad.yaml": plain(more=f"{WORDS}: 1\nfamily: {WORDS}\n"),
    "broken.yaml": f"name: {WORDS}\nattention: [\n{EVIL}\n",
    "plan.yaml": f"model: {WORDS}\ngpu: {WORDS}\nlengths: {WORDS}\n",
    "config.json": json.dumps({"model_type": EVIL, EVIL: EVIL, "architectures": [EVIL], "_name_or_path": EVIL}),
    "llama.json": json.dumps(
        {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
         "num_kv_heads": EVIL, "torch_dtype": EVIL, "rope_scaling": {"type": EVIL}, "num_key_value_heads": 2}
    ),
    "server.log": f"LLM engine (v0.11.0) with config: model='{EVIL[:60].replace(chr(39), '')}', max_seq_len=4096\n"
    f"{EVIL}\nAvailable KV cache memory: 50.00 GiB\n",
    "trace.csv": f'"{EVIL}",isl,osl\nx,{EVIL.splitlines()[0]},1\n',
    "calibration.json": json.dumps(
        {"machine": {"device": EVIL, "driver": EVIL, "date": EVIL},
         "ceilings": {"read_bytes_per_s": 4e12, "gemm_flops_per_s": {"bf16": 7e14, EVIL: 1e14}}}
    ),
    "kvcalc.toml": f"{WORDS} = 1\n",
}  # fmt: skip
NAMED = "\x1b[31m\u202e::stop-commands::x.yaml"
"""A file's name, as git takes it."""

ASKED: tuple[tuple[str, ...], ...] = (
    ("size", "spec.yaml"), ("size", "spec.yaml", "--per-layer"), ("size", "spec.yaml", "--engine", "vllm"),
    ("compare", "spec.yaml", "qwen-7b"), ("explain", "spec.yaml"), ("tiers", "spec.yaml", "--gpu", "h200"),
    ("roofline", "spec.yaml", "--gpu", "h200", "--calibration", "calibration.json"),
    ("tiers", "qwen-72b", "--gpu", "h200", "--calibration", "calibration.json"),
    ("sweep", "spec.yaml", "-b", "1,2", "-s", "1K", "--gpu", "h200"), ("plan", "spec.yaml", "--gpu", "h200", "-b", "2"),
    ("fit", "spec.yaml", "--gpu", "h200"), ("diff", "spec.yaml", "qwen-7b"), ("plan", "-f", "plan.yaml"),
    ("size", "broken.yaml"), ("size", "config.json"), ("size", "llama.json"), ("size", NAMED),
    ("plan", "qwen-72b", "--gpu", "h200", "--lengths", "trace.csv"), ("reconcile", "server.log"),
    ("reconcile", "server.log", "--model", "qwen3-8b"), ("tiers", "qwen-72b", "--gpu", "gpu.yaml"),
)  # fmt: skip
CHECKED = ("full", "concise", "markdown", "json", "csv", "github", "sarif", "junit", "gitlab")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "gpu.yaml").write_text(GPU, encoding="utf-8")
    (tmp_path / NAMED).write_text(FILES["bad.yaml"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def driving(text: str) -> set[str]:
    """Characters that a terminal obeys, and lines and words that a CI system does."""
    found = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Co")}
    found |= {word for word in ("##[", "##vso[") if word in text}
    return found | {line for line in text.splitlines() if line.lstrip().startswith("::")}


def sound(ran: Ran, form: str) -> None:
    assert ran.code in (0, 1, 2)
    assert "internal error" not in ran.err
    assert driving(ran.err) == set()
    if form == "json":
        json.loads(ran.out or "{}")
        assert ran.out.isascii()
    else:
        assert driving(ran.out) == set()
    if form == "csv":
        for row in csv.reader(io.StringIO(ran.out)):
            assert not any(cell[:1] in tuple("=+@\t\r\n") or (cell[:1] == "-" and len(cell) > 1) for cell in row), row
    if form == "markdown":
        assert "<img" not in ran.out
        assert "](http" not in ran.out


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_answers_and_refusals(form: str, folder: Path) -> None:
    for arguments in ASKED:
        sound(kvcalc(*arguments, "-o", form), form)


def test_the_inputs_are_evil(folder: Path) -> None:
    """They are read, and what they say would be shown: else nothing above says anything."""
    silent = []
    for arguments in ASKED:
        ran = kvcalc(*arguments)
        if not any(word in ran.out + ran.err for word in ("/c calc", "stop-commands")):
            silent.append(arguments)
    # Figures alone are taken from a log, and two files are compared by their paths.
    assert silent == [("diff", "spec.yaml", "qwen-7b"), ("reconcile", "server.log", "--model", "qwen3-8b")]
    assert driving(EVIL) >= {"\x1b", "\x07", "\u202e", "\x9b", "##[", "##vso["}


@pytest.mark.parametrize("form", CHECKED)
def test_findings(form: str, folder: Path) -> None:
    ran = kvcalc("check", ".", "--isolated", "-o", form)
    assert ran.code == 1
    if form != "github":
        sound(ran, "json" if form in ("json", "sarif", "gitlab") else form)
        return
    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in ran.out.splitlines())
    assert "\x1b" not in ran.out


def test_settings_and_imports(folder: Path) -> None:
    for arguments in (("check", "."), ("check", "--config", "kvcalc.toml", "."), ("import", "llama.json")):
        sound(kvcalc(*arguments), "table")


def test_a_patch_is_exact_in_a_pipe_and_harmless_on_a_terminal(folder: Path) -> None:
    text = plain().replace("attention:", "# \u202e\nattention:", 1).replace("num_key_value_heads", "num_kv_heads")
    (folder / "fixable.yaml").write_text(text, encoding="utf-8")
    ran = kvcalc("check", "--isolated", "--diff", "fixable.yaml")
    assert "\u202e" in ran.out
    (folder / "patch").write_text(ran.out, encoding="utf-8")
    subprocess.run(["git", "apply", "patch"], check=True, cwd=folder)
    assert "num_key_value_heads" in (folder / "fixable.yaml").read_text("utf-8")
    (folder / "fixable.yaml").write_text(text, encoding="utf-8")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "kvcalc", "check", "--isolated", "--diff", "fixable.yaml"]
    subprocess.run(command, cwd=folder, stdout=slave, stderr=subprocess.DEVNULL, check=False, timeout=60)
    shown = os.read(master, 2**16).decode()
    assert "num_key_value_heads" in shown
    assert "\u202e" not in shown


def gguf(arch: str) -> bytes:
    """A header with evil keys and values."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word.encode())) + word.encode()

    keys = {"general.architecture": arch, "general.name": EVIL, EVIL: EVIL}
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, len(keys))
        + b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in keys.items())
    )


@pytest.mark.parametrize("arch", ["llama", EVIL])
def test_a_gguf_header(arch: str, folder: Path) -> None:
    (folder / "x.gguf").write_bytes(gguf(arch))
    sound(kvcalc("size", "x.gguf"), "table")


# --- what is read, run and asked for

WATCH = """
import os, sys
seen = []
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.system", "os.exec", "os.fork", "os.posix_spawn",
                 "subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "exec.eval") or event.startswith("socket."):
        seen.append((event, str(arguments[0])))
import kvcalc.cli, kvcalc.checks.engine, kvcalc.importers.load, kvcalc.importers.gguf, kvcalc.plan.planning
import kvcalc.spec.validate, kvcalc.reconcile, kvcalc.render.text, kvcalc.render.problems, yaml
sys.addaudithook(watch)
sys.argv = ["kvcalc", *sys.argv[1:]]
try:
    kvcalc.cli.run()
except SystemExit:
    pass
watched = list(seen)
print(*(f"{event} {what}" for event, what in watched), sep="\\n", file=sys.__stderr__)
"""


@pytest.mark.parametrize(
    "arguments",
    [("size", "spec.yaml"), ("size", "config.json"), ("size", "llama.json"), ("size", "x.gguf"),
     ("plan", "-f", "plan.yaml"), ("reconcile", "server.log"), ("check", ".", "--isolated"),
     ("tiers", "qwen-72b", "--gpu", "gpu.yaml")],
)  # fmt: skip
def test_nothing_else_is_read_nothing_run_nobody_asked(arguments: tuple[str, ...], folder: Path) -> None:
    """Names of files, of modules and of URLs in every place: none of them is looked at."""
    (folder / "x.gguf").write_bytes(gguf("llama"))
    (folder / "outside").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=60,
        errors="replace",
    )  # fmt: skip
    events = [line.partition(" ")[::2] for line in ran.stderr.splitlines() if line.partition(" ")[0] in SEEN]
    assert events
    assert {event for event, _ in events} <= {"open", "os.listdir", "os.scandir"}
    for _, what in events:
        path = os.path.realpath(os.path.join(folder, what))
        inside = path.startswith((str(folder), *LIBRARIES))
        assert inside or path in (os.devnull, str(ROOT)) or what.isdigit(), what


SEEN = ("open", "os.listdir", "os.scandir", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen",
        "pickle.find_class", "ctypes.dlopen")  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]
"""Python lists it when it looks for a module."""
LIBRARIES = tuple(
    os.path.realpath(path) for path in (ROOT / "kvcalc", ROOT / "model_specs", sys.prefix, sys.base_prefix)
)
