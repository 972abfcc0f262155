"""kvcalc check as a command: exit codes, standard input, outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checks.spec_text import plain
from command_line import kvcalc, refused

BAD = plain().replace("value: 6144", "value: 1")
REMARK = plain().partition("expect:")[0]


@pytest.fixture(autouse=True)
def _no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.mark.parametrize(("text", "code"), [(plain(), 0), (REMARK, 0), (BAD, 1), ("", 1), ("a: [", 1)])
def test_exit_codes(tmp_path: Path, text: str, code: int) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    ran = kvcalc("check", str(path), "--isolated")
    assert (ran.code, ran.err) == (code, "")
    assert kvcalc("check", str(path), "--isolated", "--exit-zero").code == 0
    assert kvcalc("check", "--isolated", "-", stdin=text.encode()).code == code


def test_standard_input_has_the_name_it_is_given(tmp_path: Path) -> None:
    ran = kvcalc("check", "-", "--stdin-filename", "specs/tiny.yaml", "-o", "concise", "--isolated", stdin=BAD.encode())
    assert ran.out.startswith("specs/tiny.yaml:9:43: KV201 ")


def test_standard_input_lies_where_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kvcalc.toml").write_text('[per-file-ignores]\n"old/*.yaml" = ["KV2"]\n')
    assert kvcalc("check", "-", "--stdin-filename", "old/tiny.yaml", stdin=BAD.encode()).code == 0
    assert kvcalc("check", "-", "--stdin-filename", "new/tiny.yaml", stdin=BAD.encode()).code == 1


def test_nothing_checked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    ran = kvcalc("check", "--isolated")
    assert ran.code == 0
    assert ran.err == "warning: nothing was checked: no model spec, hardware spec or plan in .\n"
    assert kvcalc("check", "compose.yaml", "--skip-unknown", "--isolated").err == ""  # a hook's files are any YAML


def test_the_working_directory_is_checked_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    assert "tiny.yaml:9:43: KV201" in kvcalc("check").out
    (tmp_path / "kvcalc.toml").write_text('ignore = ["KV2"]\n')
    assert kvcalc("check").code == 0
    assert kvcalc("check", "--isolated").code == 1
    (tmp_path / "kvcalc.toml").write_text('exclude = ["tiny.yaml"]\n')
    assert kvcalc("check", "tiny.yaml").code == 1
    assert kvcalc("check", "tiny.yaml", "--force-exclude").code == 0


def test_codes_may_be_joined_or_repeated(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(BAD)
    for arguments in (["--select", "KV1,KV3"], ["--select", "KV1", "--select", "kv3"], ["--ignore", "KV201"]):
        assert kvcalc("check", str(path), "--isolated", *arguments).code == 0


def test_the_summary_is_added_to_the_file_that_ci_names(tmp_path: Path) -> None:
    path, summary = tmp_path / "tiny.yaml", tmp_path / "summary.md"
    path.write_text(BAD)
    summary.write_text("before\n")
    ran = kvcalc("check", str(path), "-o", "github", "--isolated", GITHUB_STEP_SUMMARY=str(summary))
    assert ran.out.startswith("::error file=")
    text = summary.read_text()
    assert text.startswith("before\n### kvcalc check\n")
    assert "| KV201 | error |" in text
    # A summary that cannot be written is no reason to fail.
    ran = kvcalc("check", str(path), "--exit-zero", "--isolated", GITHUB_STEP_SUMMARY=str(tmp_path))
    assert ran.code == 0
    assert "warning: GITHUB_STEP_SUMMARY" in ran.err


def test_an_output_file_is_written_whole(tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "report.sarif"
    path.write_text(BAD)
    ran = kvcalc("check", str(path), "-o", "sarif", "--output-file", str(out), "--isolated")
    assert (ran.code, ran.out) == (1, "")
    assert json.loads(out.read_text())["version"] == "2.1.0"
    assert ran.err == "1 error in 1 file\n"
    assert kvcalc("check", str(path), "--output-file", str(tmp_path / "no" / "x"), "--isolated").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere.yaml",), ("--select", "KV777", "."), ("--against", "nowhere", "."), ("--config", "nowhere.toml", "."),
        ("--fix", "-"),
        ("--output-format", "xml", "."),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused("check", *arguments)
