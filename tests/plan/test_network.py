"""Lower bounds of collectives, by hand. An H100: NVLink 450 GB/s each way through switches that add up, 8 to a node."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning import gpu

from kvcalc.plan.network import NODE_LINK, Network, Routing
from kvcalc.problems import KvcalcError

SWITCHED = Network(gpu(), 8)
PCIE = Network(gpu(name="l40s"), 8)


def test_links():
    """H100: 450 GB/s through a switch. L40S: PCIe 4.0 x16, 32 GB/s, no switch. Between nodes 400 Gb/s."""
    assert (SWITCHED.inside, SWITCHED.adds_up) == (450 * 10**9, True)
    assert (PCIE.inside, PCIE.adds_up) == (32 * 10**9, False)
    assert NODE_LINK == 50 * 10**9
    assert [SWITCHED.nodes(n) for n in (1, 8, 9, 64)] == [1, 1, 2, 8]


def test_a_gpu_without_any_link_says_what_to_add():
    lonely = replace(gpu(), scale_up=None, host_link=None)
    with pytest.raises(KvcalcError) as caught:
        _ = Network(lonely, 8).inside
    assert "states no link" in caught.value.problems[0].message
    assert caught.value.problems[0].help == "add scale_up or host_link to its file"


def test_a_link_to_each_neighbour_gives_more_with_more_of_them():
    """MI300X: 7 links of 64 GB/s, one to each peer: 2 ranks send at 64 GB/s, 8 at 448."""
    mesh = Network(gpu(name="mi300x"), 8)
    assert [mesh.rate(ranks) for ranks in (1, 2, 5, 8, 16)] == [64e9, 64e9, 256e9, 448e9, 448e9]
    assert mesh.hop_s(1, 1, 9e9) == pytest.approx(9e9 / 64e9)
    assert Network(replace(gpu(name="mi300x"), host_link=None), 8).rate(2) == 64e9


def test_beyond_a_bridge_lies_the_host():
    """An RTX 3090's NVLink bridge joins two; four talk over PCIe 4.0 x16."""
    bridge = Network(gpu(name="rtx-3090"), 8)
    assert bridge.rate(2) > bridge.rate(4)
    assert bridge.rate(4) == 32 * 10**9
    assert bridge.rate(100) == bridge.rate(8)


def test_a_hop_is_between_two():
    """A link whose domain is one GPU reaches nobody: the next stage lies over PCIe 4.0 x16."""
    card = gpu(name="rtx-3090")
    assert card.scale_up is not None
    alone = replace(card.scale_up, domain_size=replace(card.scale_up.domain_size, value=1))
    assert Network(replace(card, scale_up=alone), 8).hop_s(1, 1, 8e9) == pytest.approx(8e9 / 32e9)


def test_what_a_network_remembers_is_no_part_of_it():
    used = Network(gpu(), 8)
    assert used.rate(2) == 450e9
    assert used == Network(gpu(), 8)
    assert "450000000000" not in repr(used).partition("node=")[2]


def test_all_reduce():
    """S through a switch that adds up; 2 (r - 1) / r x S without; between nodes a slice of S / 8 per GPU."""
    size = 9e9
    assert SWITCHED.all_reduce_s(1, size) == 0
    assert SWITCHED.all_reduce_s(4, size) == pytest.approx(9e9 / 450e9)
    assert PCIE.all_reduce_s(4, size) == pytest.approx(2 * 3 / 4 * 9e9 / 32e9)
    assert PCIE.all_reduce_s(2, size) == pytest.approx(9e9 / 32e9)
    assert SWITCHED.all_reduce_s(16, size) == pytest.approx(max(9e9 / 450e9, 9e9 / 8 / 50e9))
    slow = Network(gpu(), 8, node_link=10**9)
    assert slow.all_reduce_s(16, size) == pytest.approx(9e9 / 8 / 1e9)
    assert slow.all_reduce_s(8, size) == pytest.approx(9e9 / 450e9)


