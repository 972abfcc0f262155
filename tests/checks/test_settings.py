"""What is selected, ignored and silenced: flags, settings files, comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from checks.spec_text import checked, found, plain

from kvcalc.checks.settings import find_settings, read_settings
from kvcalc.checks.table import parse_codes
from kvcalc.problems import KvcalcError

# Two findings: KV301 at 1:1 (no sources) and KV201 at 8:48 (the figure).
BAD = plain().replace('sources: [{source: "paper, table 1", kind: paper}]\n', "").replace("value: 6144", "value: 1")


def codes(tmp_path: Path, text: str = BAD, **options: object) -> list[str]:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    return [code for _, code, _ in found(checked(path, **options))]  # type: ignore[arg-type]


def test_select_and_ignore_take_codes_and_prefixes_and_the_longest_wins(tmp_path: Path) -> None:
    assert codes(tmp_path) == ["KV301", "KV201"]
    assert codes(tmp_path, select=("KV3",)) == ["KV301"]
    assert codes(tmp_path, ignore=("KV2",)) == ["KV301"]
    assert codes(tmp_path, select=("KV201",), ignore=("KV2",)) == ["KV201"]
    assert codes(tmp_path, select=("KV2",), ignore=("KV201",)) == []
    assert codes(tmp_path, ignore=("KV",)) == []


def test_what_cannot_be_read_is_reported_whatever_is_selected(tmp_path: Path) -> None:
    assert codes(tmp_path, "a: [", select=("KV2",), ignore=("KV",)) == ["KV002"]


def test_what_keeps_the_rules_from_running_is_reported_unless_it_is_ignored_itself(tmp_path: Path) -> None:
    text = plain().replace("head_dim: 64", "head_dim: 0")
    assert codes(tmp_path, text, select=("KV2",)) == ["KV013"]
    assert codes(tmp_path, text, ignore=("KV2",)) == ["KV013"]
    assert codes(tmp_path, text, ignore=("KV013",)) == []


@pytest.mark.parametrize("word", ["KV9999", "E501", "", "K", "KV2x"])
def test_an_unknown_code_is_refused(word: str) -> None:
    with pytest.raises(KvcalcError, match="no rule has the code"):
        parse_codes([word])


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("# kvcalc: ignore=KV201", ["KV301"]),
        ("#kvcalc:ignore=KV2", ["KV301"]),
        ("# seen on slide 7  # kvcalc: ignore=KV201, KV3", ["KV301", "KV611"]),
        ("# kvcalc: ignore=kv201", ["KV301"]),
        ("# kvcalc: ignore", ["KV301", "KV201"]),
        ("# ignore=KV201", ["KV301", "KV201"]),
    ],
)
def test_a_comment_silences_its_own_line(tmp_path: Path, comment: str, left: list[str]) -> None:
    assert codes(tmp_path, BAD.rstrip("\n") + f"  {comment}\n") == left


def test_a_comment_that_stands_alone_silences_the_next_line(tmp_path: Path) -> None:
    assert codes(tmp_path, BAD.replace("  - {quantity", "  # kvcalc: ignore=KV201\n\n  - {quantity")) == ["KV301"]
    assert codes(tmp_path, "# kvcalc: ignore=KV301\n" + BAD) == ["KV201"]


def test_a_comment_for_the_file_silences_every_line(tmp_path: Path) -> None:
    assert codes(tmp_path, BAD + "# kvcalc: ignore-file=KV201,KV301\n") == []


def test_text_that_looks_like_a_comment_silences_nothing(tmp_path: Path) -> None:
    quoted = BAD.rstrip("}\n").rsplit("source:", 1)[0] + 'source: "page 1 # kvcalc: ignore=KV201"}\n'
    assert codes(tmp_path, quoted) == ["KV301", "KV201", "KV305"]
    block = BAD + "notes: |\n  # kvcalc: ignore-file=KV201\n"
    assert codes(tmp_path, block) == ["KV301", "KV201"]


def test_a_comment_for_rules_that_did_not_run_is_no_finding(tmp_path: Path) -> None:
    text = plain(more="# kvcalc: ignore-file=KV201\n")
    assert codes(tmp_path, text) == ["KV611"]
    assert codes(tmp_path, text, select=("KV61",)) == []
    assert codes(tmp_path, text, ignore=("KV201",)) == []


def settings_of(tmp_path: Path, text: str, name: str = "kvcalc.toml") -> object:
    (tmp_path / name).write_text(text)
    return find_settings(tmp_path)


def test_settings_select_ignore_and_exclude(tmp_path: Path) -> None:
    assert codes(tmp_path, settings=settings_of(tmp_path, 'select = ["KV3"]')) == ["KV301"]
    assert codes(tmp_path, settings=settings_of(tmp_path, 'ignore = ["KV3"]')) == ["KV201"]
    assert codes(tmp_path, settings=settings_of(tmp_path, 'extend-select = ["KV605"]')) == ["KV301", "KV605", "KV201"]
    settings = settings_of(tmp_path, 'exclude = ["bad.*"]')
    assert found(checked(tmp_path, settings=settings)) == []  # type: ignore[arg-type]
    assert codes(tmp_path, settings=settings) == ["KV301", "KV201"]  # a named file is checked all the same


def test_settings_per_file(tmp_path: Path) -> None:
    text = '[tool.kvcalc.per-file-ignores]\n"drafts/*.yaml" = ["KV3"]\n"*/old-*.yaml" = ["KV2"]\n'
    settings = settings_of(tmp_path, text, "pyproject.toml")
    (tmp_path / "drafts").mkdir()
    for name in ("a", "old-b"):
        (tmp_path / "drafts" / f"{name}.yaml").write_text(BAD.replace("name: tiny", f"name: {name}"))
    assert found(checked(tmp_path / "drafts", settings=settings)) == [  # type: ignore[arg-type]
        ("a.yaml", "KV201", "8:43")
    ]


def test_settings_are_found_above_and_other_projects_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kvcalc.toml").write_text('select = ["KV3"]')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_settings(inner).select == ("KV3",)
    (inner / "pyproject.toml").write_text("[tool.kvcalc]\n")
    assert find_settings(inner).select == ()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\nselekt = []", 2, "unknown setting 'selekt'"),
        ('select = "KV2"', 1, "select: expected a list of texts"),
        ('\n\nignore = ["KV777"]', 3, "ignore: no rule has the code 'KV777'"),
        ('[per-file-ignores]\n"x" = ["E5"]', 2, "x: no rule has the code 'E5'"),
        ("a = ", 1, "not TOML"),
        ("select = [1]", 1, "select: expected a list of texts"),
        ("per-file-ignores = 1", 1, "per-file-ignores: expected a table"),
    ],
)
def test_settings_that_do_not_hold_are_refused_with_their_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "kvcalc.toml"
    path.write_text(text)
    with pytest.raises(KvcalcError) as caught:
        read_settings(path)
    problem = caught.value.problems[0]
    assert (problem.code, problem.line) == ("KV903", line)
    assert message in problem.message
