"""Time bounds of a layout: memory and arithmetic of each pipeline stage, and what its ranks must send each other.

    stage         components one after another, each at its roofline; collectives beside them, at the links' rate:
                  the longer of the two (engines overlap them over two half batches)
    decode step   the longer of one micro-batch through all stages and all micro-batches through the slowest stage
    prefill       the slowest stage's whole prompt; its first and last chunk through the other stages
    experts       over all tensor x data ranks: all-to-all (whole experts) or gather and scatter (slices)

Launches, latencies, imbalance and sampling are left out, so that no machine is faster than these bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from kvcalc.footprint import Workload
from kvcalc.formats import ceil_div
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Job
from kvcalc.plan.network import NODE_LINK, Network, Routing
from kvcalc.plan.stages import Stage, dealt
from kvcalc.roofline import Calibration, Ceilings, ceilings, gemm_type
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import LayerGroup, layer_groups
from kvcalc.steps import DECODE, PREFILL, Phase
from kvcalc.tensors import Component
from kvcalc.traffic import kept_bytes, kernels, read_bytes, work_flops, written
from kvcalc.weight_traffic import Shards, StepWeights, Working, dealt_weights, working_weights

__all__ = ["NODE_LINK", "Clock", "Network", "Speed", "Step"]

OPERAND_BYTES = 2
"""Activations between blocks are 16-bit."""
SENT_BYTES: Mapping[str, float] = {"fp8": 1, "int8": 1, "fp4": 0.5}
"""Of an activation on its way to experts that multiply in this type (DeepEP sends fp8); 16 bit on its way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one pipeline stage: seconds that each resource is busy for at least."""

    memory_s: float
    """Of the components that memory binds."""
    compute_s: float
    """Of those that arithmetic binds."""
    communication_s: float

    @property
    def local_s(self) -> float:
        """Components one after another."""
        return self.memory_s + self.compute_s

    @property
    def seconds(self) -> float:
        """With collectives beside the components."""
        return max(self.local_s, self.communication_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Bounds of one layout at one workload."""

    tpot_s: float
    """Between two tokens of a sequence."""
    serial_tpot_s: float
    """The same where collectives wait for the components and these for them."""
    ttft_s: float | None
    """Prefill of one prompt on an idle replica; None where no prompt length was given."""
    tokens_per_s: float
    """Of all sequences together."""
    memory_s: float
    compute_s: float
    communication_s: float
    """What one micro-batch costs in all stages together."""
    bound_by: str
    """memory, compute or communication: what the slowest stage waits for."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a stage moves and computes, whatever the batch."""

    attention: tuple[tuple[float, float], ...]
    """(bytes, FLOPs) of each kernel, all its layers, of one sequence."""
    weights: StepWeights
    rates: tuple[int, ...]
    """FLOP/s of the products with each of the weights."""


