"""Without a GPU, Triton's kernels run through its interpreter: the choice must be made before Triton is imported."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
