"""Layouts: how a number of GPUs can share a model, as engines accept it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import nsmallest
from math import isqrt, prod
from typing import Any

from kvcalc.engines.base import Parallel
from kvcalc.formats import Role, ceil_div
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec, layer_groups
from kvcalc.streams import Sharding
from kvcalc.tensors import Component, Tensor
from kvcalc.weight_traffic import Shards
from kvcalc.weights.inventory import inventory
from kvcalc.weights.ledger import WeightScheme
from kvcalc.weights.sharding import WeightSharding

MAX_RANKS = 2**16
MOST_TENSOR = 1024
"""No model has so many heads that more ranks could share a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """tensor x pipeline x data GPUs.

    `data` ranks each hold whole sequences, attention and dense weights; routed experts are dealt out over all
    tensor x data ranks of a stage: whole ones with `expert_parallel`, slices of each without.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert_parallel: bool = False
    decode_context: int = 1
    """Ranks, among the tensor-parallel ones, that share a sequence's tokens."""

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def label(self) -> str:
        """As in `TP8 x PP2`, `TP1 x DP8 + EP8`, `TP8 + DCP8`."""
        sizes = {"TP": self.tensor, "PP": self.pipeline, "DP": self.data}
        shown = [f"{name}{size}" for name, size in sizes.items() if size > 1 or name == "TP"]
        extra = [f"EP{self.tensor * self.data}"] if self.expert_parallel else []
        extra += [f"DCP{self.decode_context}"] if self.decode_context > 1 else []
        return " + ".join([" x ".join(shown), *extra])

    @property
    def parallel(self) -> Parallel:
        """For an engine."""
        return Parallel(tensor=self.tensor, pipeline=self.pipeline, data=self.data, decode_context=self.decode_context)

    @property
    def of_one_replica(self) -> Parallel:
        """For the cache of one data rank, which holds whole sequences of its own."""
        return Parallel(tensor=self.tensor, pipeline=self.pipeline, decode_context=self.decode_context)

    @property
    def sharding(self) -> WeightSharding:
        """Of the weights."""
        return WeightSharding(
            tensor=self.tensor, pipeline=self.pipeline, data=self.data, expert_parallel=self.expert_parallel
        )

    @property
    def shards(self) -> Shards:
        """Of a step's reads and FLOPs."""
        return Shards(weights=self.sharding, decode_context=self.decode_context)

    @property
    def simplicity(self) -> tuple[int, int, int, int, int]:
        """Orders layouts that are equally good: fewer kinds of parallelism first."""
        kinds = sum(size > 1 for size in (self.tensor, self.pipeline, self.data, self.decode_context))
        return (kinds + self.expert_parallel, self.pipeline, self.data, self.decode_context, self.tensor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the user has fixed of a layout; None: free."""

    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    expert_parallel: bool | None = None
    decode_context: int | None = None
    tensor_across_nodes: bool = False
    """Whether tensor parallelism may leave the node."""

    def allow(self, layout: Layout, node: int) -> bool:
        pinned = (
            (self.tensor, layout.tensor), (self.pipeline, layout.pipeline), (self.data, layout.data),
            (self.expert_parallel, layout.expert_parallel), (self.decode_context, layout.decode_context),
        )  # fmt: skip
        if any(wanted is not None and wanted != has for wanted, has in pinned):
            return False
        return layout.tensor <= node or self.tensor_across_nodes or self.tensor is not None

    def refusal(self, rules: Rules, gpus: int, node: int) -> str | None:
        """Why no layout of `gpus` GPUs is one that was asked for, where sizes alone say it."""
        sizes = {"TP": self.tensor, "PP": self.pipeline, "DP": self.data}
        fixed = prod(size for size in sizes.values() if size)
        if gpus % fixed or (gpus != fixed and all(sizes.values())):
            label = " x ".join(f"{name}{size}" for name, size in sizes.items() if size)
            more = "" if all(sizes.values()) else ", or a multiple"
            return f"{label} takes {fixed:,} GPUs{more}, not {gpus:,}"
        if self.decode_context and self.tensor is None and not self.tensor_across_nodes:
            least = rules.least_tensor(self.decode_context)
            if least is not None and least > node:
                return f"DCP{self.decode_context} takes TP{least} at least, but a node has {node} GPUs: pin that TP"
        return None


FREE = Pins()


@dataclass(frozen=True)
class Rules:
    """Which layouts a model allows. Asked of its tensors and streams, never of a kind's name."""

    spec: ModelSpec
    scheme: WeightScheme
    even_experts: bool = False
    """Whether the engine deals as many experts to every rank."""
    _cuts: dict[tuple[bool, int], str | None] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def layers(self) -> int:
        return len(inventory(self.spec).layers)

    @cached_property
    def context_heads(self) -> int:
        """Most KV heads of a stream that context parallel ranks could share the tokens of."""
        heads = [
            stream.heads if stream.sharding is Sharding.HEADS else 1
            for group in layer_groups(self.spec)
            for kind in group.attention
            for stream in kind.streams()
            if stream.extent.grows and stream.role is not Role.BUFFER
        ]
        return max(heads, default=0)

    @cached_property
    def experts(self) -> int:
        """Routed experts of the layer with the fewest; 0 for a dense model."""
        return min((t.copies for t in self._tensors if t.component is Component.ROUTED_EXPERTS), default=0)

    @cached_property
    def _tensors(self) -> tuple[Tensor, ...]:
        held = inventory(self.spec)
        return tuple(dict.fromkeys(tensor for tensor, _ in held.tensors()))

    def refusal(self, layout: Layout) -> str | None:
        """Why engines would refuse it; None where they take it."""
        if layout.pipeline > self.layers:
            return f"{self.layers} layers cannot fill {layout.pipeline} pipeline stages"
        if layout.expert_parallel:
            if not self.experts:
                return "a model without routed experts has nothing to deal out by expert parallelism"
            ranks = layout.tensor * layout.data
            if ranks > self.experts:
                return f"{self.experts} experts cannot be dealt out over {ranks} ranks"
            if self.even_experts and self.experts % ranks:
                return f"{self.experts} experts cannot be dealt out evenly over {ranks} ranks"
        if layout.decode_context > 1:
            reason = self._context(layout)
            if reason:
                return reason
        return self._cut(False, layout.tensor) or (
            None if layout.expert_parallel else self._cut(True, layout.tensor * layout.data)
        )

    def refusal_of_both(self, layout: Layout) -> str | None:
        """Why engines would refuse it with slices of experts and with whole ones; None where they take either."""
        reason = self.refusal(replace(layout, expert_parallel=False))
        whole = None if reason is None else self.refusal(replace(layout, expert_parallel=True))
        return None if whole is None else reason

    def least_tensor(self, share: int) -> int | None:
        """The smallest TP whose ranks can share tokens among `share`; None where no TP allows it."""
        every = range(share, max(MOST_TENSOR, share) + 1, share)
        return next((n for n in every if self.refusal_of_both(Layout(tensor=n, decode_context=share)) is None), None)

    def _context(self, layout: Layout) -> str | None:
        share, tensor, heads = layout.decode_context, layout.tensor, self.context_heads
        if tensor % share:
            return f"DCP {share} does not divide TP {tensor}"
        if not heads:
            return "no cache grows with the tokens, so DCP shares nothing"
        most = 1 if tensor % heads else tensor // heads
        return f"{heads} KV heads over TP {tensor} leave at most DCP {most}, not {share}" if share > most else None

    def _cut(self, experts: bool, ranks: int) -> str | None:
        """Why `ranks` cannot share the routed experts' tensors, or all others."""
        key = (experts, ranks)
        if key not in self._cuts:
            chosen = (t for t in self._tensors if (t.component is Component.ROUTED_EXPERTS) == experts)
            reasons = (self._tensor(tensor, ranks) for tensor in chosen)
            self._cuts[key] = next((reason for reason in reasons if reason), None)
        return self._cuts[key]

    def _tensor(self, tensor: Tensor, ranks: int) -> str | None:
        """A unit (a head, a channel) is never cut; some may be held twice.

        A vocabulary is padded to a multiple of 64 and then divides (vLLM 0.33.0 vocab_parallel_embedding.py: divide).
        A block of a quantised matrix is not cut either (vLLM 0.33.0 quantization/fp8.py: "not divisible by weight
        quantization block").
        """
        split = tensor.split
        if split is None:
            return None
        if split.pad_to != 1:
            padded = ceil_div(split.units, split.pad_to) * split.pad_to
            over = f"{ranks} ranks cannot share the {split.units:,} rows of {tensor.name}, padded to {padded:,}"
            return over if padded % ranks else None
        if split.units % ranks:
            doubled = split.replicates and ranks % split.units == 0
            return None if doubled else f"{ranks} ranks cannot share the {split.units:,} units of {tensor.name}"
        stored = self.scheme.format(tensor)
        if len(tensor.shape) == 2 and stored.columns:
            block = stored.rows if split.axis == 0 else stored.columns
            width = tensor.shape[split.axis]
            if width % block == 0 and width // ranks % block:
                return (
                    f"{width // ranks:,} of {width:,} {('rows', 'columns')[split.axis]} of {tensor.name} on each of"
                    f" {ranks} ranks are no whole blocks of {block} ({stored.name})"
                )
        return None


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, smallest first."""
    small = [n for n in range(1, isqrt(number) + 1) if number % n == 0]
    return (*small, *(number // n for n in reversed(small) if n * n != number))


def candidates(gpus: int, *, node: int, batch: int, moe: bool, pins: Pins = FREE) -> Iterator[Layout]:
    """Every layout of `gpus` GPUs that the pins allow, valid for a model or not."""
    for tensor in divisors(gpus):
        if tensor > node and not pins.tensor_across_nodes and pins.tensor != tensor:
            continue
        for pipeline in divisors(gpus // tensor):
            data = gpus // tensor // pipeline
            if data > batch:
                continue
            for expert_parallel in (False, True) if moe and tensor * data > 1 else (False,):
                for share in divisors(tensor):
                    layout = Layout(
                        tensor=tensor, pipeline=pipeline, data=data, expert_parallel=expert_parallel,
                        decode_context=share,
                    )  # fmt: skip
                    if pins.allow(layout, node):
                        yield layout


def valid_layouts(gpus: int, rules: Rules, *, node: int, batch: int, pins: Pins = FREE) -> tuple[Layout, ...]:
    """The layouts of `gpus` GPUs that engines take."""
    found = candidates(gpus, node=node, batch=batch, moe=bool(rules.experts), pins=pins)
    return tuple(layout for layout in found if rules.refusal(layout) is None)


def check_pins(rules: Rules, pins: Pins) -> None:
    """Refuse what no number of GPUs could make valid, with the nearest that works.

    Raises:
        KvcalcError: a pinned TP, PP, EP or DCP that the model does not allow.
    """
    for size in (pins.tensor, pins.pipeline, pins.data, pins.decode_context):
        if size is not None and not 1 <= size <= MAX_RANKS:
            raise usage_error(f"a parallel size is 1 to {MAX_RANKS:,}, not {size}")
    share = pins.decode_context or 1
    free = {"pipeline": pins.pipeline, "data": pins.data, "expert_parallel": pins.expert_parallel}
    given: dict[str, Any] = {name: value for name, value in free.items() if value is not None}
    pinned = Layout(tensor=pins.tensor or rules.least_tensor(share) or share, decode_context=share, **given)
    reason = (rules.refusal_of_both if pins.expert_parallel is None else rules.refusal)(pinned)
    if reason is not None:
        raise usage_error(f"{rules.spec.name} on {pinned.label}: {reason}", help=_nearest(rules, pinned))


def _nearest(rules: Rules, pinned: Layout) -> str:
    """What to change of a layout that the model does not allow."""
    if rules.refusal(replace(pinned, expert_parallel=False)) is None:
        return "leave out --enable-expert-parallel"
    if pinned.pipeline > rules.layers:
        return f"-pp is {rules.layers} at most"
    if rules.refusal(replace(pinned, decode_context=1)) is None:
        least = rules.least_tensor(pinned.decode_context)
        return "leave out -dcp" if least is None else f"leave out -dcp, or give -tp {least}"
    if rules.refusal(replace(pinned, data=1)) is None:
        return f"nearest -dp that works: {_near(pinned.data, lambda n: rules.refusal(replace(pinned, data=n)))}"
    return f"nearest -tp that works: {_near(pinned.tensor, lambda n: rules.refusal(Layout(tensor=n)))}"


def _near(size: int, refusal: Callable[[int], str | None]) -> str:
    """The three sizes next to one that is refused which are not, smallest first."""
    works = (n for n in range(1, MOST_TENSOR + 1) if refusal(n) is None)
    return ", ".join(map(str, sorted(nsmallest(3, works, key=lambda n: (abs(n - size), n)))))
