"""Without a GPU, Triton's kernels run through its interpreter: the choice must be made before Triton is imported."""

from __future__ import annotations

import os

try:
    import torch
except ImportError:  # each file that needs torch skips itself, with the reason
    pass
else:
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")
