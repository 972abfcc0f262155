"""The streaming kernels and the allocator's count on a real GPU (skipped without one)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")
pytest.importorskip("triton", reason="the streaming kernels need triton")

from kernels_ref import decode
from kernels_ref.byte_proof import check_kind, check_model
from kernels_ref.families import FAMILIES, expected
from kernels_ref.kernel_cases import suits
from kernels_ref.reference.common import relative_error
from kernels_ref.report import TOLERANCE
from kernels_ref.samples import SAMPLES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.mark.parametrize(("batch", "tokens"), [(1, 64), (2, 192), (3, 6400), (1, 65536), (40, 1984)])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_kernel_agrees_with_float64(name: str, batch: int, tokens: int) -> None:
    device = torch.device("cuda")
    family = suits(FAMILIES[name], device)
    pool = family.fill(family.rows(batch) * tokens, device)
    launch, out, q, cache = family.prepare(pool, batch, tokens)
    launch()
    assert relative_error(out, expected(family, cache, q)) < TOLERANCE


@pytest.mark.parametrize("last", [1, 63, 64, 65, 4000])
def test_latents_of_any_length_for_many_heads(last: int) -> None:
    family = suits(FAMILIES["MLA-128 bf16"], torch.device("cuda"))
    if not family.hopper:  # type: ignore[attr-defined]
        pytest.skip("the Gluon kernel needs Hopper")
    q, cache = (torch.randn(3, n, 576, device="cuda").bfloat16() for n in (128, 4096))
    out = torch.full((3, 128, 512), float("nan"), device="cuda")
    decode.mla_hopper(q, cache, out, rank=512, last=last, scale=576**-0.5)()
    scores = torch.einsum("bhd,bnd->bhn", q.double(), cache[:, :last].double()) * 576**-0.5
    assert relative_error(out, scores.softmax(-1) @ cache[:, :last, :512].double()) < TOLERANCE


@pytest.mark.parametrize("name", SAMPLES)
def test_the_allocator_counts_what_is_predicted(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    checks = list(check_kind(SAMPLES[name], 130, torch.device("cuda"), generator))
    assert [check for check in checks if not check.ok] == []


def test_a_whole_model_takes_the_predicted_memory() -> None:
    from kvcalc.spec.catalog import find_model

    assert check_model(find_model("deepseek-v3.2"), "bf16", 4096, torch.device("cuda")).ok
