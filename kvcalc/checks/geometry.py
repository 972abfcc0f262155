"""KV1xx: geometry that contradicts itself or its family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import HardwareFile, ModelFile
from kvcalc.formats import Role
from kvcalc.problems import Severity
from kvcalc.spec.model import write_out
from kvcalc.streams import Stream
from kvcalc.units import format_rate

THEORY_TOLERANCE = 10
"""Percent by which a published bandwidth may differ from units x bytes per clock x clock."""


def _fields_worth(file: ModelFile, name: str, value: int) -> str:
    """The key of an attention entry that holds `value`; `kind` where none does."""
    entry: Mapping[str, Any] = file.document.data["attention"][name]
    return next((key for key, held in entry.items() if held == value and key != "kind"), "kind")


def _streams(file: ModelFile) -> Iterator[tuple[str, Any, Stream]]:
    for name, kind in file.spec.attention.items():
        for stream in kind.streams():
            if stream.role is not Role.BUFFER:
                yield name, kind, stream


_OF_WEIGHTS = ("hidden_size", "vocab_size", "ffn", "extra_weights", "weight_dtypes")


def half_weights(file: ModelFile) -> Iterator[Hit]:
    """Weights of which too little is said."""
    from kvcalc.weights.inventory import unsaid

    said = next((key for key in _OF_WEIGHTS if file.document.data.get(key)), None)
    missing = unsaid(file.spec) if said else ()
    if said and missing:
        message = f"the weights cannot be counted: {said} is given, but not {' and '.join(missing)}"
        yield Hit(loc=(said,), key=True, message=message, help=f"add {', '.join(missing)}; or leave all of them out")


def wide_windows(file: ModelFile) -> Iterator[Hit]:
    """A window that never closes is none."""
    context = file.spec.max_position_embeddings
    if context is None:
        return
    seen: set[str] = set()
    for name, _, stream in _streams(file):
        size = stream.extent.saturation
        if not stream.extent.grows and size >= context and name not in seen:
            seen.add(name)
            key = _fields_worth(file, name, size)
            message = f"{key} {size:,} holds the whole context of {context:,} tokens: no token ever leaves the cache"
            yield Hit(loc=("attention", name, key), message=message, help="use `kind: full`, or correct one of the two")


def odd_widths(file: ModelFile) -> Iterator[Hit]:
    """Rotary embeddings turn pairs of elements."""
    seen: set[tuple[str, str]] = set()
    for name, kind, stream in _streams(file):
        rope = getattr(kind, "qk_rope_head_dim", None)
        width = stream.width if stream.role is Role.KEY else rope
        if width and width % 2:
            key = _fields_worth(file, name, width)
            if (name, key) not in seen:
                seen.add((name, key))
                message = f"{key} {width:,} is odd: position embeddings turn pairs of elements"
                yield Hit(loc=("attention", name, key), message=message, help="compare it with the model's config.json")


def foreign_kinds(file: ModelFile) -> Iterator[Hit]:
    """Kinds that no shipped spec of this family uses."""
    family = file.spec.model_type
    known = file.world.families.get(family or "")
    if known is None:
        return
    for name in file.spec.attention:
        kind = file.document.data["attention"][name]["kind"]
        if kind not in known:
            message = f"no shipped {family} model has {kind!r} attention"
            hint = f"shipped specs of {family} use: {', '.join(sorted(known))}"
            yield Hit(loc=("attention", name, "kind"), message=message, help=hint)


def wide_latents(file: ModelFile) -> Iterator[Hit]:
    """A latent that is no smaller than what it stands for."""
    for name, kind, stream in _streams(file):
        if stream.role is not Role.LATENT or not hasattr(kind, "kv_lora_rank"):
            continue
        expanded = kind.num_attention_heads * (kind.qk_nope_head_dim + kind.qk_rope_head_dim + kind.v_head_dim)
        if stream.width >= expanded:
            message = f"a latent of {stream.width:,} elements stands for {expanded:,}: MLA that saves nothing"
            yield Hit(
                loc=("attention", name, "kv_lora_rank"),
                message=message,
                help="kv_lora_rank + qk_rope_head_dim is cached in place of heads x (nope + rope + v)",
            )


def lengthless_encoders(file: ModelFile) -> Iterator[Hit]:
    """Cross-attention to an encoder of which nothing is said."""
    spec = file.spec
    if file.layout.has_encoder and spec.max_source_positions is None and not spec.encoder_layers:
        hint = "add `encoder_layers`, and `max_source_positions` where the encoder's length is fixed"
        yield Hit(loc=("attention",), key=True, message="cross-attention, but nothing is said of an encoder", help=hint)


def unused_ffns(file: ModelFile) -> Iterator[Hit]:
    """A feed-forward block of no layer."""
    spec = file.spec
    entries = (*spec.layers, *spec.encoder_layers, *spec.mtp_layers)
    used = {name for use in write_out(entries) for name in use.ffn}
    for name in spec.ffn or {}:
        if name not in used:
            hint = "remove it, or name it under `layers`"
            yield Hit(loc=("ffn", name), key=True, message=f"{name!r} is used by no layer", help=hint)


def idle_indexers(file: ModelFile) -> Iterator[Hit]:
    """An indexer that chooses everything."""
    context = file.spec.max_position_embeddings
    for name, kind in file.spec.attention.items():
        top = getattr(kind, "index_topk", None)
        if context and top and top >= context:
            message = f"index_topk {top:,} chooses all of {context:,} tokens: the indexer has nothing to do"
            yield Hit(loc=("attention", name, "index_topk"), message=message)


def short_position_tables(file: ModelFile) -> Iterator[Hit]:
    """A learned position table that ends before the context does."""
    rows, context = file.spec.position_embeddings, file.spec.max_position_embeddings
    if rows and context and rows < context:
        message = f"a table of {rows:,} positions cannot serve a context of {context:,}"
        yield Hit(loc=("position_embeddings",), message=message)


def bandwidth_against_theory(file: HardwareFile) -> Iterator[Hit]:
    """A published bandwidth far from units x bytes per clock x clock."""
    for name, tier in file.spec.tiers().items():
        theory = tier.theoretical_bytes_per_s
        if tier.bandwidth is None or theory is None:
            continue
        published = tier.bandwidth.exact
        if abs(published - theory) * 100 > THEORY_TOLERANCE * theory:
            message = (
                f"published {tier.bandwidth.value}, but {tier.theory} = {format_rate(theory, 'B/s')}: "
                f"more than {THEORY_TOLERANCE} % apart"
            )
            hint = "a clock counts transfers once: DDR moves two per clock"
            yield Hit(loc=(name, "bandwidth", "value"), message=message, help=hint)


def falling_peaks(file: HardwareFile) -> Iterator[Hit]:
    """A narrower type that is slower than a wider one."""
    peaks = file.spec.peak
    for narrow, wide in (("fp16", "tf32"), ("bf16", "tf32"), ("fp8", "bf16"), ("fp4", "fp8")):
        slow, fast = file.spec.peak_ops_per_s(narrow), file.spec.peak_ops_per_s(wide)
        if slow is not None and fast is not None and slow < fast:
            message = f"{narrow} ({_value(peaks, narrow)}) is slower than {wide} ({_value(peaks, wide)})"
            hint = "compare dense with dense: sparse peaks are twice as high"
            yield Hit(loc=("peak", narrow, "value"), message=message, help=hint)


def _value(peaks: Mapping[Any, Any], dtype: str) -> str:
    return str(peaks[dtype].value)


LOADER_RULES: tuple[Rule[Any], ...] = (
    Rule(
        code="KV101",
        name="contradiction",
        summary="figures that cannot stand together, or names that lead nowhere",
        why="Query heads that KV heads do not divide, a layer that names no entry, a layer that reads a cache"
        " nobody keeps, a driver that reports more memory than the vendor prints: every command refuses "
        "such a file, because any figure from it would be wrong.",
    ),
)

MODEL_RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV102",
        name="weights-unknown",
        summary="the spec says something of its weights, but too little to count them",
        why="A spec may describe the cache alone. Parameter counts and plans need `hidden_size`, `vocab_size` and the "
        "layers' `ffn`: all of them, or none.",
        severity=Severity.WARNING,
        check=half_weights,
    ),
    Rule(
        code="KV103",
        name="window-without-effect",
        summary="a window (or chunk) that holds the whole context",
        why="Some configs carry a `sliding_window` that is switched off or as long as the context. The bytes "
        "are then those of full attention, and a reader who sees `sliding` expects a cache that stops "
        "growing.",
        severity=Severity.WARNING,
        check=wide_windows,
    ),
    Rule(
        code="KV104",
        name="odd-width",
        summary="an odd head width",
        why="Rotary embeddings turn pairs of elements, so every rotary width in use is even. An odd one is a "
        "typing mistake, and the cache is wrong in proportion.",
        severity=Severity.WARNING,
        check=odd_widths,
    ),
    Rule(
        code="KV105",
        name="foreign-kind",
        summary="an attention kind that no shipped model of this family has",
        why="MLA read as MHA is 25 times too large, a hybrid read as a plain stack 4 to 12 times. The kinds "
        "are compared with those of shipped specs of the same `model_type`.",
        severity=Severity.WARNING,
        check=foreign_kinds,
    ),
    Rule(
        code="KV106",
        name="latent-saves-nothing",
        summary="an MLA latent no smaller than the K and V of all heads",
        why="The latent exists to be small. Swapped figures (kv_lora_rank for q_lora_rank) show here.",
        severity=Severity.WARNING,
        check=wide_latents,
    ),
    Rule(
        code="KV107",
        name="encoder-unknown",
        summary="cross-attention without a word about the encoder",
        why="K and V of the encoder's tokens are cached for each sequence; without its length they count as nothing.",
        severity=Severity.WARNING,
        check=lengthless_encoders,
    ),
    Rule(
        code="KV108",
        name="unused-ffn",
        summary="a feed-forward block that no layer uses",
        why="Its weights are missing from every count and every plan; usually a layer names the wrong block.",
        check=unused_ffns,
    ),
    Rule(
        code="KV110",
        name="idle-indexer",
        summary="an indexer that chooses every token",
        why="With `index_topk` at or above the context, sparse attention reads all latents: its traffic is "
        "that of MLA.",
        severity=Severity.WARNING,
        check=idle_indexers,
    ),
    Rule(
        code="KV111",
        name="short-position-table",
        summary="a learned position table shorter than the context",
        why="A token beyond the table has no position: one of the two figures is wrong.",
        check=short_position_tables,
    ),
)

HARDWARE_RULES: tuple[Rule[HardwareFile], ...] = (
    Rule(
        code="KV120",
        name="bandwidth-off-theory",
        summary="a published bandwidth more than 10 % from units x bytes per clock x clock",
        why="One of the figures is of another part: a factor of two is usually a double data rate counted "
        "twice or not at all.",
        severity=Severity.WARNING,
        check=bandwidth_against_theory,
    ),
    Rule(
        code="KV121",
        name="falling-peak",
        summary="a narrower type that computes more slowly than a wider one",
        why="Usually a peak with sparsity stands beside one without. Peaks are dense here.",
        severity=Severity.WARNING,
        check=falling_peaks,
    ),
)
