"""Bad files with their codes and places, found by hand when the files were written; good files with nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checks.spec_text import HERE, checked, found

from kvcalc.checks.subject import World
from kvcalc.checks.table import RULES

BAD = HERE / "bad"
ASKED: dict[str, dict[str, Any]] = {
    ".": {},
    "selected": {"select": ("KV",)},  # rules that are off unless selected
    "drift": {"world": World(against=str(BAD / "drift" / "llama.json"))},
    "unknown": {"world": World(against=str(BAD / "drift"))},
}
"""Folder of bad files -> what is asked of them."""
NOT_IN_THE_CORPUS = {"KV005", "KV006"}
"""See test_walk: they need a file of 201 faults, and a fault of ours."""


def expected(folder: str) -> list[tuple[str, ...]]:
    lines = (BAD / folder / "expected.txt").read_text().splitlines()
    return sorted(tuple(line.split()) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("folder", ASKED)
def test_every_bad_file_has_exactly_its_findings(folder: str) -> None:
    report = checked(*sorted((BAD / folder).glob("*.yaml")), **ASKED[folder])
    assert sorted(found(report)) == expected(folder)


def test_the_corpus_is_large_and_has_every_rule() -> None:
    assert len(list(BAD.rglob("*.yaml"))) >= 60
    in_check = {code for code in RULES if code < "KV7"}
    assert {code for folder in ASKED for _, code, _ in expected(folder)} == in_check - NOT_IN_THE_CORPUS
    assert {path.parent for path in BAD.rglob("*.yaml")} == {(BAD / folder).resolve() for folder in ASKED}


@pytest.mark.parametrize("path", sorted((HERE / "good").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_good_file_has_no_finding(path: Path) -> None:
    assert found(checked(path)) == []


def test_findings_are_the_same_whatever_the_order_of_the_paths() -> None:
    paths = sorted(BAD.glob("*.yaml"))
    assert checked(*paths) == checked(*reversed(paths)) == checked(*paths, *paths)


def test_a_folder_gives_the_findings_of_its_specs_and_passes_over_other_yaml() -> None:
    report = checked(BAD)
    # Two of the files are other YAML: nobody named them, so nobody is told.
    passed_over = {"kv004-compose.yaml", "kv004-config.yaml", "kv004-list.yaml"}
    assert sorted(found(report)) == [row for row in expected(".") if row[0] not in passed_over]
    assert report.skipped == len(passed_over)


def test_help_speaks_of_the_file_not_of_the_command_line() -> None:
    (finding,) = checked(BAD / "kv202-no-length.yaml").findings
    assert finding.problem.help == "give `seq_len`, or `max_position_embeddings` of the model"


def test_a_wrong_figure_shows_both_sides_and_the_formula() -> None:
    (finding,) = checked(BAD / "kv201-twice-too-large.yaml").findings
    # 12 layers x (K 2 x 64 + V 2 x 64) x 2 B = 12 x (256 + 256) B
    assert finding.problem.message == "kv_bytes_per_token is 6,144 B, not the expected 3,072 (2 times too large)"
    assert finding.problem.help == (
        "6,144 = 12 layers x 256 B (key 2 x 64) + 12 layers x 256 B (value 2 x 64); expected by a table that forgot V"
    )
