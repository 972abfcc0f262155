"""The memory of one GPU under a layout, term by term; terms and what is left sum to the total exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Engine, Parallel
from kvcalc.footprint import Workload
from kvcalc.formats import ceil_div
from kvcalc.plan.layouts import Layout, Rules
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.overheads import Split, activation_bytes, split_memory, step_sequences, step_tokens
from kvcalc.problems import KvcalcError
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.weights.ledger import WeightLedger, WeightScheme, weight_bytes, weight_bytes_per_stage

Group = Literal["reserve", "overhead", "weights", "cache"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One line of a GPU's memory."""

    name: str
    group: Group
    bytes: int
    source: str = ""
    given: bool = False
    low_bytes: int | None = None
    """Range seen in published logs, for overheads."""
    high_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One GPU of the fullest pipeline stage."""

    stage: int
    gpu_memory_bytes: int
    terms: tuple[Term, ...]
    free_bytes: int
    """Negative: what is missing."""
    breaks: str | None
    """The term that no longer fits, counted in order; None where all do."""

    def __post_init__(self) -> None:
        if sum(term.bytes for term in self.terms) + self.free_bytes != self.gpu_memory_bytes:
            raise AssertionError(f"the ledger does not add up: {self}")

    @property
    def fits(self) -> bool:
        return self.free_bytes >= 0

    def group_bytes(self, group: Group) -> int:
        """Bytes of all terms of a group."""
        return sum(term.bytes for term in self.terms if term.group == group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an engine holds for a rank's sequences, per pipeline stage."""

    stage_bytes: tuple[int, ...]
    admission: bool
    """Whether the admission of one request counts, as it asks for more than the batch holds."""
    reserve_bytes: int
    reserve_name: str
    allocation: Allocation
    """Of the rank's sequences."""


