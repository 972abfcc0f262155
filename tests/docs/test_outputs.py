"""The outputs that README and docs show are what the tool prints."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _refresher():
    location = ROOT / "docs" / "refresh_outputs.py"
    spec = importlib.util.spec_from_file_location("refresh_outputs", location)
    module = importlib.util.module_from_spec(spec)
    sys.modules["refresh_outputs"] = module
    spec.loader.exec_module(module)
    return module


REFRESHER = _refresher()
BLOCKS = [
    (page.relative_to(ROOT).as_posix(), block["arguments"], block["shown"])
    for page in REFRESHER.pages()
    for block in REFRESHER.BLOCK.finditer(page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "arguments", "shown"), BLOCKS, ids=[f"{p}: {a[:60]}" for p, a, _ in BLOCKS])
def test_shown_output_is_current(page, arguments, shown):
    assert REFRESHER.run(arguments) == shown, f"{page}: run `python docs/refresh_outputs.py`"


def test_readme_opens_with_the_two_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"<!-- (main|test)-command -->\n```sh\n(python3[^\n]+)\n```", text)
    assert [kind for kind, _ in commands] == ["main", "test"]
    assert "size qwen-72b --batch-size 8 --seq-len 32K" in commands[0][1]
    assert "-c constraints.txt" in commands[1][1]
    assert text.index(commands[1][1]) < text.index("## What it answers")
