"""Bytes of weights by component, of the whole model and of one rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component, Tensor
from kvcalc.weights.formats import WeightFormat, weight_format
from kvcalc.weights.inventory import Inventory, counted, inventory
from kvcalc.weights.sharding import WeightSharding

QUANTIZED = "default"
"""The key of a scheme that names the format of matrices without an entry of their own."""
REST = "rest"
"""The key that names the format of everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightScheme:
    """Which format each weight is stored in.

    An entry for a component counts for its matrices that quantisation applies to (and for the embedding and the
    head); all else is in `rest`: norms, biases, routers, convolutions.
    """

    default: WeightFormat
    rest: WeightFormat
    by_component: Mapping[Component, WeightFormat]

    def format(self, tensor: Tensor) -> WeightFormat:
        """Which format this weight is in."""
        if tensor.quantizable:
            return self.by_component.get(tensor.component, self.default)
        if tensor.component in (Component.EMBEDDING, Component.HEAD):
            return self.by_component.get(tensor.component, self.rest)
        return self.rest

    def bytes(self, tensor: Tensor) -> int:
        """Of all its copies."""
        return self.format(tensor).bytes(tensor.shape) * tensor.copies

    @property
    def summary(self) -> str:
        """As in `fp8_block128 (embedding, head bf16)`."""
        groups: dict[str, list[str]] = {}
        for part, chosen in self.by_component.items():
            groups.setdefault(chosen.name, []).append(part.value)
        parts = [f"{', '.join(names)} {name}" for name, names in groups.items()]
        parts += [f"rest {self.rest.name}"] if self.rest != self.default else []
        return self.default.name + (f" ({'; '.join(parts)})" if parts else "")


def weight_scheme(spec: ModelSpec, override: str | None = None) -> WeightScheme:
    """How the weights are stored: by the spec's `weight_dtypes` and `dtype`, or by an override.

    Args:
        override: a weight format for all matrices (`fp8_block128`), or entries as in
            `default=nvfp4,attention=fp8,head=bf16,rest=bf16`; components as in a ledger's rows.

    Raises:
        KvcalcError: an unknown format or component.
    """
    entries = dict(spec.weight_dtypes or {}) if override is None else _parsed(override)
    unknown = [key for key in entries if key not in (QUANTIZED, REST) and key not in set(Component)]
    if unknown:
        known = [QUANTIZED, REST, *(part.value for part in Component)]
        hint = did_you_mean(unknown[0], known) or f"one of {', '.join(known)}"
        raise usage_error(f"{unknown[0]!r} is no component of weights", help=hint)
    base = entries.get(REST) or _base(spec, entries.get(QUANTIZED))
    return WeightScheme(
        default=weight_format(entries.get(QUANTIZED, base)),
        rest=weight_format(base),
        by_component={Component(key): weight_format(name) for key, name in entries.items() if key in set(Component)},
    )


def _base(spec: ModelSpec, default: str | None) -> str:
    """The 16- or 32-bit format of what is not quantised."""
    for name in (default, spec.dtype):
        if name and weight_format(name).name in ("bf16", "fp16", "fp32"):
            return name
    return "bf16"


def _parsed(text: str) -> dict[str, str]:
    if "=" not in text:
        return {QUANTIZED: text}
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and value.strip() for key, _, value in pairs):
        raise usage_error(f"{text!r} is no list of component=format", help="as in default=fp8_block128,head=bf16")
    return {key.strip(): value.strip() for key, _, value in pairs}


Held = tuple[tuple[tuple[Tensor, ...], int], ...]
"""The layers of a stage: (one of them, how many there are of it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLedger:
    """Bytes of one rank (or of the whole model), by component; they sum to the total exactly."""

    by_component: Mapping[Component, int]
    mtp: int
    """Extra prediction layers, 0 where they are not loaded."""

    @property
    def total(self) -> int:
        return sum(self.by_component.values()) + self.mtp


def weight_bytes(spec: ModelSpec, scheme: WeightScheme, *, mtp: bool = False) -> WeightLedger:
    """Bytes of the whole model, once."""
    weights = inventory(spec)
    return _ledger(scheme, weights.tensors(), weights.mtp if mtp else ())


def weight_bytes_per_stage(
    spec: ModelSpec, scheme: WeightScheme, sharding: WeightSharding, *, mtp: bool = False
) -> tuple[WeightLedger, ...]:
    """Bytes that the fullest rank of each pipeline stage holds.

    The first stage holds the embedding (and an encoder, and extra modules), the last the final norm, the head and
    the prediction layers; a tied head is the embedding again where the last stage is not the first.

    Raises:
        KvcalcError: the spec says too little, or the stages do not fit the layers.
    """
    weights = inventory(spec)
    stages = _stages(weights, sharding)

    def ledger(held: Held, is_first: bool, is_last: bool) -> WeightLedger:
        ends = [*(weights.first if is_first else ())]
        if is_last:
            ends += weights.last
            ends += [weights.tied_head] if weights.tied_head and not is_first else []
        local = [(sharding.local(tensor), number) for layer, number in held for tensor in layer]
        local += [(sharding.local(tensor), 1) for tensor in ends]
        extra = weights.mtp if mtp and is_last else ()
        return _ledger(scheme, local, [sharding.local(tensor) for tensor in extra])

    # Most stages of a deep pipeline are alike: counted once, and held once by who remembers many layouts.
    alike: dict[object, WeightLedger] = {}
    found = []
    for stage, held in enumerate(stages):
        ends = (stage == 0, stage == len(stages) - 1)
        key = (ends, *((id(layer), number) for layer, number in held))
        if key not in alike:
            alike[key] = ledger(held, *ends)
        found.append(alike[key])
    return tuple(found)


LATENT_UP = "kv_b_proj.weight"
"""The projection of a latent to the heads' K and V, which decoding multiplies into queries and outputs instead."""


def absorbed_bytes(spec: ModelSpec, scheme: WeightScheme, sharding: WeightSharding) -> tuple[int, ...]:
    """16-bit copies of quantised up-projections of latents, on a rank of each pipeline stage.

    Engines keep them beside the checkpoint's own (vLLM 0.33.0 layers/attention/mla_attention.py
    process_weights_after_loading: W_UK and W_UV).
    """
    return tuple(
        sum(
            2 * sharding.local(tensor).size * number
            for layer, number in held
            for tensor in layer
            if tensor.name == LATENT_UP and scheme.format(tensor).element_bits != 16
        )
        for held in _stages(inventory(spec), sharding)
    )


def _stages(weights: Inventory, sharding: WeightSharding) -> list[Held]:
    """The layers of each pipeline stage."""
    ends = list(accumulate(sharding.layers_of_stages(len(weights.layers)), initial=0))
    return [counted(weights.layers[start:end]) for start, end in pairwise(ends)]


def _ledger(scheme: WeightScheme, tensors: Iterable[tuple[Tensor, int]], mtp: Iterable[Tensor]) -> WeightLedger:
    sums = dict.fromkeys(Component, 0)
    for tensor, count in tensors:
        sums[tensor.component] += scheme.bytes(tensor) * count
    return WeightLedger(
        by_component={part: size for part, size in sums.items() if size},
        mtp=sum(scheme.bytes(tensor) for tensor in mtp),
    )
