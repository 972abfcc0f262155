"""The streaming kernels, run by Triton's interpreter: right for every format, odd length and cut of the work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")

pytest.importorskip("triton", reason="the streaming kernels need triton")

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_ref import decode
from kernels_ref.decode import GroupedCache, Shape, share_out
from kernels_ref.families import FAMILIES, GroupedFamily, LatentFamily, bytes_read, expected
from kernels_ref.reference.common import relative_error

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu runs the kernels for real")

NAMES = [*FAMILIES]


def small(name: str) -> Any:
    """The family with one or two KV heads; fp16 stands for bf16, which the interpreter does not multiply."""
    family = FAMILIES[name]
    kind = family.kind
    kv = getattr(kind, "num_key_value_heads", None)
    if kv is not None and kv > 1:
        group = kind.num_attention_heads // kv  # type: ignore[attr-defined]
        family = replace(family, kind=replace(kind, num_attention_heads=2 * group, num_key_value_heads=2))
    if isinstance(family, LatentFamily):
        heads = min(20, kind.num_attention_heads)  # type: ignore[attr-defined]
        family = replace(
            family, hopper=False, kind=replace(kind, num_attention_heads=heads, kv_lora_rank=64, qk_rope_head_dim=16)
        )
    if isinstance(family, GroupedFamily) and family.window:
        family = replace(family, window=100, kind=replace(family.kind, sliding_window=100))
    return replace(family, dtype="fp16") if family.dtype == "bf16" else family


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_reads_the_predicted_bytes_and_agrees_with_float64(name: str) -> None:
    torch.manual_seed(7)
    family = small(name)
    pool = family.fill(family.rows(2) * 192, torch.device("cpu"))
    launch, out, q, cache = family.prepare(pool, 2, 192)
    launch()
    assert sum(part.numel() * part.element_size() for part in family.tensors(cache)) == bytes_read(
        family.kind, family.dtype, 2, 192
    )
    assert relative_error(out, expected(family, cache, q)) < 1e-3


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 63), (37, 100), (64, 65), (31, 128)])
@pytest.mark.parametrize("programs", [1, 3, 50])
def test_any_stretch_of_a_cache_whatever_the_cut(first: int, last: int, programs: int) -> None:
    generator = torch.Generator().manual_seed(first + last)
    q, k, v = (torch.randn(3, n, 32, generator=generator).half() for n in (5, 128, 128))
    out = torch.full((3, 5, 32), float("nan"))
    shape = Shape(block=32, warps=4, stages=2, per_sm=programs)
    decode.grouped(q, GroupedCache(code=0, k=k, v=v), out, first=first, last=last, scale=0.2, shape=shape)()
    scores = torch.einsum("rgd,rnd->rgn", q.double(), k[:, first:last].double()) * 0.2
    assert relative_error(out, torch.einsum("rgn,rnd->rgd", scores.softmax(-1), v[:, first:last].double())) < 1e-3


def test_v_may_be_narrower_than_k() -> None:
    q, k, v = torch.randn(2, 4, 64).half(), torch.randn(2, 96, 64).half(), torch.randn(2, 96, 32).half()
    out = torch.full((2, 4, 32), float("nan"))
    shape = Shape(block=32, warps=4, stages=2, per_sm=2)
    decode.grouped(q, GroupedCache(code=0, k=k, v=v), out, first=0, last=90, scale=0.1, shape=shape)()
    scores = torch.einsum("rgd,rnd->rgn", q.double(), k[:, :90].double()) * 0.1
    assert relative_error(out, torch.einsum("rgn,rnd->rgd", scores.softmax(-1), v[:, :90].double())) < 1e-3


def test_a_capacity_that_is_no_multiple_of_the_block_is_refused() -> None:
    x = torch.zeros(1, 100, 32)
    shape = Shape(block=64, warps=4, stages=2, per_sm=1)
    with pytest.raises(ValueError, match="no multiple"):
        decode.grouped(x[:, :1], GroupedCache(code=0, k=x, v=x), x, first=0, last=9, scale=1.0, shape=shape)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5000), st.integers(1, 600))
def test_shares_cover_every_block_once_and_no_row_needs_more_slots(rows: int, tokens: int, programs: int) -> None:
    shares = share_out(rows, tokens, 64, programs)
    blocks = rows * shares.row_blocks
    assert shares.programs <= max(1, programs) or shares.share == 1
    assert (shares.programs - 1) * shares.share < blocks <= shares.programs * shares.share
    for row in range(rows):
        first, last = row * shares.row_blocks // shares.share, ((row + 1) * shares.row_blocks - 1) // shares.share
        assert last - first + 1 <= shares.slots