@dataclass(frozen=True)
class Job:
    """A model in an engine, whatever the GPU: what it holds under any layout, remembered."""

    spec: ModelSpec
    engine: Engine
    scheme: WeightScheme
    formats: FormatChoice = BF16
    options: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own settings, where given."""
    encoder_len: int = 0
    utilization: Fraction | None = None
    overheads: Mapping[str, int] = field(default_factory=dict)
    _weights: dict[Any, tuple[WeightLedger, ...]] = field(default_factory=dict, repr=False)
    _held: dict[Any, Held | str] = field(default_factory=dict, repr=False)
    _splits: dict[Any, Split] = field(default_factory=dict, repr=False)

    @property
    def drafts(self) -> bool:
        """Whether the model's extra prediction layers run."""
        return bool(self.options.get("num_speculative_tokens"))

    @cached_property
    def rules(self) -> Rules:
        """Which layouts the model allows."""
        return Rules(self.spec, self.scheme)

    @cached_property
    def total_weights(self) -> int:
        """Of the whole model, once."""
        return weight_bytes(self.spec, self.scheme, mtp=self.drafts).total

    def settings(self, parallel: Parallel, seq_len: int, tokens: int) -> Any:
        """The engine's settings for ranks, the longest request and the tokens of a step.

        Raises:
            KvcalcError: an option that the engine does not have.
        """
        known = {f.name for f in fields(self.engine.settings)}
        usual = {"max_model_len": seq_len, "max_num_batched_tokens": tokens, "vocab_size": self.spec.vocab_size}
        chosen = {name: value for name, value in usual.items() if name in known} | dict(self.options)
        return self.engine.configure(parallel=parallel, **chosen)

    def weights(self, layout: Layout) -> tuple[WeightLedger, ...]:
        """Of a rank of each stage."""
        key = (layout.tensor, layout.pipeline, layout.data, layout.expert_parallel)
        if key not in self._weights:
            self._weights[key] = weight_bytes_per_stage(self.spec, self.scheme, layout.sharding, mtp=self.drafts)
        return self._weights[key]

    def held(self, layout: Layout, sequences: int, lengths: Lengths, tokens: int) -> Held | str:
        """Cache of `sequences` sequences on a rank of each stage, or why the engine refuses the layout."""
        key = (layout.tensor, layout.pipeline, layout.decode_context, sequences, lengths, tokens)
        if key not in self._held:
            try:
                self._held[key] = self._hold(layout, sequences, lengths, tokens)
            except KvcalcError as error:
                self._held[key] = str(error)
        return self._held[key]

    def _hold(self, layout: Layout, sequences: int, lengths: Lengths, tokens: int) -> Held:
        parallel = Parallel(tensor=layout.tensor, pipeline=layout.pipeline, decode_context=layout.decode_context)
        settings = self.settings(parallel, lengths.longest, tokens)
        if len(lengths.mix) > 1:
            return self._mixed(layout, sequences, lengths, tokens)
        workload = Workload(
            batch_size=sequences, seq_len=lengths.longest, encoder_len=self.encoder_len, formats=self.formats
        )
        found = self.engine.allocate(self.spec, workload, settings)
        admitted = next((figure.units for figure in found.figures if figure.name == "admission"), 0)
        stages = found.per_stage_bytes
        if found.units:
            asked = tuple(admitted * size // found.units for size in stages)
            stages = tuple(max(pair) for pair in zip(stages, asked, strict=True))
        return Held(
            stage_bytes=stages, admission=stages != found.per_stage_bytes,
            reserve_bytes=sum(waste.bytes for waste in found.reserve),
            reserve_name=", ".join(waste.cause for waste in found.reserve), allocation=found,
        )  # fmt: skip

    def _mixed(self, layout: Layout, sequences: int, lengths: Lengths, tokens: int) -> Held:
        """Sequences of several lengths: the mean bytes of one, times their number."""
        longest = self._hold(layout, sequences, Lengths.of(lengths.longest), tokens)
        sums = [0] * len(longest.stage_bytes)
        for length, count in lengths.mix:
            one = self._hold(layout, 1, Lengths.of(length), tokens)
            for stage, size in enumerate(one.allocation.per_stage_bytes):
                sums[stage] += count * size
        whole = sum(count for _, count in lengths.mix)
        stages = tuple(ceil_div(sequences * size, whole) for size in sums)
        return Held(
            stage_bytes=stages, admission=False, reserve_bytes=longest.reserve_bytes,
            reserve_name=longest.reserve_name, allocation=longest.allocation,
        )  # fmt: skip

    def ledger(self, layout: Layout, hardware: HardwareSpec, batch: int, lengths: Lengths) -> Ledger | str:
        """The GPU with the least memory left, or why the engine refuses the layout."""
        tokens = step_tokens(hardware)
        sequences = ceil_div(batch, layout.data)
        held = self.held(layout, sequences, lengths, tokens)
        if isinstance(held, str):
            return held
        weights = self.weights(layout)
        splits = [self._split(layout, hardware, each.total, lengths.longest, tokens) for each in weights]
        total = hardware.memory.plan_bytes
        free = [
            total
            - split.reserve_bytes
            - sum(item.bytes for item in split.overheads)
            - each.total
            - size
            - held.reserve_bytes
            for split, each, size in zip(splits, weights, held.stage_bytes, strict=True)
        ]
        stage = min(range(len(free)), key=free.__getitem__)
        return _written(stage, total, splits[stage], weights[stage], held, free[stage])

    def _split(self, layout: Layout, hardware: HardwareSpec, weights: int, seq_len: int, tokens: int) -> Split:
        total = hardware.memory.plan_bytes
        sharded = (layout.tensor, layout.pipeline, layout.data, layout.expert_parallel)
        key = (total, sharded, weights, tokens)
        if key not in self._splits:
            activation = activation_bytes(self.spec, layout, tokens, step_sequences(hardware))
            settings = self.settings(Parallel(tensor=layout.tensor, pipeline=layout.pipeline), seq_len, tokens)
            self._splits[key] = split_memory(
                self.engine, settings, total=total, weights=weights, utilization=self.utilization,
                given=self.overheads, activation=activation,
            )  # fmt: skip
        return self._splits[key]

    def capacity(self, layout: Layout, ledger: Ledger, hardware: HardwareSpec, seq_len: int) -> Capacity | None:
        """Tokens and blocks that the engine makes of what weights and overheads leave; None where it has no rule."""
        if self.engine.capacity is None:
            return None
        budget = max(0, ledger.free_bytes + ledger.group_bytes("cache"))
        parallel = Parallel(tensor=layout.tensor, pipeline=layout.pipeline, decode_context=layout.decode_context)
        try:
            settings = self.settings(parallel, seq_len, step_tokens(hardware))
            return self.engine.capacity(self.spec, budget, settings, self.formats)
        except KvcalcError:
            return None


def _written(stage: int, total: int, split: Split, weights: WeightLedger, held: Held, free: int) -> Ledger:
    found = held.allocation
    cache = "one request of the full length" if held.admission else "cache of the batch"
    rows = [
        Term(name="reserve", group="reserve", bytes=split.reserve_bytes, source=split.reserve_source),
        *(
            Term(
                name=item.name, group="overhead", bytes=item.bytes, source=item.source, given=item.given,
                low_bytes=item.low_bytes, high_bytes=item.high_bytes,
            )
            for item in split.overheads
        ),
        *(
            Term(name=part.value, group="weights", bytes=size, source="geometry x format")
            for part, size in weights.by_component.items()
        ),
        *([Term(name="prediction layers", group="weights", bytes=weights.mtp)] if weights.mtp else []),
        Term(
            name="cache", group="cache", bytes=held.stage_bytes[stage],
            source=f"{found.engine} {found.version}: {cache}, {found.kv_cache_dtype}",
        ),
        *(
            [Term(name=held.reserve_name, group="cache", bytes=held.reserve_bytes, source="once per pool")]
            if held.reserve_bytes
            else []
        ),
    ]  # fmt: skip
    used, breaks = 0, None
    for term in rows:
        used += term.bytes
        if used > total and breaks is None:
            breaks = {"weights": "weights", "cache": "cache"}.get(term.group, term.name)
    return Ledger(stage=stage, gpu_memory_bytes=total, terms=tuple(rows), free_bytes=free, breaks=breaks)
