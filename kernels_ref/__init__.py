"""The proof: real storages and real kernels that confirm kvcalc's numbers. It needs torch: `kvcalc[torch]`."""

from __future__ import annotations

from kvcalc.problems import KvcalcError, usage_error


def obstacle(device: str | None) -> KvcalcError | None:
    """Why nothing can be proven on this device (`cuda`, `cpu`, None: the best there is), and what to do."""
    if device not in (None, "cuda", "cpu"):
        return usage_error(f"{device[:40]!r} is no device to verify on", help="--device cuda or --device cpu")
    try:
        import torch
    except ImportError:
        return usage_error(
            "nothing can be proven here: torch is not installed, so no cache can be allocated",
            help="pip install 'kvcalc[torch]'; bytes and meaning are proven on any CPU, speed on an NVIDIA GPU",
        )
    if device == "cuda" and not torch.cuda.is_available():
        return usage_error(
            "torch sees no CUDA device here",
            help="--device cpu proves bytes and meaning; speed needs an NVIDIA GPU and torch built for CUDA",
        )
    return None