def test_gather():
    """What a rank lacks at its link's rate; between nodes 1 / 2 of the whole over 8 GPUs of each."""
    assert SWITCHED.gather_s(1, 5e9, 9e9) == 0
    assert SWITCHED.gather_s(8, 5e9, 9e9) == pytest.approx(5e9 / 450e9)
    assert SWITCHED.gather_s(16, 5e9, 90e9) == pytest.approx(90e9 / 2 / 8 / 50e9)
    assert SWITCHED.gather_s(24, 5e9, 90e9) == pytest.approx(90e9 * 2 / 3 / 8 / 50e9)
    assert SWITCHED.gather_s(16, 5e9, 1e9) == pytest.approx(5e9 / 450e9)


@given(experts=st.integers(1, 64), chosen=st.integers(1, 64), ranks=st.sampled_from([1, 2, 4, 8]))
def test_a_token_misses_a_rank_as_often_as_counting_says(experts, chosen, ranks):
    """Choices of k experts that leave out E / r given ones: C(E - E / r, k) of C(E, k)."""
    experts, chosen = experts * ranks, min(chosen, experts * ranks)
    held = experts // ranks
    exact = comb(experts - held, chosen) / comb(experts, chosen)
    assert Routing(experts=experts, chosen=chosen).missed(1 / ranks) == pytest.approx(exact, abs=1e-12)


def test_no_token_misses_more_experts_than_it_leaves():
    """Whoever draws 4 of 5 leaves one out, so two and a half never."""
    assert Routing(experts=5, chosen=4).missed(0.5) == 0


def test_exchange():
    """2 of 8 experts over 4 ranks of 2: a token misses a rank in C(6, 2) / C(8, 2) = 15 / 28 of all choices.

    So each of the 3 others is sent 13 / 28 of the bytes; of 2 ranks of 4, C(4, 2) / C(8, 2) = 6 / 28 miss one.
    """
    routing = Routing(experts=8, chosen=2)
    assert SWITCHED.exchange_s(4, 7e9, routing) == pytest.approx(7e9 * 3 * 13 / 28 / 450e9)
    assert SWITCHED.exchange_s(2, 7e9, routing) == pytest.approx(7e9 * (1 - 6 / 28) / 450e9)
    assert Network(replace(gpu(), scale_up=None, host_link=None), 8).exchange_s(1, 7e9, routing) == 0


def test_exchange_between_nodes():
    """32 experts over 16 ranks in two nodes, one chosen: half of the tokens leave the node, 7 / 16 stay within it."""
    routing = Routing(experts=32, chosen=1)
    inside, outside = 7e9 * 7 / 16 / 450e9, 7e9 * 1 / 2 / 50e9
    assert SWITCHED.exchange_s(16, 7e9, routing) == pytest.approx(max(inside, outside))
    fast = Network(gpu(), 8, node_link=10**13)
    assert fast.exchange_s(16, 7e9, routing) == pytest.approx(inside)
    alone = Network(gpu(), 1, node_link=50 * 10**9)
    assert alone.exchange_s(2, 7e9, routing) == pytest.approx(outside)


@given(stage=st.integers(1, 12), ranks=st.integers(1, 40), node=st.sampled_from([1, 4, 8, 72]))
def test_a_hop_is_as_slow_as_its_slowest_pair(stage, ranks, node):
    """Pair by pair: GPU i of a stage sends to GPU i of the next, GPUs are numbered through the nodes."""
    before = range((stage - 1) * ranks, stage * ranks)
    crosses = any(here // node != (here + ranks) // node for here in before)
    found = Network(gpu(), node).hop_s(stage, ranks, 9e9)
    assert found == pytest.approx(9e9 / 50e9 if crosses else 9e9 / 450e9)


def test_hops_cross_where_a_pair_lies_in_two_nodes():
    """Stages of 4 ranks: the second lies in the first's node, the third in the next."""
    assert SWITCHED.hop_s(1, 4, 9e9) == pytest.approx(9e9 / 450e9)
    assert SWITCHED.hop_s(2, 4, 9e9) == pytest.approx(9e9 / 50e9)
    assert SWITCHED.hop_s(1, 8, 9e9) == pytest.approx(9e9 / 50e9)
    assert SWITCHED.hop_s(1, 3, 9e9) == pytest.approx(9e9 / 450e9)
    assert SWITCHED.hop_s(2, 3, 9e9) == pytest.approx(9e9 / 50e9)
