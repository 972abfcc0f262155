"""The memory of one GPU under a layout, term by term; terms and what is left sum to the total exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, Literal

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Engine, Parallel
from kvcalc.engines.budgets import outside_bytes
from kvcalc.engines.checks import StageBudgets
from kvcalc.footprint import Workload
from kvcalc.formats import Role, ceil_div
from kvcalc.plan.layouts import Layout, Rules
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.overheads import ABSORBED, ACTIVATION, OUTSIDE, Split, split_memory
from kvcalc.problems import KvcalcError
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec, layer_groups
from kvcalc.weights.activation import Trial, activation_bytes
from kvcalc.weights.ledger import (
    WeightLedger,
    WeightScheme,
    absorbed_bytes,
    weight_bytes,
    weight_bytes_per_stage,
)
from kvcalc.weights.sharding import WeightSharding

Group = Literal["reserve", "overhead", "weights", "cache"]
Defaults = tuple[tuple[str, int], ...]
"""Settings that an engine chooses by the GPU."""


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
    _shardings: dict[Layout, WeightSharding] = field(default_factory=dict, repr=False)
    _weights: dict[Any, tuple[WeightLedger, ...]] = field(default_factory=dict, repr=False)
    _allocations: dict[Any, Allocation | str] = field(default_factory=dict, repr=False)
    _splits: dict[Any, tuple[Split, ...]] = field(default_factory=dict, repr=False)

    @property
    def drafts(self) -> bool:
        """Whether the model's extra prediction layers run."""
        return bool(self.options.get("num_speculative_tokens"))

    @cached_property
    def rules(self) -> Rules:
        """Which layouts the model allows."""
        return Rules(self.spec, self.scheme, self.engine.even_experts)

    @cached_property
    def total_weights(self) -> int:
        """Of the whole model, once."""
        return weight_bytes(self.spec, self.scheme, mtp=self.drafts).total

    @cached_property
    def latent(self) -> bool:
        """Whether attention keeps a latent, which tensor-parallel ranks replicate."""
        return any(stream.role is Role.LATENT for group in layer_groups(self.spec) for kind in group.attention
                   for stream in kind.streams())  # fmt: skip

    def gpu_defaults(self, hardware: HardwareSpec) -> Defaults:
        """Settings that the engine chooses by the GPU."""
        if self.engine.gpu_defaults is None:
            return ()
        return tuple(self.engine.gpu_defaults(self.engine.version, hardware.memory.plan_bytes, hardware.name).items())

    def settings(self, parallel: Parallel, seq_len: int, defaults: Defaults) -> Any:
        """The engine's settings for ranks, the longest request and a GPU.

        Raises:
            KvcalcError: an option that the engine does not have.
        """
        known = {f.name for f in fields(self.engine.settings)}
        usual = {"max_model_len": seq_len, "vocab_size": self.spec.vocab_size, "mla": self.latent, **dict(defaults)}
        chosen = {name: value for name, value in usual.items() if name in known} | dict(self.options)
        return self.engine.configure(parallel=parallel, **chosen)

    def sharding(self, layout: Layout) -> WeightSharding:
        """Of the weights, as the engine deals them out."""
        if layout not in self._shardings:
            over_data = self.engine.dense_over_data and self.rules.experts and layout.data > 1
            wide = layout.tensor * layout.data if over_data else None
            self._shardings[layout] = replace(layout.sharding, ffn_tensor=wide)
        return self._shardings[layout]

    def weights(self, layout: Layout) -> tuple[WeightLedger, ...]:
        """Of the fullest rank of each stage."""
        key = self.sharding(layout)
        if key not in self._weights:
            self._weights[key] = weight_bytes_per_stage(self.spec, self.scheme, key, mtp=self.drafts)
        return self._weights[key]

    def held(self, layout: Layout, sequences: int, lengths: Lengths, defaults: Defaults) -> Held | str:
        """Cache of `sequences` sequences on a rank of each stage, or why the engine refuses the layout."""
        longest = self._allocated(layout, sequences, lengths.longest, defaults)
        if isinstance(longest, str):
            return longest
        stages, admission = self._admitted(longest, sequences)
        if len(lengths.mix) > 1:
            stages, admission = self._mixed(layout, sequences, lengths, defaults), False
        return Held(
            stage_bytes=stages, admission=admission, reserve_bytes=sum(waste.bytes for waste in longest.reserve),
            reserve_name=", ".join(waste.cause for waste in longest.reserve), allocation=longest,
        )  # fmt: skip

    def _allocated(self, layout: Layout, sequences: int, tokens: int, defaults: Defaults) -> Allocation | str:
        """What the engine allocates for sequences of `tokens` tokens (of one, where a batch scales), or its refusal."""
        batch = 1 if self.engine.batch_scales else sequences
        key = (layout.tensor, layout.pipeline, layout.decode_context, batch, tokens, defaults)
        if key not in self._allocations:
            workload = Workload(batch_size=batch, seq_len=tokens, encoder_len=self.encoder_len, formats=self.formats)
            try:
                settings = self.settings(layout.of_one_replica, tokens, defaults)
                self._allocations[key] = self.engine.allocate(self.spec, workload, settings)
            except KvcalcError as error:
                self._allocations[key] = str(error)
        return self._allocations[key]

    def _admitted(self, found: Allocation, sequences: int) -> tuple[tuple[int, ...], bool]:
        """(bytes of each stage, whether one request on admission asks for more than the batch holds)."""
        times = sequences // found.batch_size
        held = tuple(times * size for size in found.per_stage_bytes)
        admitted = sum(figure.units for figure in found.figures if figure.name == "admission")
        if not found.units or admitted <= times * found.units:
            return held, False
        return tuple(admitted * size // found.units for size in found.per_stage_bytes), True

    def _mixed(self, layout: Layout, sequences: int, lengths: Lengths, defaults: Defaults) -> tuple[int, ...]:
        """Sequences of several lengths: the mean bytes of one, times their number."""
        sums = [0] * layout.pipeline
        for length, count in lengths.mix:
            one = self._allocated(layout, 1, length, defaults)
            assert isinstance(one, Allocation), "an engine that takes the longest takes what is shorter"
            for stage, size in enumerate(one.per_stage_bytes):
                sums[stage] += count * size
        return tuple(ceil_div(sequences * size, lengths.count) for size in sums)

    def ledger(self, layout: Layout, hardware: HardwareSpec, batch: int, lengths: Lengths) -> Ledger | str:
        """The GPU with the least memory left, or why the engine refuses the layout."""
        held = self.held(layout, ceil_div(batch, layout.data), lengths, self.gpu_defaults(hardware))
        if isinstance(held, str):
            return held
        total, weights = hardware.memory.plan_bytes, self.weights(layout)
        splits = self.splits(layout, hardware, lengths.longest)
        used = [
            split.taken_bytes + stage.total + size
            for split, stage, size in zip(splits, weights, held.stage_bytes, strict=True)
        ]
        fullest = max(range(len(used)), key=used.__getitem__)
        return _written(fullest, total, splits[fullest], weights[fullest], held)

    def splits(self, layout: Layout, hardware: HardwareSpec, seq_len: int) -> tuple[Split, ...]:
        """What the engine keeps back and spends beside weights and cache, on a rank of each stage."""
        total, defaults = hardware.memory.plan_bytes, self.gpu_defaults(hardware)
        linked = hardware.scale_up is not None
        key = (total, self.sharding(layout), defaults, linked)
        if key not in self._splits:
            settings = self.settings(layout.parallel, seq_len, defaults)

            @cache  # most stages of a deep pipeline are alike
            def split(weights: int, estimates: tuple[tuple[str, int], ...]) -> Split:
                return split_memory(
                    self.engine, settings, total=total, weights=weights, utilization=self.utilization,
                    given=self.overheads, estimates=dict(estimates),
                )  # fmt: skip

            estimated = self._estimates(layout, settings, linked)
            self._splits[key] = tuple(
                split(weights.total, tuple(estimates.items()))
                for weights, estimates in zip(self.weights(layout), estimated, strict=True)
            )
        return self._splits[key]

    def _estimates(self, layout: Layout, settings: Any, linked: bool) -> list[dict[str, int]]:
        """Overheads as the model and the GPU make them, on a rank of each stage."""
        sharding = self.sharding(layout)
        outside = dict.fromkeys(OUTSIDE, outside_bytes(layout.gpus, linked=linked))
        found = [{**outside, ABSORBED: size} for size in absorbed_bytes(self.spec, self.scheme, sharding)]
        trial: Trial | None = getattr(settings, "trial", None)
        if trial is not None:
            between = activation_bytes(self.spec, sharding, trial, samples=False)
            last = activation_bytes(self.spec, sharding, trial)
            for stage, estimates in enumerate(found, 1):
                estimates[ACTIVATION] = last if stage == layout.pipeline else between
        return found

    def cache_budgets(self, layout: Layout, hardware: HardwareSpec, seq_len: int) -> tuple[int, ...]:
        """Bytes that weights and overheads leave to the cache, on the fullest rank of each stage."""
        total = hardware.memory.plan_bytes
        return tuple(
            max(0, total - split.taken_bytes - weights.total)
            for split, weights in zip(self.splits(layout, hardware, seq_len), self.weights(layout), strict=True)
        )

    def capacity(
        self, layout: Layout, hardware: HardwareSpec, seq_len: int, budget: StageBudgets | None = None
    ) -> Capacity | None:
        """Tokens and blocks that one replica of the engine makes of its memory (or of the bytes given as `budget`).

        None where the engine has no rule for it, or refuses the layout.
        """
        if self.engine.capacity is None:
            return None
        try:
            settings = self.settings(layout.of_one_replica, seq_len, self.gpu_defaults(hardware))
            bytes_left = self.cache_budgets(layout, hardware, seq_len) if budget is None else budget
            return self.engine.capacity(self.spec, bytes_left, settings, self.formats)
        except KvcalcError:
            return None


def _written(stage: int, total: int, split: Split, weights: WeightLedger, held: Held) -> Ledger:
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
    return Ledger(stage=stage, gpu_memory_bytes=total, terms=tuple(rows), free_bytes=total - used, breaks=breaks)
