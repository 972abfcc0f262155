"""What CI systems want of a finding: a path relative to where the job runs, and a mark by which to know it again."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable

from kvcalc.problems import Problem


def posix_path(path: str | None) -> str:
    """Relative to the working directory where the file lies below it."""
    if path is None or path.startswith("<"):
        return path or ""
    if os.path.isabs(path):
        relative = os.path.relpath(path)
        path = path if relative.startswith("..") else relative
    return path.replace(os.sep, "/")


def with_help(found: Problem) -> str:
    """The message, and below it what to do."""
    return found.message if found.help is None else f"{found.message}\n{found.help}"


def fingerprints(found: Iterable[Problem]) -> list[str]:
    """One for each, all different. They hold no line numbers, so that a finding that moves stays the same one."""
    seen: Counter[str] = Counter()
    prints: list[str] = []
    for problem in found:
        base = f"{posix_path(problem.path)}\n{problem.code}\n{problem.message}"
        seen[base] += 1
        prints.append(hashlib.sha256(f"{base}\n{seen[base]}".encode("utf-8", "surrogatepass")).hexdigest())
    return prints
