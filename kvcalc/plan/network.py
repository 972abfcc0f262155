"""What ranks must send each other: lower bounds of collectives, by where the ranks sit.

Bytes that no algorithm can save over the rate of one direction of a GPU's links; latencies and congestion are left out.

    all-reduce    S through a switch that adds up (NVLink SHARP), else 2 (r - 1) / r x S (Patarasuk and Yuan,
                  "Bandwidth optimal all-reduce algorithms", 2009); between nodes each GPU carries a slice, S / g
    gather        what a rank lacks; between nodes each token once per node, shared by its g GPUs
    all-to-all    a token once to each rank, and once to each other node, that holds one of its experts (DeepEP)

S: bytes on each rank; r: ranks; g: GPUs of a node among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from kvcalc.formats import ceil_div
from kvcalc.problems import usage_error
from kvcalc.spec.hardware import HardwareSpec

NODE_LINK = 50 * 10**9
"""B/s of one GPU to another node, unless given: one 400 Gb/s network card per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How tokens choose among routed experts: `chosen` of `experts`, each set equally likely."""

    experts: int
    chosen: int

    def missed(self, share: float) -> float:
        """Probability that a token uses none of a `share` of the experts: C(E - n, k) / C(E, k)."""
        held, missed = share * self.experts, 1.0
        for drawn in range(self.chosen):
            missed *= max(0.0, 1 - held / (self.experts - drawn))
        return missed


@dataclass(frozen=True)
class Network:
    """Links of a kind of GPU in nodes of `node`."""

    hardware: HardwareSpec
    node: int
    node_link: int = NODE_LINK
    _rates: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def inside(self) -> int:
        """B/s of one GPU to the others of its node.

        Raises:
            KvcalcError: the GPU's file names no link.
        """
        spec = self.hardware
        link = spec.scale_up or spec.host_link
        if link is None:
            raise usage_error(f"{spec.name} states no link", help="add scale_up or host_link to its file")
        return link.per_direction.exact

    @cached_property
    def adds_up(self) -> bool:
        """Whether the links lead through a switch, which may add up what passes (NVLink SHARP)."""
        link = self.hardware.scale_up
        return link is not None and link.topology == "switch"

    def rate(self, ranks: int) -> int:
        """B/s that each of `ranks` neighbouring GPUs of a node can send at."""
        ranks = min(ranks, self.node)
        if ranks not in self._rates:
            self._rates[ranks] = self._rate(ranks)
        return self._rates[ranks]

    def _rate(self, ranks: int) -> int:
        spec = self.hardware
        link = spec.scale_up
        if link is None:
            return self.inside
        if ranks > link.domain_size.exact and spec.host_link is not None:
            return min(self.inside, spec.host_link.per_direction.exact)
        if link.per_peer is not None:
            return min(link.per_direction.exact, link.per_peer.exact * max(1, ranks - 1))
        return link.per_direction.exact

    def nodes(self, ranks: int) -> int:
        """Nodes that `ranks` neighbouring GPUs take."""
        return ceil_div(ranks, self.node)

    def all_reduce_s(self, ranks: int, size: float) -> float:
        """Seconds until every rank holds the sum of `size` bytes of each."""
        if ranks == 1:
            return 0.0
        local = min(ranks, self.node)
        through = 1.0 if self.adds_up else 2 * (local - 1) / local
        inside = through * size / self.rate(local)
        return max(inside, size / local / self.node_link) if self.nodes(ranks) > 1 else inside

    def gather_s(self, ranks: int, lacks: float, whole: float) -> float:
        """Seconds until a rank has the `lacks` bytes that it lacks of `whole`; scattering sums takes as long."""
        if ranks == 1:
            return 0.0
        local, nodes = min(ranks, self.node), self.nodes(ranks)
        inside = lacks / self.rate(local)
        return max(inside, whole * (nodes - 1) / nodes / local / self.node_link)

    def exchange_s(self, ranks: int, size: float, routing: Routing) -> float:
        """Seconds in which a rank sends `size` bytes of tokens to the ranks that hold their experts."""
        if ranks == 1:
            return 0.0
        local, nodes = min(ranks, self.node), self.nodes(ranks)
        inside = (local - 1) * (1 - routing.missed(1 / ranks)) / self.rate(local)
        outside = (nodes - 1) * (1 - routing.missed(local / ranks)) / self.node_link
        return size * max(inside, outside)

    def hop_s(self, stage: int, ranks: int, size: float) -> float:
        """Seconds of `size` bytes from each of `ranks` GPUs of pipeline stage `stage - 1` to its like in the next.

        The slowest pair counts: some pair leaves its node where the two stages lie in more than one.
        """
        crosses = (stage - 1) * ranks // self.node != ((stage + 1) * ranks - 1) // self.node
        return size / (self.node_link if crosses else self.rate(2))
