"""The reference is generated, current and complete: nothing that a user can name is left undocumented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import kvcalc
from kvcalc_docs import PAGES

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import ALIASES, CACHE_DTYPES, PARAMETRIC
from kvcalc.checks.table import RULES
from kvcalc.cli.app import COMMANDS
from kvcalc.engines import NAMES
from kvcalc.importers.hf_config import FAMILIES
from kvcalc.spec.hardware_catalog import shipped_hardware

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOT = DOCS.parent


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert PAGES[name]() == page(name), f"run `python docs/refresh.py docs/{name}`"


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#{2,3} (?:kvcalc )?(\S+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("reference/commands.md", [command.name for command in COMMANDS]),
        ("reference/kinds.md", KINDS),
        ("reference/formats.md", CACHE_DTYPES),
        ("reference/engines.md", NAMES),
        ("rules.md", RULES),
    ],
    ids=["commands", "kinds", "formats", "engines", "rules"],
)
def test_every_name_has_a_section(name, known):
    assert set(known) <= headings(page(name))


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_flag_is_documented(command):
    """The flags of `--help`, as it prints them, against the command's section."""
    shown = kvcalc(command, "--help", COLUMNS="200").out
    lines = re.findall(r"(?m)^│ [ *]*(--[a-z-]+) +(-[a-z]+ )?", shown)
    flags = {flag.strip() for line in lines for flag in line if flag}
    assert "--help" in flags
    section = page("reference/commands.md").split(f"\n## kvcalc {command}\n")[1].split("\n## ")[0]
    assert {flag for flag in flags - {"--help"} if f"`{flag}`" not in section} - {"-h"} == set()


def test_every_shipped_model_and_accelerator_has_a_row():
    models = re.findall(r"^\| `([^`]+)` \|", page("reference/models.md"), flags=re.MULTILINE)
    assert sorted(models) == sorted(path.stem for path in (ROOT / "model_specs").glob("*.yaml"))
    rows = re.findall(r"^\| `([^`]+)` \|", page("reference/hardware.md").split("\n## On")[0], flags=re.MULTILINE)
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "kvcalc" / "hardware").glob("*.yaml"))


def test_labels_that_the_glossary_explains_are_those_of_models():
    text = page("glossary.md")
    rows = re.findall(r"^\| (`.*`) \| ", text[: text.index("## The model")], flags=re.MULTILINE)
    labels = [label for row in rows for label in re.findall(r"`(?:\.\.\.)?([^`]+?)(?: ?\.\.\.)?`", row)]
    models = page("reference/models.md")
    assert [label for label in labels if label.strip(" +,") not in models and "shares" not in label] == []
    assert len(labels) > 10


def test_every_command_has_its_exit_codes():
    table = page("reference/exit-codes.md").split("## Streams")[0]
    named = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall("`([a-z]+)`", line.split("|")[1])
    ]
    assert sorted(named) == sorted(command.name for command in COMMANDS)


def test_every_family_of_configs_is_in_the_table():
    text = page("importing.md").split("## Families of config.json")[1].split("## GGUF")[0]
    assert [name for name in FAMILIES if f"`{name}`" not in text] == []


def test_counts_of_what_is_shipped_are_current():
    for text in ((ROOT / "README.md").read_text("utf-8"), (ROOT / "CHANGELOG.md").read_text("utf-8")):
        assert f"{len(shipped_hardware())} accelerators" in text


def test_other_names_of_formats_are_documented():
    text = page("reference/formats.md")
    assert [name for name in [*ALIASES, *PARAMETRIC] if f"`{name}`" not in text] == []


def test_an_undocumented_name_would_be_found():
    assert "sparse" not in headings(page("reference/kinds.md").replace("## sparse\n", "## mla\n"))


# --- rows that can be worked out by hand


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_of_known_models():
    text = page("reference/models.md")
    # 2 x 80 layers x 64 heads x 128 x 2 B; at 32,768 tokens 80 GiB
    assert row(text, "qwen-72b")[3:5] == ["0 B + 2,621,440 B x tokens", "80 GiB"]
    # 61 layers x (512 + 64) x 2 B
    assert row(text, "deepseek-v3")[3] == "0 B + 70,272 B x tokens"
    # windows: 52 x 2 x 16 x 128 x 2 B x 1,024; full: 10 x 2 x 16 x 128 x 2 B
    assert row(text, "gemma-3-27b")[3] == "436,207,616 B + 81,920 B x tokens (from 1,024 tokens on)"


def test_rows_of_known_accelerators():
    """The figures that NVIDIA prints for the A100: 312 TFLOP/s, 1,555 GB/s; 312e12 / 1.555e12 = 200.6."""
    found = row(page("reference/hardware.md"), "a100-40gb")
    assert found[4:6] == ["1.555 TB/s", "312 TFLOP/s"]
    assert found[8] == "200.6"


def test_rows_of_known_formats():
    text = page("reference/formats.md")
    # 34 B for 32 elements; 18 B for 32; 656 B for 576
    for name, bits in (("q8_0", 34 * 8 / 32), ("q4_0", 18 * 8 / 32), ("fp8_ds_mla", 656 * 8 / 576)):
        line = next(line for line in text.splitlines() if line.startswith(f"| [`{name}`]"))
        assert f"{bits:.4g}" in line


# --- the site


def nav(entries: list) -> list[str]:
    found: list[str] = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else nav(target)
    return found


def test_the_navigation_has_every_page_and_no_other():
    """A strict build passes over an entry without a file."""
    import tomllib

    listed = nav(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"])
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_generated_pages_are_marked():
    for name in PAGES:
        assert "Generated" in page(name)[:400], name
