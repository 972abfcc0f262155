"""What makes one choice better than another, and what a request asks for unless told otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from planning import dense_model, gpu, request

from kvcalc.engines import find_engine
from kvcalc.plan.demand import Demand
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.request import OBJECTIVES, Request
from kvcalc.weights.ledger import weight_scheme


def choice(
    *, gpus: int = 5, tpot: float = 5.0, simplicity: int = 5, per_gpu: float = 5.0, cost: float | None = 5.0
) -> Any:
    speed, layout = SimpleNamespace(tpot_s=tpot), SimpleNamespace(simplicity=simplicity)
    return SimpleNamespace(gpus=gpus, speed=speed, layout=layout, tokens_per_s_per_gpu=per_gpu, cost_per_hour=cost)


@pytest.mark.parametrize(
    ("objective", "better", "worse"),
    [
        ("gpus", {"gpus": 4, "tpot": 9.0, "simplicity": 9}, {}),
        ("gpus", {"tpot": 4.0, "simplicity": 9}, {}),
        ("gpus", {"simplicity": 4}, {}),
        ("tpot", {"tpot": 4.0, "gpus": 9, "simplicity": 9}, {}),
        ("tpot", {"gpus": 4, "simplicity": 9}, {}),
        ("tpot", {"simplicity": 4}, {}),
        ("throughput", {"per_gpu": 6.0, "gpus": 9, "tpot": 9.0, "simplicity": 9}, {}),
        ("throughput", {"gpus": 4, "tpot": 9.0, "simplicity": 9}, {}),
        ("throughput", {"tpot": 4.0, "simplicity": 9}, {}),
        ("throughput", {"simplicity": 4}, {}),
        ("cost", {"cost": 4.0, "tpot": 9.0, "simplicity": 9}, {}),
        ("cost", {"tpot": 4.0, "simplicity": 9}, {}),
        ("cost", {"simplicity": 4}, {}),
        ("cost", {"cost": None, "tpot": 9.0}, {"cost": 0.5}),
    ],
)
def test_of_two_choices_the_better_one_comes_first(objective, better, worse):
    figures = OBJECTIVES[objective]
    assert figures(choice(**better)) < figures(choice(**worse))


def test_without_a_price_nothing_is_paid():
    assert OBJECTIVES["cost"](choice(cost=None)) == (0.0, 5.0, 5)


def test_a_request_that_says_no_more():
    spec = dense_model()
    demand = Demand(batch_size=1, lengths=Lengths.of(1))
    plain = Request(spec=spec, engine=find_engine("ideal"), scheme=weight_scheme(spec), demand=demand)
    assert (plain.alternatives, plain.frontier, plain.encoder_len, plain.max_gpus) == (True, False, 0, 1024)
    assert plain.job().encoder_len == 0
    assert (plain.objective, plain.formats.name, plain.target.asked) == ("gpus", "bf16", False)


@pytest.mark.parametrize(("node", "found"), [(None, 8), (1, 1), (4, 4)])
def test_nodes_are_the_gpus_own_unless_given(node, found):
    wanted = request(dense_model(), node=node)
    search = wanted.search(wanted.job(), gpu())
    assert (search.node, search.clock.network.node) == (found, found)
