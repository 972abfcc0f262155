"""Settings that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

# Triton reads this once, when it is first imported, which may be by another room's test: on a machine without an
# NVIDIA GPU its kernels run in the interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples on every run, and no deadline: a busy machine is no failure.
settings.register_profile("kvcalc", deadline=None, derandomize=True)
settings.load_profile("kvcalc")
