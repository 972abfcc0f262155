"""Fixtures of the checks' tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks.spec_text import plain
from command_line import kvcalc

NOBODY = 65534


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder, and a user to whom modes mean something: root may read and write everything, so it steps down."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are root's alone
    for arguments in ((), ("--fix",)):  # what is imported on the way may be root's alone as well
        (folder / "warm.yaml").write_text(plain().replace("4096", "4K"))
        kvcalc("check", str(folder), "--isolated", *arguments)
    (folder / "warm.yaml").unlink()
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(folder)
