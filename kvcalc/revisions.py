"""Spec files at a git revision, read by the git executable's plumbing: nothing of the content is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from kvcalc.problems import KvcalcError, Problem, usage_error
from kvcalc.spec.catalog import SPEC_SUFFIXES
from kvcalc.spec.document import MAX_BYTES

TIMEOUT_S = 60
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "--no-pager", "--no-replace-objects")
MAX_FILES = 10_000


def _git(*arguments: str) -> bytes:
    """Output of a git command.

    Raises:
        KvcalcError: no git, no repository, or git refuses.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # A promisor remote would be asked for objects that are not here: never on our behalf.
    environment["GIT_NO_LAZY_FETCH"] = "1"
    try:
        done = subprocess.run(
            ["git", *_SAFE, *arguments], capture_output=True, check=False, timeout=TIMEOUT_S, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise usage_error("git is not installed", help="compare two files instead") from None
    except subprocess.TimeoutExpired:
        raise usage_error(f"git did not answer within {TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise usage_error(
            f"git: {said[0].removeprefix('fatal: ')[:200] if said else 'failed'}", help="as in main:model_specs/x.yaml"
        )
    return done.stdout


def commit_of(revision: str) -> str:
    """The full hash of a commit that `revision` names."""
    if revision.startswith("-"):
        raise usage_error(f"{revision[:60]!r} is no revision")
    _git("rev-parse", "--git-dir")  # says so where there is no repository
    try:
        found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision or 'HEAD'}^{{commit}}")
    except KvcalcError:
        raise usage_error(f"no revision {revision[:60]!r} here", help="a branch, tag or commit of this clone") from None
    return found.decode("ascii").strip()


def split_revision(text: str) -> tuple[str, str] | None:
    """`REV:path` as its parts; None where it is a file, or holds no colon."""
    revision, colon, path = text.partition(":")
    if not colon or not revision or not path or os.path.exists(text):
        return None
    return revision, path


def split_range(text: str) -> tuple[str, str]:
    """`A..B` (the trees of A and B) or `A...B` (their merge base and B, as a pull request shows it)."""
    for dots in ("...", ".."):
        old, found, new = text.partition(dots)
        if found:
            first, last = commit_of(old), commit_of(new)
            return (_git("merge-base", first, last).decode("ascii").strip() if dots == "..." else first), last
    raise usage_error(f"{text[:60]!r} is no range of revisions", help="as in main..HEAD or main...HEAD")


def read_at(commit: str, path: str, shown: str) -> tuple[str, bytes]:
    """(name for messages, content) of a file at a commit; `path` is relative to the working directory.

    Raises:
        KvcalcError: no such file there, or above 1 MiB.
    """
    relative = path if path.startswith(("./", "../")) else f"./{path}"
    name = f"{commit}:{relative}"
    size = int(_git("cat-file", "-s", name))
    if size > MAX_BYTES:
        message = f"larger than {MAX_BYTES:,} bytes: no spec is"
        raise KvcalcError(Problem(code="KV001", message=message, path=shown))
    return shown, _git("cat-file", "blob", name)


def _stands(path: str, *commits: str) -> bool:
    """Whether a path is in the working tree or any of the trees; a pattern is git's to judge."""
    if os.path.lexists(path) or any(sign in path for sign in "*?[:"):
        return True
    return any(_git("ls-tree", commit, "--", path) for commit in commits)


def changed_files(old: str, new: str, paths: Sequence[str]) -> tuple[tuple[str, bool, bool], ...]:
    """(path, whether it is in the old tree, in the new one) of YAML files that differ. A renamed file is two."""
    out = _git(
        "diff-tree", "-r", "-z", "--name-status", "--no-renames", "--no-ext-diff", "--no-textconv", "--relative",
        old, new, "--", *paths,
    )  # fmt: skip
    words = [os.fsdecode(word) for word in out.split(b"\0") if word]
    found = [
        (path, status != "A", status != "D")
        for status, path in zip(words[::2], words[1::2], strict=True)
        if path.endswith(SPEC_SUFFIXES)
    ]
    for path in () if words else paths:
        if not _stands(path, old, new):
            raise usage_error(f"no file {path[:60]!r} in either revision", help="paths are files or folders")
    if len(found) > MAX_FILES:
        raise usage_error(f"{len(found):,} files differ: more than {MAX_FILES:,}", help="name a folder")
    return tuple(found)
