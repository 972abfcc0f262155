"""Decode steps on a CPU: torch's own attention in fp32 against the machine's measured read bandwidth.

There are no streaming kernels here, and none is claimed: the figures say how far a plain decode is from the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kernels_ref.measure import seconds
from kernels_ref.reference.common import relative_error
from kernels_ref.report import Ceilings, KernelCheck
from kvcalc.attention.base import Attention
from kvcalc.attention.full import Full
from kvcalc.attention.mla import Mla
from kvcalc.attention.sliding import Sliding
from kvcalc.cache_dtypes import parse_kv_cache_dtype

TOKENS = 16384
HEADED = {
    "MHA fp32": Full(num_attention_heads=8, num_key_value_heads=8, head_dim=128),
    "GQA-8 fp32": Full(num_attention_heads=64, num_key_value_heads=8, head_dim=128),
    "MQA-8 fp32": Full(num_attention_heads=8, num_key_value_heads=1, head_dim=128),
    "sliding window 4096 fp32": Sliding(
        num_attention_heads=64, num_key_value_heads=8, head_dim=128, sliding_window=4096
    ),
}  # fmt: skip
LATENT = {
    "MLA-16 fp32": Mla(
        num_attention_heads=16, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128
    )
}  # fmt: skip


def _exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q.double() @ k.double().transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.softmax(-1) @ v.double()


def _check(
    name: str, kernel: str, kind: Attention, flops: int, stored: int, step: Callable[[], Tensor], exact: Tensor,
    ceilings: Ceilings,
) -> KernelCheck:  # fmt: skip
    time = seconds(step, torch.device("cpu"), repeats=7)
    choice = parse_kv_cache_dtype("fp32")
    predicted = sum(stream.bytes(TOKENS, choice) for stream in kind.streams())
    return KernelCheck(
        case=name, kernel=kernel, attention=kind.label, format="fp32", batch_size=1, seq_len=TOKENS,
        predicted_bytes=predicted, storage_bytes=stored, flops=flops, seconds=time, bytes_per_s=predicted / time,
        flops_per_s=flops / time, ceiling="read", share_of_ceiling=predicted / time / ceilings.read_bytes_per_s,
        target=None, limited_by="torch on a CPU", relative_error=relative_error(step(), exact),
    )  # fmt: skip


def cpu_checks(ceilings: Ceilings) -> Iterator[KernelCheck]:
    """One decode step of the kinds that torch can do by itself."""
    for name, kind in HEADED.items():
        kv, width = kind.num_key_value_heads, kind.head_dim
        rows = kind.extent().rows(TOKENS, 0)
        q = torch.randn(kv, 1, kind.num_attention_heads // kv, width)
        # The whole sequence is there; a window reads its end.
        k, v = (torch.randn(kv, 1, TOKENS, width)[:, :, TOKENS - rows :] for _ in range(2))

        def step(q: Tensor = q, k: Tensor = k, v: Tensor = v) -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

        flops = 4 * kind.num_attention_heads * rows * width
        yield _check(name, "SDPA", kind, flops, 4 * (k.numel() + v.numel()), step, _exact(q, k, v), ceilings)
    for name, mla in LATENT.items():
        width, rank = mla.kv_lora_rank + mla.qk_rope_head_dim, mla.kv_lora_rank
        q, rows_ = torch.randn(mla.num_attention_heads, width), torch.randn(TOKENS, width)

        def absorbed(q: Tensor = q, rows_: Tensor = rows_, rank: int = rank) -> Tensor:
            return (q @ rows_.T * q.shape[-1] ** -0.5).softmax(-1) @ rows_[:, :rank]

        flops = 2 * mla.num_attention_heads * TOKENS * (width + rank)
        exact = _exact(q, rows_, rows_[:, :rank])
        yield _check(name, "matmul", mla, flops, 4 * rows_.numel(), absorbed, exact, ceilings)
