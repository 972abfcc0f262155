"""Patterns as in .gitignore: as git understands them, and never slow."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks.spec_text import plain
from command_line import kvcalc, refused

from kvcalc.checks.ignoring import MAX_PATTERNS, check_pattern, ignore_spec
from kvcalc.problems import KvcalcError

LETTERS = ("a", "b", "*", "*", "?", "[ab]", "[!a]", "[+-0]", "\\*", ".", "(", "+", "a")


def made(chance: random.Random) -> str:
    """A pattern. (`a**b` and `a/**/` are left out: pathspec reads them otherwise than git.)"""
    segments = []
    for _ in range(chance.randint(1, 3)):
        name = "".join(chance.choices(LETTERS, k=chance.randint(1, 6)))
        segments.append("**" if chance.random() < 0.25 else name.replace("**", "*").replace("**", "*"))
    end = "/" if segments[-1] != "**" and chance.random() < 0.2 else ""
    return chance.choice(("", "", "/")) + "/".join(segments) + end


def place(chance: random.Random) -> str:
    """A path."""
    names = ("".join(chance.choices("ab.(+*", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 4)))
    return "/".join(f"{name}{chance.choice('abx')}" for name in names)


def git_says(folder: Path, patterns: list[str], paths: list[str]) -> Iterator[bool]:
    """Whether git ignores each path."""
    (folder / ".gitignore").write_text("\n".join(patterns) + "\n")
    said = subprocess.run(
        ["git", "-C", str(folder), "check-ignore", "--no-index", "-v", "-n", "-z", "--stdin"],
        input="\0".join(paths).encode(), capture_output=True, check=False,
    ).stdout.decode().split("\0")  # fmt: skip
    for source in said[:-1:4]:
        yield bool(source)


def we_say(patterns: list[str], path: str) -> bool:
    """As check asks: a folder that is ignored hides all that is in it."""
    spec = ignore_spec(patterns)
    parts = path.split("/")
    folders = ("/".join(parts[:count]) + "/" for count in range(1, len(parts)))
    return any(spec.check_file(folder).include for folder in folders) or bool(spec.check_file(path).include)


def test_patterns_mean_what_git_takes_them_to_mean(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    chance = random.Random(5)
    asked = ignored = 0
    for _ in range(80):
        patterns = [made(chance) for _ in range(2)]
        paths = sorted({place(chance) for _ in range(40)})
        for path, theirs in zip(paths, git_says(tmp_path, patterns, paths), strict=True):
            asked, ignored = asked + 1, ignored + theirs
            assert we_say(patterns, path) == theirs, (patterns, path)
    assert ignored > 50
    assert asked > 2000


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 20 + "b", "a" * 255),
        ("*[ab]" * 20 + "c", "a" * 255),
        ("?*" * 30 + "b", "a" * 255),
        ("**/a" * 10 + "/b", "a/" * 2000),
        ("**/*a*a*" * 6 + "/b", "aaaa/" * 800),
        ("*" * 250 + "b", "a" * 255),
    ],
)
def test_a_match_takes_no_time(pattern: str, path: str) -> None:
    """pathspec's own regular expression of six `*a` takes 21 s on a name of 100 letters."""
    spec = ignore_spec([pattern])
    started = time.process_time()
    assert spec.check_file(path).include is None
    assert time.process_time() - started < 0.5


def test_lines_that_are_no_patterns_are_passed_over() -> None:
    spec = ignore_spec(["[z-a]", "!", "\\", "# x", "", "[[a]", "kept"])
    assert spec.check_file("kept").include is True
    assert len(ignore_spec(str(index) for index in range(2 * MAX_PATTERNS)).patterns) == MAX_PATTERNS


@pytest.mark.parametrize("text", ["\\", "!"])
def test_what_is_no_pattern_is_refused_in_settings(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KvcalcError, match="is no pattern"):
        check_pattern(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kvcalc.toml").write_text(f"exclude = ['{text}']\n")
    assert "kvcalc.toml:1:1: KV903 exclude: " in refused("check", ".")
    (tmp_path / "kvcalc.toml").write_text(f"[per-file-ignores]\n'{text}' = ['KV3']\n")
    assert "KV903 per-file-ignores: " in refused("check", ".")


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_gitignore_that_is_no_file_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for git (symbolic links: since 2.32)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(plain().replace("value: 6144", "value: 1"))
    if name == "pipe":
        subprocess.run(["mkfifo", ".gitignore"], check=True)
    else:
        (tmp_path / "elsewhere").write_text("*\n")
        (tmp_path / ".gitignore").symlink_to("elsewhere")
    assert "KV201" in kvcalc("check", ".", "--isolated").out


# --- settings


def test_settings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    assert "larger than 1,048,576 bytes" in refused("check", "--config", "large.toml", ".")
    if Path("/dev/zero").exists():
        assert "larger than 1,048,576 bytes" in refused("check", "--config", "/dev/zero", ".")
    (tmp_path / "digits.toml").write_text("a = " + "9" * 5000)
    assert "KV903 not TOML" in refused("check", "--config", "digits.toml", ".")


@pytest.mark.parametrize("path", ["../other/config.json", "/etc", "out"])
def test_settings_name_files_of_their_own_project(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a repository's settings must not choose which files of this machine are read."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    (tmp_path / "mine" / "out").symlink_to(tmp_path)
    (tmp_path / "mine" / "kvcalc.toml").write_text(f'against = "{path}"\n')
    said = refused("check", ".")
    assert "lies outside the project" in said
    assert "--against may name any" in said