@dataclass(frozen=True, slots=True)
class _Sends:
    """What a token costs the links in a stage: bytes per token and data rank, by collective."""

    reduced: float
    """All-reduced over the tensor-parallel ranks."""
    shared: float
    """Gathered and scattered among decode context parallel ranks: what each of them has."""
    routed: tuple[tuple[Routing, float], ...]
    """Sent to (and fetched from) the ranks of routed experts."""
    gathered: float
    """Gathered over all data ranks before dense blocks that all of them share, and scattered behind."""


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
        size = self.job.spec.hidden_size
        assert size is not None, "a model without it has no weights to plan"
        return size

    @cached_property
    def _groups(self) -> Mapping[tuple[str, ...], LayerGroup]:
        return {group.names: group for group in layer_groups(self.job.spec)}

    @cached_property
    def tokens_per_step(self) -> int:
        """One, and every draft accepted where there are any: all of them are checked in one step."""
        return 1 + int(self.job.options.get("num_speculative_tokens") or 0)

    def speed(self, layout: Layout, batch: int, seq_len: int, isl: int | None = None) -> Speed:
        """Bounds while `batch` sequences hold `seq_len` tokens each, and of a prompt of `isl` tokens."""
        key = ("speed", layout, batch, seq_len, isl)
        if key not in self._cost:
            self._cost[key] = self._speed(layout, batch, seq_len, isl)
        found: Speed = self._cost[key]
        return found

    def _speed(self, layout: Layout, batch: int, seq_len: int, isl: int | None) -> Speed:
        sequences = ceil_div(batch, layout.data)
        rounds = min(layout.pipeline, sequences)
        each, larger = divmod(sequences, rounds)
        stages = self._stages(layout.pipeline)
        kinds, checked = {stage.key: stage for stage in stages}, self.tokens_per_step

        def steps(micro: int) -> list[Step]:
            everyone = min(batch, micro * layout.data)
            asked = (micro, everyone, seq_len, checked)
            each = {key: self._step(layout, kind, "decode", *asked) for key, kind in kinds.items()}
            return [each[stage.key] for stage in stages]

        small = steps(each)
        large = steps(each + 1) if larger else small
        hops = self._hops(layout, checked * (each + bool(larger)))

        def bound(seconds: Callable[[Step], float]) -> float:
            slow, slower = (max(map(seconds, found)) for found in (small, large))
            around = (rounds - larger) * slow + larger * slower
            return max(sum(map(seconds, large)) + hops, around) / checked

        tpot = bound(lambda step: step.seconds)
        slowest = max(large, key=lambda step: step.seconds)
        shares = {"communication": slowest.communication_s}
        if slowest.local_s >= slowest.communication_s:
            shares = {"memory": slowest.memory_s, "compute": slowest.compute_s}
        return Speed(
            tpot_s=tpot,
            serial_tpot_s=bound(lambda step: step.local_s + step.communication_s),
            ttft_s=None if isl is None else self.prefill_s(layout, isl),
            tokens_per_s=batch / tpot,
            memory_s=sum(step.memory_s for step in large),
            compute_s=sum(step.compute_s for step in large),
            communication_s=sum(step.communication_s for step in large) + hops,
            bound_by=max(shares, key=lambda name: shares[name]),
        )

    def prefill_s(self, layout: Layout, isl: int) -> float:
        """One prompt: chunks of it run in all stages at once, so the slowest stage's share of it counts, and at least
        one token's step in each of the others, before or after."""
        stages = self._stages(layout.pipeline)
        whole = [self._step(layout, stage, "prefill", 1, 1, isl).seconds for stage in stages]
        slowest = max(range(len(stages)), key=whole.__getitem__)
        rest = (stage for index, stage in enumerate(stages) if index != slowest)
        others = sum(self._step(layout, stage, "decode", 1, 1, 1).seconds for stage in rest)
        return whole[slowest] + others + self._hops(layout, 1)

    def prefill_busy_s(self, layout: Layout, isl: int) -> float:
        """Seconds of every GPU of the slowest stage per prompt on each data rank."""
        stages = self._stages(layout.pipeline)
        return max(self._step(layout, stage, "prefill", 1, layout.data, isl).seconds for stage in stages)

    def _stages(self, pipeline: int) -> tuple[Stage, ...]:
        key = ("stages", pipeline)
        if key not in self._cost:
            self._cost[key] = dealt(self.job.spec, pipeline, self._cost.setdefault("kinds of stages", {}))
        stages: tuple[Stage, ...] = self._cost[key]
        return stages

    def _step(
        self, layout: Layout, stage: Stage, phase: Phase, sequences: int, everyone: int, tokens: int, checked: int = 1
    ) -> Step:
        """`sequences` on this rank's replica and `everyone` on all: `checked` tokens each, or prompts of `tokens`."""
        key = (
            stage.key, phase, sequences, everyone, tokens, checked,
            layout.tensor, layout.data, layout.expert_parallel, layout.decode_context,
        )  # fmt: skip
        if key not in self._cost:
            cost, new = self._priced(layout, stage, phase, tokens), checked if phase == "decode" else tokens
            memory, compute = self._local(cost, sequences, everyone, new, checked)
            sent = self._sent_s(layout, stage, phase, sequences * new, everyone * new)
            self._cost[key] = Step(memory_s=memory, compute_s=compute, communication_s=sent)
        step: Step = self._cost[key]
        return step

    def _local(self, cost: _Cost, sequences: int, everyone: int, new: int, checked: int) -> tuple[float, float]:
        """(memory, compute) seconds; a component counts where it binds.

        A sequence's tokens that are checked together read its cache once.
        """
        rate, rows = self._attention_rate, sequences * checked
        parts = [(sequences * size, rows * flops, rate) for size, flops in cost.attention]
        found = cost.weights.at(everyone, new, logits=checked)
        parts += [(each.read_bytes, each.flops, rate) for each, rate in zip(found, cost.rates, strict=True)]
        memory = compute = 0.0
        for size, flops, rate in parts:
            reading, computing = size / self.limits.bytes_per_s, flops / rate
            if computing > reading:
                compute += computing
            else:
                memory += reading
        return memory, compute

    def _shards(self, layout: Layout) -> Shards:
        """As the engine deals weights and caches out."""
        return Shards(weights=self.job.sharding(layout), decode_context=layout.decode_context)

    @cached_property
    def _attention_rate(self) -> int:
        """FLOP/s of attention: an 8-bit cache may be multiplied as such."""
        small = any(word in self.job.formats.name for word in ("fp8", "fp4", "int8"))
        return self.limits.compute("fp8" if small else "bf16")[1]

    def _priced(self, layout: Layout, stage: Stage, phase: Phase, tokens: int) -> _Cost:
        key = (
            "cost", stage.key, phase, tokens,
            layout.tensor, layout.data, layout.expert_parallel, layout.decode_context,
        )  # fmt: skip
        if key not in self._cost:
            attention = tuple(
                (float(count * size), float(count * flops))
                for names, count in stage.groups
                for size, flops in self._kernels(layout, names, phase, tokens)
            )
            weights = self._weights(layout, stage, phase)
            rates = tuple(self.limits.compute(gemm_type(stored))[1] for _, stored in weights.sums)
            self._cost[key] = _Cost(attention, weights, rates)
        cost: _Cost = self._cost[key]
        return cost

    def _kernels(
        self, layout: Layout, names: tuple[str, ...], phase: Phase, tokens: int
    ) -> tuple[tuple[Fraction, int], ...]:
        """(bytes, FLOPs) of each kernel of one layer, of one sequence on one rank."""
        key = ("kernels", layout.tensor, layout.decode_context, names, phase, tokens)
        if key not in self._cost:
            job, shards = self.job, self._shards(layout)
            group = self._groups[names]
            workload = Workload(batch_size=1, seq_len=tokens, encoder_len=job.encoder_len, formats=job.formats)
            found = []
            for kernel in kernels(group, phase, DECODE if phase == "decode" else PREFILL):
                read = sum(read_bytes(each, phase, tokens, workload, shards) for each in kernel.reads)
                if phase == "decode":
                    wrote = written(kernel.streams, workload, shards)
                else:
                    wrote = Fraction(kept_bytes(kernel.streams, tokens, workload, shards))
                flops = sum(work_flops(each, phase, tokens, workload, shards) for each in kernel.work)
                found.append((read + wrote, flops))
            self._cost[key] = tuple(found)
        counted: tuple[tuple[Fraction, int], ...] = self._cost[key]
        return counted

    def _weights(self, layout: Layout, stage: Stage, phase: Phase) -> StepWeights:
        """Of a stage: the embedding is the first one's, the head the last one's."""
        key = ("weights", stage.key, phase, layout.tensor, layout.data, layout.expert_parallel)
        if key not in self._cost:
            self._cost[key] = dealt_weights(self._working(stage, phase), self.job.scheme, self._shards(layout))
        weights: StepWeights = self._cost[key]
        return weights

    def _working(self, stage: Stage, phase: Phase) -> Working:
        key = ("working", stage.key, phase)
        if key not in self._cost:
            self._cost[key] = working_weights(stage.spec, phase, first=stage.first, last=stage.last)
        working: Working = self._cost[key]
        return working

    def _sent_s(self, layout: Layout, stage: Stage, phase: Phase, new: int, total: int) -> float:
        """Seconds of a stage's collectives, `new` tokens on this data rank and `total` on all."""
        network, tensor, everyone = self.network, layout.tensor, layout.tensor * layout.data
        sends = self._sends(layout, stage)
        seconds = network.all_reduce_s(tensor, new * sends.reduced)
        if phase == "decode":
            ranks, each = layout.decode_context, new * sends.shared
            seconds += network.gather_s(ranks, (ranks - 1) * each, ranks * each)
        # A prompt that runs alone is whole on its own ranks and new to all others.
        lacks = total - new or total
        seconds += network.gather_s(everyone, lacks * sends.gathered, total * sends.gathered)
        for routing, row in sends.routed:
            if layout.expert_parallel:
                seconds += network.exchange_s(everyone, new / tensor * row, routing)
            else:
                seconds += network.gather_s(everyone, lacks * row, total * row)
        return seconds

    def _sends(self, layout: Layout, stage: Stage) -> _Sends:
        key = ("sends", stage.key, layout.tensor, layout.data, layout.decode_context)
        if key not in self._cost:
            row = self.hidden * OPERAND_BYTES
            reduced = gathered = 0.0
            shared = sum(count * self._shared(layout, names) for names, count in stage.groups)
            wide = self.job.sharding(layout).ffn_tensor is not None
            routed: dict[Routing, float] = {}
            for use in stage.uses:
                reduced += len(use.attention) * row
                for name in use.ffn:
                    chosen = self._routed.get(name)
                    if chosen is None and wide:
                        gathered += 2 * row
                    elif chosen is None or layout.data == 1:
                        reduced += row
                    else:
                        routing, size = chosen
                        routed[routing] = routed.get(routing, 0.0) + size
            self._cost[key] = _Sends(reduced, shared, tuple(routed.items()), gathered)
        sends: _Sends = self._cost[key]
        return sends

    def _shared(self, layout: Layout, names: tuple[str, ...]) -> int:
        """Bytes per token and layer of a rank's own queries and outputs of the heads that ranks share.

        A query (or output) element is multiplied (or summed) once per row: half the FLOPs of a row count them.
        """
        elements = sum(
            each.flops // 2 * self._shards(layout).units(each.units, each.split, grows=False)
            for kernel in kernels(self._groups[names], "decode", DECODE)
            for each in kernel.work
            if each.extent.grows
        )
        return elements * OPERAND_BYTES

    @cached_property
    def _routed(self) -> Mapping[str, tuple[Routing, float]]:
        """ffn entry -> how its tokens are routed, and bytes of a token to an expert and back."""
        found: dict[str, tuple[Routing, float]] = {}
        for name, block in (self.job.spec.ffn or {}).items():
            routed = (each for each in block.tensors(self.hidden) if each.component is Component.ROUTED_EXPERTS)
            tensor = next(routed, None)
            if tensor is not None:
                sent = SENT_BYTES.get(gemm_type(self.job.scheme.format(tensor).name), OPERAND_BYTES)
                routing = Routing(experts=tensor.copies, chosen=tensor.active_copies or tensor.copies)
                found[name] = (routing, tensor.shape[1] * (sent + OPERAND_BYTES))
        return found

    def _hops(self, layout: Layout, tokens: int) -> float:
        """Seconds of the activations between stages; tensor-parallel ranks send a slice each."""
        size = tokens * self.hidden * OPERAND_BYTES / layout.tensor
        ranks = layout.tensor * layout.data
        return sum(self.network.hop_s(stage, ranks, size) for stage in range(1, layout.pipeline))
