"""Folders, links, hostile files: one bad file never hides the findings of another."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from checks.spec_text import checked, found, plain

from kvcalc.checks import engine
from kvcalc.checks.hygiene import equal_entries
from kvcalc.checks.settings import Settings
from kvcalc.checks.table import MODEL_RULES

BAD = plain().replace("value: 6144", "value: 1")


def paths(tmp_path: Path, *names: str) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BAD.replace("name: tiny", f"name: {path.stem}"))


def files_of(*roots: object) -> list[str]:
    return sorted({f.problem.path or "" for f in checked(*roots).findings})


def test_gitignore_is_heeded_as_git_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "a.yaml", "b.yml", "build/c.yaml", "sub/d.yaml", "sub/keep.yaml", "sub/deep/e.yaml", "other/keep.yaml",
        "logs/f.yaml", "sub/logs/g.yaml", "sub/scratch.yaml",
    ]  # fmt: skip
    paths(tmp_path, *names)
    (tmp_path / ".gitignore").write_text("build/\n*.yml\n/logs\nkeep.yaml\n")
    (tmp_path / "sub" / ".gitignore").write_text("!keep.yaml\ndeep/\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("scratch.yaml\na.yaml\n")
    (tmp_path / ".gitignore").open("a").write("!a.yaml\n")  # of the two, this one decides
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard", "*.yaml", "*.yml"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    expected = sorted(listed.stdout.split())
    assert expected == ["a.yaml", "sub/d.yaml", "sub/keep.yaml", "sub/logs/g.yaml"]
    monkeypatch.chdir(tmp_path)
    assert files_of(".") == expected
    # From below the repository's root, the rules above still hold; a named file is always checked.
    assert files_of("sub") == [name for name in expected if name.startswith("sub/")]
    assert files_of("build/c.yaml") == ["build/c.yaml"]
    # So is a named folder: nothing found in no file at all would look like a pass.
    assert files_of("build") == ["build/c.yaml"]
    assert files_of("sub/deep") == ["sub/deep/e.yaml"]


def test_what_is_excluded_is_checked_where_it_is_named_unless_exclusion_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths(tmp_path, "specs/a.yaml", "drafts/b.yaml")
    monkeypatch.chdir(tmp_path / "specs")
    settings = Settings(root=tmp_path, exclude=("drafts/",))
    a, b = "a.yaml", "../drafts/b.yaml"

    def of(*roots: str, settings: Settings = settings) -> list[str]:
        return sorted({f.problem.path or "" for f in checked(*roots, settings=settings).findings})

    assert of("..") == ["../specs/a.yaml"]
    assert of("..", b) == [b, "../specs/a.yaml"]
    assert of("../drafts") == [b]
    forced = replace(settings, force_exclude=True)
    assert of("..", a, b, "../drafts", settings=forced) == ["a.yaml"]


def test_links_in_circles_and_links_to_nowhere(tmp_path: Path) -> None:
    paths(tmp_path, "a.yaml", "sub/b.yaml")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "one.yaml").symlink_to(tmp_path / "two.yaml")
    (tmp_path / "two.yaml").symlink_to(tmp_path / "one.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again.yaml").symlink_to(tmp_path / "a.yaml")
    rows = [(name, code) for name, code, _ in found(checked(tmp_path))]
    assert ("a.yaml", "KV201") in rows or ("again.yaml", "KV201") in rows
    assert ("b.yaml", "KV201") in rows
    assert {name for name, code in rows if code == "KV001"} == {"gone.yaml", "one.yaml", "two.yaml"}
    assert sum(code == "KV201" for _, code in rows) == 2  # a link to a file that is there: checked once


def test_unreadable_files_and_folders_are_reported_beside_the_others(unprivileged: Path) -> None:
    paths(unprivileged, "a.yaml", "b.yaml", "closed/c.yaml")
    (unprivileged / "b.yaml").chmod(0)
    (unprivileged / "closed").chmod(0)
    rows = [(name, code) for name, code, _ in found(checked(unprivileged))]
    (unprivileged / "closed").chmod(0o700)
    assert rows == [("a.yaml", "KV201"), ("b.yaml", "KV001"), ("closed", "KV001")]


def test_what_is_installed_is_passed_over(tmp_path: Path) -> None:
    paths(tmp_path, "a.yaml", "env/lib/python3/site-packages/kvcalc/b.yaml", "node_modules/c.yaml")
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    paths(tmp_path, "env/d.yaml")
    assert files_of(tmp_path) == [str(tmp_path / "a.yaml")]
    assert files_of(tmp_path / "env") == [str(tmp_path / "env" / "d.yaml")]  # named


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    paths(tmp_path, "a.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert files_of(tmp_path) == [str(tmp_path / "a.yaml")]


HOSTILE = {
    "deep": b"attention: " + b"[" * 30_000,
    "aliases": b"a: &a [x]\nb: &b [*a, *a]\nattention: [*b, *b]\nlayers: []\n",
    "not-utf8": b"attention: \xff\xfe\nlayers: []\n",
    "nul": b"attention: \x00\nlayers: []\n",
    "tag": b"attention: !!python/object/apply:os.system [true]\nlayers: []\n",
    "twice": b"attention: {}\nattention: {}\nlayers: []\n",
    "digits": b"attention: {}\nlayers: " + b"9" * 5000 + b"\n",
    "large": b"attention: {}\nlayers: []\n#" + b"x" * 5_000_000,
    "keys": b"attention: {}\nlayers: []\n" + b"".join(b"zz%d: 1\n" % i for i in range(20_000)),
    "counts": b"name: counts\nattention: {a: {kind: short_conv, conv_dim: 1, conv_L_cache: 2}}\n"
              b"layers: [{count: 1099511627776, pattern: [{count: 1099511627776, attention: a}]}]\n",
    "windows": b"name: windows\nattention: {a: {kind: full, num_attention_heads: 1, num_key_value_heads: 1, "
               b"head_dim: 1099511627776}}\nlayers: [{count: 9999, attention: a}]\nbudget: {max_bytes_per_token: 1}\n",
    "comments": b"attention: {}\nlayers: []\n" + b"# kvcalc: ignore=KV201\n" * 20_000,
    "nothing": b"",
}  # fmt: skip


def test_hostile_files_end_in_findings_and_hide_nobodys(tmp_path: Path) -> None:
    for name, content in HOSTILE.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    paths(tmp_path, "aaa.yaml", "zzz.yaml")
    started = time.monotonic()
    report = checked(tmp_path)
    assert time.monotonic() - started < len(HOSTILE)  # a second each
    by_file: dict[str, set[str]] = {}
    for name, code, _ in found(report):
        by_file.setdefault(name.removesuffix(".yaml"), set()).add(code)
    assert by_file["aaa"] == by_file["zzz"] == {"KV201"}
    assert set(by_file) == {*HOSTILE, "aaa", "zzz"}
    assert not any("KV006" in codes for codes in by_file.values())
    assert sum(name == "keys.yaml" for name, _, _ in found(report)) <= 2 * 200 + 1


def test_findings_of_one_file_are_bounded(tmp_path: Path) -> None:
    entries = "".join(
        f"  e{i}: {{kind: full, num_attention_heads: 8, num_key_value_heads: 3, head_dim: 64}}\n" for i in range(300)
    )
    (tmp_path / "many.yaml").write_text(plain("many").replace("layers:", entries + "layers:"))
    rows = found(checked(tmp_path))
    assert len(rows) == 201
    assert [code for _, code, _ in rows].count("KV005") == 1


def test_findings_of_a_run_are_bounded_and_every_file_keeps_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_IN_FULL", 5)
    for index in range(4):
        (tmp_path / f"{index}.yaml").write_text(plain(f"m{index}", more="a: 1\nb: 1\nc: 1\n"))
    names = [(name, code) for name, code, _ in found(checked(tmp_path))]
    assert names[:6] == [(f"{index}.yaml", "KV010") for index in (0, 0, 0, 1, 1, 1)]
    assert sorted(names[6:]) == [(f"{index}.yaml", code) for index in (2, 3) for code in ("KV005", "KV010")]


def test_a_rule_that_breaks_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: object) -> list[object]:
        raise ZeroDivisionError("on purpose")

    paths(tmp_path, "a.yaml")
    rules = tuple(replace(rule, check=broken) if rule.check is equal_entries else rule for rule in MODEL_RULES)
    kinds = tuple(replace(kind, rules=rules) if kind.name == "model" else kind for kind in engine_kinds())
    monkeypatch.setattr("kvcalc.checks.kinds.KINDS", kinds)
    report = checked(tmp_path)
    assert [code for _, code, _ in found(report)] == ["KV006", "KV201"]
    assert "KV606 could not be checked: ZeroDivisionError" in report.findings[0].problem.message


def engine_kinds() -> tuple[engine.FileKind, ...]:
    from kvcalc.checks.kinds import KINDS

    return KINDS


def test_ten_thousand_files(tmp_path: Path) -> None:
    for index in range(10_000):
        (tmp_path / f"{index:05}.yaml").write_text("services: {web: {image: nginx}}\n")
    paths(tmp_path, "00000a.yaml", "05000a.yaml", "99999a.yaml")
    report = checked(tmp_path)
    assert [name for name, code, _ in found(report) if code == "KV201"] == ["00000a.yaml", "05000a.yaml", "99999a.yaml"]
    assert (report.files, report.skipped) == (3, 10_000)


def test_a_broken_file_among_specs_is_reported_and_elsewhere_passed_over(tmp_path: Path) -> None:
    paths(tmp_path, "specs/a.yaml")
    (tmp_path / "charts").mkdir()
    for folder in ("specs", "charts"):
        (tmp_path / folder / "template.yaml").write_text("{{ if .Values.on }}\nkind: x\n{{ end }}\n")
    report = checked(tmp_path)
    assert files_of(tmp_path) == [str(tmp_path / "specs" / "a.yaml"), str(tmp_path / "specs" / "template.yaml")]
    assert report.skipped == 1
    # With the signs of a spec, a broken file is reported wherever it lies.
    (tmp_path / "charts" / "template.yaml").write_text("name: x\nattention: {\nlayers: []\nexpect: []\n")
    assert str(tmp_path / "charts" / "template.yaml") in files_of(tmp_path)


def test_a_named_stranger_is_reported_unless_told_to_pass_over(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("services: {web: {image: nginx}}\n")
    assert found(checked(path)) == [("compose.yaml", "KV004", "1:1")]
    report = checked(path, skip_unknown=True)
    assert (found(report), report.skipped) == ([], 1)
