"""Time bounds of a layout: memory and arithmetic of each pipeline stage, and what its ranks must send each other.

    decode step   m x (longest stage of a micro-batch) + hops, m = min(pipeline, sequences) micro-batches
    stage         components one after another, each at its roofline, + collectives at the link's rate
    all-reduce    2 (t - 1) / t x tokens x hidden x 2 B over the link, after each attention and feed-forward block
    experts       over all tensor x data ranks: all-to-all (whole experts) or gather and scatter (slices)

Volumes over rates: launches, latencies and imbalance are left out, so no machine is faster than these bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from kvcalc.footprint import Workload
from kvcalc.formats import ceil_div
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Job
from kvcalc.problems import usage_error
from kvcalc.roofline import Calibration, Ceilings, Point, ceilings, gemm_type, point, step_time
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import LayerEntry, LayerUse, ModelSpec, layer_groups, write_out
from kvcalc.steps import DECODE, PREFILL, Phase
from kvcalc.tensors import Component
from kvcalc.traffic import kept_bytes, kernels, read_bytes, work_flops, written
from kvcalc.weight_traffic import StepWeights, step_weights

OPERAND_BYTES = 2
NODE_LINK = 50 * 10**9
"""B/s of one GPU to another node, unless given: one 400 Gb/s network card per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Bounds of one layout at one workload."""

    tpot_s: float
    """Between two tokens of a sequence."""
    ttft_s: float | None
    """Prefill of one prompt on an idle replica; None where no prompt length was given."""
    tokens_per_s: float
    """Of all sequences together."""
    memory_s: float
    compute_s: float
    communication_s: float
    """Parts of the slowest stage's step: the first two add to its roofline time."""
    bound_by: str
    """memory, compute or communication: the largest part."""


@dataclass(frozen=True)
class Network:
    """What ranks send each other over, by where they sit."""

    hardware: HardwareSpec
    node: int
    node_link: int = NODE_LINK

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

    def rate(self, ranks: int) -> int:
        """B/s that each of `ranks` neighbouring GPUs can send at."""
        if ranks > self.node:
            return min(self.inside, self.node_link)
        spec = self.hardware
        link = spec.scale_up
        if link is None or spec.host_link is None:
            return self.inside
        if ranks > link.domain_size.exact:
            return min(self.inside, spec.host_link.per_direction.exact)
        if link.per_peer is not None:
            return min(link.per_direction.exact, link.per_peer.exact * max(1, ranks - 1))
        return link.per_direction.exact


@dataclass(frozen=True)
class _Stage:
    """The layers of one pipeline stage."""

    spec: ModelSpec
    uses: tuple[LayerUse, ...]
    first: bool
    last: bool


