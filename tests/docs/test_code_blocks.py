"""Code that README and docs show works: commands and flags exist, examples run, specs load, settings are read.

Sessions of Python run in tests/api; blocks of output in test_outputs.py. The Markdown is read by rich's own parser.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import refresh
import yaml
from command_line import kvcalc
from kvcalc_docs.commands import loaded
from markdown_it import MarkdownIt

from kvcalc.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*refresh.pages(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Fenced blocks by their language, and spans of code as `inline`."""
    name = page.relative_to(ROOT).as_posix()
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            yield Block(name, line, token.info.strip(), token.content)
        elif token.type == "code_block":
            yield Block(name, line, "indented", token.content)
        for child in token.children or []:
            if child.type == "code_inline":
                yield Block(name, line, "inline", child.content)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def written(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


# --- commands


def commands_in(block: Block) -> Iterator[list[str]]:
    """The arguments of every `kvcalc ...` in a block, without what a shell would do with the answer."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        found = re.match(r"(?:\$ |\.venv/bin/)?kvcalc( .*)?$", line.strip())
        if found and not line.startswith("kvcalc:"):
            yield shlex.split(re.split(r" [|>#] | 2>", found[1] or "")[0], comments=True)


MENTIONS = [
    (block, arguments)
    for block in BLOCKS
    if block.language in ("sh", "console", "inline", "text", "indented", "")
    for arguments in commands_in(block)
]
FLAGS = {
    command.name: {name for p in loaded(command).params for name in (*p.opts, *p.secondary_opts)}
    for command in COMMANDS
}
ANY_FLAGS = {"--help", "-h", "--version"}
OWN_FLAGS = {"--install-completion", "--show-completion"} | ANY_FLAGS
"""Of `kvcalc` itself."""


def unknown(arguments: list[str]) -> list[str]:
    """The command or the flags that do not exist; words in capitals stand for something."""
    if not arguments or arguments[0].startswith("-") or not arguments[0].islower():
        return [word for word in arguments if word.startswith("-") and word not in OWN_FLAGS]
    if arguments[0] not in FLAGS:
        return arguments[:1]
    known = FLAGS[arguments[0]] | ANY_FLAGS
    flags = [word.partition("=")[0] for word in arguments[1:] if re.match(r"--?[a-z]", word)]
    return [flag for flag in flags if flag not in known]


def test_every_command_and_flag_that_a_page_names_exists():
    assert [(str(block), bad) for block, arguments in MENTIONS if (bad := unknown(arguments))] == []
    assert len(MENTIONS) > 60
    assert {arguments[0] for _, arguments in MENTIONS if arguments} >= set(FLAGS)


def test_a_flag_that_does_not_exist_is_found():
    assert unknown(["size", "qwen-72b", "--bach-size", "8"]) == ["--bach-size"]
    assert unknown(["sise", "qwen-72b"]) == ["sise"]


def stands_alone(arguments: list[str]) -> bool:
    """Whether a command needs nothing but what is shipped: no files, no GPU."""
    files = any(re.search(r"[/.](yaml|json|log|gguf|png|svg|toml)?$|/|\.(yaml|json|log|gguf)", a) for a in arguments)
    return bool(arguments) and arguments[0] not in ("verify", "import", "reconcile", "check", "diff") and not files


EXAMPLES = [
    (block, arguments) for block in written("sh") for arguments in commands_in(block) if stands_alone(arguments)
]


@pytest.mark.parametrize(("block", "arguments"), EXAMPLES, ids=[f"{b} {a[0]}" for b, a in EXAMPLES])
def test_an_example_runs(block, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    ran = kvcalc(*arguments)
    assert ran.code in (0, 1), f"{block}: {ran.err}"
    assert ran.out
    assert not ran.err or "warning" in ran.err


def test_enough_examples_run():
    assert len({arguments[0] for _, arguments in EXAMPLES}) >= 8


# --- files


@pytest.mark.parametrize("block", written("yaml"), ids=str)
def test_yaml_is_a_valid_file_of_its_kind(block, tmp_path):
    """A model, hardware or plan file must load; a budget must hold in a spec; CI files of others are YAML at least."""
    data = yaml.safe_load(block.text)
    if isinstance(data, dict) and set(data) == {"budget"}:
        spec = (ROOT / "model_specs" / "qwen-72b.yaml").read_text("utf-8")
        file = tmp_path / "budget.yaml"
        file.write_text(spec + "\n" + block.text, "utf-8")
    else:
        file = tmp_path / "block.yaml"
        file.write_text(block.text, "utf-8")
    ran = kvcalc("check", str(file), "--skip-unknown", "--select", "KV0,KV1", "-o", "json")
    assert ran.code == 0, f"{block}: {ran.out}{ran.err}"


def test_the_readmes_spec_is_sized(tmp_path):
    block = next(block for block in written("yaml") if block.page == "README.md" and "layers:" in block.text)
    file = tmp_path / "my-model.yaml"
    file.write_text(block.text, "utf-8")
    # 36 windows of 4,096 rows and 12 full layers, K and V of 8 heads x 128 x 2 B, 64K tokens, 16 sequences
    row = 2 * 8 * 128 * 2
    assert int(kvcalc("size", str(file), "-b", "16", "-s", "64K", "-q").out) == 16 * row * (36 * 4096 + 12 * 65536)


def test_a_wrong_spec_would_be_found(tmp_path):
    block = next(block for block in written("yaml") if block.page == "README.md" and "layers:" in block.text)
    file = tmp_path / "my-model.yaml"
    file.write_text(block.text.replace("head_dim", "head_dims", 1), "utf-8")
    assert kvcalc("check", str(file), "--skip-unknown", "--select", "KV0,KV1").code == 1


@pytest.mark.parametrize("block", written("toml"), ids=str)
def test_toml_is_a_valid_configuration(block, tmp_path, monkeypatch):
    tomllib.loads(block.text)
    (tmp_path / "kvcalc.toml").write_text(block.text, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert kvcalc("check", ".").code == 0


@pytest.mark.parametrize("block", written("json"), ids=str)
def test_json_is_json(block):
    json.loads(block.text)


def test_every_language_is_checked_somewhere():
    known = {"text", "inline", "indented", "sh", "console", "yaml", "toml", "json", "pycon", "make"}
    assert {block.language for block in BLOCKS} - known == set()
