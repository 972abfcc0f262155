"""Bad files with their codes and places, found by hand when the files were written; good files with nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from checks.spec_text import HERE, checked, found

from kvcalc.checks.table import RULES

BAD = HERE / "bad"
EXPECTED = sorted(
    tuple(line.split()) for line in (BAD / "expected.txt").read_text().splitlines() if not line.startswith("#")
)
NOT_IN_THE_CORPUS = {
    "KV005": "test_walk", "KV006": "test_walk",  # need a file of 200 faults, and a fault of ours
    "KV102": "weights", "KV401": "test_drift", "KV402": "test_drift", "KV403": "test_drift", "KV404": "test_drift",
    "KV405": "test_drift", "KV604": "test_fixing", "KV605": "test_fixing",
}  # fmt: skip


def test_every_bad_file_has_exactly_its_findings() -> None:
    report = checked(*sorted(BAD.glob("*.yaml")))
    assert sorted(found(report)) == EXPECTED


def test_the_corpus_is_large_and_has_every_rule() -> None:
    assert len(list(BAD.glob("*.yaml"))) >= 60
    in_check = {code for code in RULES if code < "KV7"}
    assert {code for _, code, _ in EXPECTED} == in_check - set(NOT_IN_THE_CORPUS)


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
    assert sorted(found(report)) == [row for row in EXPECTED if row[0] not in passed_over]
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