@dataclass(frozen=True)
class Clock:
    """Bounds of a job on a GPU, remembered by what they depend on."""

    job: Job
    hardware: HardwareSpec
    network: Network
    calibration: Calibration | None = None
    _cost: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def limits(self) -> Ceilings:
        return ceilings(self.hardware, self.calibration)

    @cached_property
    def hidden(self) -> int:
        return self.job.spec.hidden_size or 0

    def speed(self, layout: Layout, batch: int, seq_len: int, isl: int | None = None) -> Speed:
        """Bounds while `batch` sequences hold `seq_len` tokens each, and of a prompt of `isl` tokens."""
        sequences = ceil_div(batch, layout.data)
        parts = min(layout.pipeline, sequences)
        micro = ceil_div(sequences, parts)
        stages = [
            self._stage(layout, stage, "decode", micro, min(batch, micro * layout.data), seq_len)
            for stage in self._stages(layout.pipeline)
        ]
        slowest = max(stages, key=sum)
        hops = sum(self._hops(layout, micro))
        tpot = max(sum(map(sum, stages)), parts * sum(slowest)) + hops
        names = ("memory", "compute", "communication")
        memory, compute, communication = (sum(stage[part] for stage in stages) for part in range(3))
        shares = dict(zip(names, (memory, compute, communication + hops), strict=True))
        return Speed(
            tpot_s=tpot,
            ttft_s=None if isl is None else self.prefill_s(layout, isl),
            tokens_per_s=batch / tpot if tpot else 0.0,
            memory_s=memory,
            compute_s=compute,
            communication_s=communication + hops,
            bound_by=max(shares, key=lambda name: shares[name]),
        )

    def prefill_s(self, layout: Layout, isl: int) -> float:
        """One prompt through all stages, one after another."""
        stages = (self._stage(layout, stage, "prefill", 1, 1, isl) for stage in self._stages(layout.pipeline))
        return sum(map(sum, stages)) + sum(self._hops(layout, isl))

    def _stages(self, pipeline: int) -> tuple[_Stage, ...]:
        key = ("stages", pipeline)
        if key not in self._cost:
            spec = replace(self.job.spec, encoder_layers=(), mtp_layers=())
            uses = write_out(spec.layers)
            start, found = 0, []
            counts = Layout(pipeline=pipeline).sharding.layers_of_stages(len(uses))
            for stage, count in enumerate(counts):
                mine = uses[start : start + count]
                start += count
                entries = tuple(LayerEntry(attention=use.attention or None, ffn=use.ffn or None) for use in mine)
                found.append(_Stage(replace(spec, layers=entries), mine, stage == 0, stage == pipeline - 1))
            self._cost[key] = tuple(found)
        stages: tuple[_Stage, ...] = self._cost[key]
        return stages

    def _stage(
        self, layout: Layout, stage: _Stage, phase: Phase, sequences: int, everyone: int, tokens: int
    ) -> tuple[float, float, float]:
        """(memory, compute, communication) seconds of a rank of one stage; a component counts where it binds."""
        key = (layout, stage.uses, stage.first, stage.last, phase, sequences, everyone, tokens)
        if key not in self._cost:
            points = [*self._attention(layout, stage, phase, sequences, tokens)]
            points += self._gemms(layout, stage, phase, everyone, 1 if phase == "decode" else tokens)
            timed = step_time(points)
            compute = sum(part.compute_s for part in points if part.bound_by == "compute")
            new = sequences * (1 if phase == "decode" else tokens)
            total = everyone * (1 if phase == "decode" else tokens)
            sent = sum(self._sent(layout, stage, new, total))
            self._cost[key] = (timed.seconds - compute, compute, sent)
        parts: tuple[float, float, float] = self._cost[key]
        return parts

    def _attention(self, layout: Layout, stage: _Stage, phase: Phase, sequences: int, tokens: int) -> Iterator[Point]:
        for group in layer_groups(stage.spec):
            times = sequences * group.count
            for label, size, flops in self._kernels(layout, group.names, phase, tokens):
                yield point(label, "attention", times * size, times * flops, self.limits, "bf16", group.count)

    def _kernels(
        self, layout: Layout, names: tuple[str, ...], phase: Phase, tokens: int
    ) -> tuple[tuple[str, Fraction, int], ...]:
        """(kernel, bytes, FLOPs) of one layer and one sequence on one rank."""
        key = ("kernels", layout.tensor, layout.decode_context, names, phase, tokens)
        if key not in self._cost:
            job, shards = self.job, layout.shards
            group = next(group for group in layer_groups(job.spec) if group.names == names)
            workload = Workload(batch_size=1, seq_len=tokens, encoder_len=job.encoder_len, formats=job.formats)
            found = []
            for kernel in kernels(group, phase, DECODE if phase == "decode" else PREFILL):
                read = sum(read_bytes(each, phase, tokens, workload, shards) for each in kernel.reads)
                if phase == "decode":
                    wrote = written(kernel.streams, workload, shards)
                else:
                    wrote = Fraction(kept_bytes(kernel.streams, tokens, workload, shards))
                flops = sum(work_flops(each, phase, tokens, workload, shards) for each in kernel.work)
                found.append((kernel.label, read + wrote, flops))
            self._cost[key] = tuple(found)
        counted: tuple[tuple[str, Fraction, int], ...] = self._cost[key]
        return counted

    def _gemms(self, layout: Layout, stage: _Stage, phase: Phase, everyone: int, new: int) -> Iterator[Point]:
        key = ("weights", layout.tensor, layout.data, layout.expert_parallel, stage.uses, phase)
        if key not in self._cost:
            self._cost[key] = step_weights(stage.spec, phase, self.job.scheme, layout.shards)
        held: StepWeights = self._cost[key]
        for each in held.at(everyone, new):
            elsewhere = (each.component == Component.EMBEDDING and not stage.first) or (
                each.component == Component.HEAD and not stage.last
            )
            if not elsewhere:
                yield point(each.component, "gemm", each.read_bytes, each.flops, self.limits, gemm_type(each.format))

    def _sent(self, layout: Layout, stage: _Stage, new: int, total: int) -> Iterator[float]:
        """Seconds of each collective of a stage, `new` tokens on each data rank and `total` on all."""
        tensor, everyone = layout.tensor, layout.tensor * layout.data
        row = self.hidden * OPERAND_BYTES
        reduces = exchanges = gathers = 0
        for use in stage.uses:
            reduces += len(use.attention)
            gathers += len(use.attention)
            for name in use.ffn:
                if layout.data > 1 and name in self._routed:
                    exchanges += self._routed[name]
                else:
                    reduces += 1
        if tensor > 1:
            yield reduces * 2 * (tensor - 1) * new * row / tensor / self.network.rate(tensor)
        share = layout.decode_context
        if share > 1:
            # Queries are gathered and outputs scattered: at least one row of hidden_size each way.
            yield gathers * 2 * (share - 1) * new * row / share / self.network.rate(tensor)
        if exchanges and layout.expert_parallel:
            # Dispatch and combine of each token's chosen experts; a rank sends its share of the data rank's tokens.
            yield 2 * (new / tensor) * exchanges * row * self._away(everyone)
        elif exchanges:
            layers = sum(name in self._routed for use in stage.uses for name in use.ffn)
            yield 2 * layers * total * row * (everyone - 1) / everyone / self.network.rate(everyone)

    @cached_property
    def _routed(self) -> Mapping[str, int]:
        """ffn entry -> experts that work for a token."""
        found: dict[str, int] = {}
        for name, block in (self.job.spec.ffn or {}).items():
            chosen = [t.active_copies for t in block.tensors(self.hidden) if t.active_copies is not None]
            if chosen:
                found[name] = max(chosen)
        return found

    def _away(self, ranks: int) -> float:
        """Seconds per byte of an all-to-all over `ranks`: what leaves the node takes the slower link, at once."""
        node = min(ranks, self.network.node)
        outside, inside = (ranks - node) / ranks, (node - 1) / ranks
        return max(inside / self.network.rate(node), outside / self.network.rate(ranks) if outside else 0.0)

    def _hops(self, layout: Layout, tokens: int) -> Iterator[float]:
        """Seconds of the activations between stages; tensor-parallel ranks send a slice each."""
        each = layout.tensor * layout.data
        for stage in range(1, layout.pipeline):
            crosses = (stage * each - 1) // self.network.node != (stage * each) // self.network.node
            ranks = self.network.node + 1 if crosses else 2
            yield tokens * self.hidden * OPERAND_BYTES / layout.tensor / self.network.rate(ranks)
