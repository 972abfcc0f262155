"""A folder of one process's own for readers that want a file; in memory where the system has such a place."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache


def written(name: str, data: bytes) -> str:
    """The path of a file with these bytes."""
    path = os.path.join(folder(), name)
    with open(path, "wb") as out:
        out.write(data)
    return path


@cache
def folder() -> str:
    made = tempfile.mkdtemp(prefix="kvcalc-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
