"""The outputs and pictures that README and docs show are what the tool prints and draws."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import refresh
from command_line import kvcalc

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in refresh.pages()}
BLOCKS = [(page, found) for page, text in TEXTS.items() for found in refresh.BLOCK.finditer(text)]
PICTURES = [(page, found) for page, text in TEXTS.items() for found in refresh.PICTURE.finditer(text)]


def printed(arguments: str) -> str:
    ran = kvcalc(*shlex.split(arguments))
    assert ran.code in (0, 1), ran.err
    return ran.out


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("page", "found"), BLOCKS, ids=[f"{p}: {f['arguments'][:60]}" for p, f in BLOCKS])
def test_shown_output_is_current(page, found):
    now = refresh.block(found["arguments"], printed(found["arguments"]))
    assert now == found[0], f"run `python docs/refresh.py {page}`"


def test_a_stale_output_is_found():
    page = "<!-- output: kvcalc size qwen-72b -q -->\n```text\n$ kvcalc size qwen-72b -q\n10240\n```\n"
    # 2 x 80 layers x 64 heads x 128 x 2 B x 32,768 tokens
    assert refresh.refreshed(page, printed) == page.replace("10240", "85899345920")


@pytest.mark.parametrize(("page", "found"), PICTURES, ids=[f"{p}: {f['file']}" for p, f in PICTURES])
def test_shown_picture_is_of_current_figures(page, found):
    """By the digest of the figures: another matplotlib may draw other bytes."""
    assert refresh.digest(printed(f"{found['arguments']} -o csv")) == found["digest"], f"run docs/refresh.py {page}"
    assert (ROOT / found["file"]).stat().st_size > 1000
    shown = TEXTS[page][found.end() :].splitlines()[0]
    target = re.fullmatch(r"!\[[^\]]+\]\(([^)]+)\)", shown)
    assert target, f"no picture below the comment: {shown}"
    assert (ROOT / page).parent.joinpath(target[1]).resolve() == ROOT / found["file"]


def test_every_output_block_is_read():
    """A block that the pattern passes over would never be checked."""
    for page, text in TEXTS.items():
        assert text.count("<!-- output:") == len(refresh.BLOCK.findall(text)), page
        assert text.count("<!-- picture:") == len(refresh.PICTURE.findall(text)), page
    assert len(BLOCKS) > 15


def test_readme_opens_with_the_two_commands():
    text = TEXTS["README.md"]
    commands = re.findall(r"<!-- (main|test)-command -->\n```sh\n(python3[^\n]+)\n```", text)
    assert [kind for kind, _ in commands] == ["main", "test"]
    assert "size qwen-72b --batch-size 8 --seq-len 32K" in commands[0][1]
    assert "-c constraints.txt" in commands[1][1]
    assert text.index(commands[1][1]) < text.index("## What it answers")
