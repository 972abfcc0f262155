"""Paths as CI systems want them: relative to where the job runs, with forward slashes."""

from __future__ import annotations

import os


def posix_path(path: str | None) -> str:
    """Relative to the working directory where the file lies below it."""
    if path is None or path.startswith("<"):
        return path or ""
    if os.path.isabs(path):
        relative = os.path.relpath(path)
        path = path if relative.startswith("..") else relative
    return path.replace(os.sep, "/")
