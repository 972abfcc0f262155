"""What an engine holds of a model under a layout, by hand in an engine made up for it; what a job settles itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from factories import full, mla, model
from planning import dense_model, gpu, job, moe_model, weighted

from kvcalc.engines import find_engine
from kvcalc.engines.base import Allocation, Figure
from kvcalc.footprint import Workload
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Held, Job, Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.spec.ffn import Dense
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec


def metered(units: int, figures: tuple[tuple[str, int], ...], sizes: tuple[int, ...], scales: bool = True) -> Job:
    """A job in an engine that holds `units` units and `sizes` bytes of each stage for a sequence."""

    def allocate(spec: ModelSpec, workload: Workload, settings: Any) -> Allocation:
        batch = workload.batch_size
        return Allocation(
            engine="meter", version="1", model=spec.name, batch_size=batch, seq_len=workload.seq_len,
            kv_cache_dtype="bf16", logical_bytes=0, allocated_bytes=0, waste=(), ranks=1, per_rank_bytes=0,
            per_stage_bytes=tuple(batch * size for size in sizes), sharding_waste=(), units=batch * units,
            figures=tuple(Figure(name=name, meaning="", units=number, bytes=0) for name, number in figures),
        )  # fmt: skip

    return replace(job(dense_model()), engine=replace(find_engine("ideal"), allocate=allocate, batch_scales=scales))


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize(
    ("units", "figures", "sequences", "held"),
    [
        (10, (), 3, ((300, 165), False)),
        (10, (("admission", 30),), 3, ((300, 165), False)),
        (10, (("admission", 31),), 3, ((310, 170), True)),  # 170.5 B
        (10, (("peak", 99), ("admission", 11)), 1, ((110, 60), True)),
        (10, (("peak", 99), ("admission", 11)), 2, ((200, 110), False)),
        (0, (("admission", 5),), 3, ((300, 165), False)),
        (1, (("admission", 2),), 1, ((200, 110), True)),
    ],
)
def test_one_request_on_admission_may_ask_for_more_than_the_batch_holds(units, figures, sequences, held, scales):
    """A unit is 100 / `units` bytes of the first stage, 55 / `units` of the second."""
    found = metered(units, figures, (100, 55), scales).held(Layout(pipeline=2), sequences, Lengths.of(9), ())
    assert isinstance(found, Held)
    assert (found.stage_bytes, found.admission) == held
    assert found.allocation.batch_size == (1 if scales else sequences)


@pytest.mark.parametrize("scales", [True, False])
def test_a_mix_is_not_admitted(scales):
    """Three sequences of 7 B each on a stage, by whichever length."""
    work = metered(1, (("admission", 99),), (7, 0), scales)
    found = work.held(Layout(pipeline=2), 3, Lengths(((5, 1), (9, 1))), ())
    assert isinstance(found, Held)
    assert (found.stage_bytes, found.admission) == ((21, 0), False)


def test_the_fullest_stage_is_so_by_its_cache_too():
    """The last stage holds a norm more than the first, which holds the cache."""

    def fullest(sizes: tuple[int, ...]) -> int:
        found = metered(1, (), sizes).ledger(Layout(pipeline=2), gpu(), 1, Lengths.of(9))
        assert isinstance(found, Ledger)
        return found.stage

    assert fullest((0, 0)) == 1
    assert fullest((10**9, 0)) == 0


@pytest.mark.parametrize(
    ("spec", "engine", "tp", "data", "wide"),
    [
        (moe_model(), "sglang", 2, 1, None),
        (moe_model(), "sglang", 1, 2, 2),
        (moe_model(), "sglang", 2, 3, 6),
        (moe_model(), "vllm", 2, 3, None),
        (dense_model(), "sglang", 2, 3, None),
    ],
)
def test_over_how_many_ranks_dense_blocks_are_split(spec, engine, tp, data, wide):
    assert job(spec, engine=engine).sharding(Layout(tensor=tp, data=data)).ffn_tensor == wide


def test_logits_are_sampled_on_the_last_stage():
    """2^20 logits a sequence take more than any layer does: on the last of three stages, or on the only one."""
    work = job(dense_model(vocab_size=2**20), engine="vllm")

    def activations(stages: int) -> list[int]:
        splits = work.splits(Layout(pipeline=stages), gpu(), 2000)
        return [item.bytes for split in splits for item in split.overheads if item.name == "activation"]

    first, second, last = activations(3)
    assert first == second < last
    assert activations(1) == [last]


def test_ranks_that_talk_over_the_host_alone_keep_smaller_buffers():
    """As `outside_bytes` says: 1.5 GiB on two GPUs with links of their own, else 0.5 GiB."""
    work = job(dense_model(), engine="vllm")

    def outside(hardware: HardwareSpec) -> int:
        (split,) = work.splits(Layout(tensor=2), hardware, 2000)
        return next(item.bytes for item in split.overheads if item.name == "non_torch")

    assert outside(gpu()) == 3 * 2**29
    assert outside(replace(gpu(), scale_up=None)) == 2**29


def test_a_capacity_is_of_the_memory_left_unless_bytes_are_given():
    work = job(dense_model(), engine="vllm")
    (left,) = work.cache_budgets(Layout(), gpu(), 2000)
    of_memory, of_bytes = (work.capacity(Layout(), gpu(), 2000, budget) for budget in (None, 10**9))
    assert of_memory is not None
    assert of_bytes is not None
    assert (of_memory.budget_bytes, of_bytes.budget_bytes) == (left, 10**9)


def test_a_latent_may_be_kept_beside_keys_and_values():
    kinds = {"mla": (mla(),), "both": (mla(), full()), "full": (full(),)}
    found = {
        name: job(weighted(model(*layers), Dense(intermediate_size=1536))).latent for name, layers in kinds.items()
    }
    assert found == {"mla": True, "both": True, "full": False}


def test_what_a_job_remembers_is_no_part_of_what_it_shows():
    work = job(dense_model())
    before = repr(work)
    work.ledger(Layout(), gpu(), 1, Lengths.of(9))
    assert repr(work) == before


def test_a_job_that_says_no_more_has_no_encoder_tokens():
    plain = job(dense_model())
    bare = Job(plain.spec, plain.engine, plain.scheme)
    assert (bare.encoder_len, bare.drafts) == (0, False)
