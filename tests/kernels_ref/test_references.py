"""Each kind's reference: its cache has the shape that kvcalc states, and decoding from it is right."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")

from kernels_ref.reference import Random, run_reference
from kernels_ref.reference.common import attend, relative_error
from kernels_ref.reference.compressed import compress
from kernels_ref.reference.sparse import best, index_scores
from kernels_ref.samples import SAMPLES
from kvcalc.attention import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_reference_of_its_name(kind: str) -> None:
    assert find_spec(f"kernels_ref.reference.{kind}") is not None


def test_every_kind_is_sampled() -> None:
    assert {type(kind).__dataclass_fields__["kind"].default for kind in SAMPLES.values()} == set(KINDS)


@pytest.mark.parametrize("tokens", [1, 3, 63, 130])
@pytest.mark.parametrize("name", SAMPLES)
def test_decoding_from_the_cache_equals_computing_without_one(name: str, tokens: int) -> None:
    kind = SAMPLES[name]
    run = run_reference(kind, tokens, Random(seed=tokens))
    stated = {s.name: (s.extent.rows(tokens, tokens), s.heads, s.width) for s in kind.streams()}
    assert {stream: tuple(rows.shape) for stream, rows in run.cache.items()} == stated
    assert run.error < 1e-12


def test_attention_by_hand() -> None:
    # One head, two rows, scores 0 and ln 3: weights 1/4 and 3/4.
    q = torch.tensor([[1.0]], dtype=torch.float64)
    k = torch.tensor([[[0.0]], [[3.0]]], dtype=torch.float64).log1p() * torch.tensor([[[0.0]], [[1.0]]])
    k[1] = torch.log(torch.tensor(3.0))
    v = torch.tensor([[[4.0]], [[8.0]]], dtype=torch.float64)
    assert attend(q, k, v, 1.0).item() == pytest.approx(0.25 * 4 + 0.75 * 8)


def test_a_query_head_reads_its_own_group() -> None:
    # Heads 0 and 1 share KV head 0, heads 2 and 3 share KV head 1: a single row gives back its V.
    v = torch.tensor([[[1.0], [2.0]]], dtype=torch.float64)
    out = attend(torch.zeros(4, 1, dtype=torch.float64), torch.zeros(1, 2, 1, dtype=torch.float64), v, 1.0)
    assert out[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_index_scores_by_hand() -> None:
    # q = (1, -1) per head 0, (2, 0) per head 1; key (3, 1): ReLU(2) = 2 and ReLU(6) = 6, weights 1 and 0.5 -> 5.
    q = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    assert index_scores(q, torch.tensor([1.0, 0.5]), torch.tensor([[3.0, 1.0]])).tolist() == [5.0]


def test_equal_scores_choose_the_earliest_tokens() -> None:
    assert best(torch.tensor([0.0, 1.0, 0.0, 0.0]), 3).tolist() == [1, 0, 2]


def test_an_even_gate_compresses_to_the_mean_of_its_stride() -> None:
    content = torch.arange(8.0)[:, None, None]
    assert compress(content, torch.zeros(8, 1, 1), 4)[:, 0].tolist() == [1.5, 5.5]


def test_overlapping_strides_take_in_the_stride_before() -> None:
    # First stride: own four alone, mean 1.5. Second: own 4..7 and the earlier stride's other content (10 each).
    own, earlier = torch.arange(8.0), torch.full((8,), 10.0)
    content = torch.stack([earlier, own], 1)[:, :, None]
    assert compress(content, torch.zeros(8, 2, 1), 4)[:, 0].tolist() == [1.5, (4 + 5 + 6 + 7 + 40) / 8]


def test_relative_error_of_something_unwritten_is_not_a_number() -> None:
    assert not relative_error(torch.tensor([float("nan"), 1.0]), torch.ones(2)) < 1e9
