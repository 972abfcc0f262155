"""transformers: caches that grow by concatenation, static ones, and quantised ones with a full-precision tail.

Rules: transformers 5.23.0 src/transformers/cache_utils.py:104-195 (DynamicLayer), 196-260 (sliding: keeps W - 1
tokens, as a view of a tensor that still holds W, or the whole prompt right after prefill), 403-600 (static),
743-1030 (quantised), 1160-1250 (states: K columns of a convolution, recurrent state in fp32), 1910-2110 (DeepSeek-V4).
Latents are stored since version 5; before (4.57.6) the cache held the expanded heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

from kvcalc.attention.whatif import with_kv_heads
from kvcalc.cache_dtypes import BF16, FormatChoice, cache_dtype
from kvcalc.engines.base import Allocation, Engine, Figure, Parallel
from kvcalc.engines.checks import check_counts, check_formats, version_key
from kvcalc.engines.layers import (
    Share,
    assemble,
    heads_per_rank,
    layer_stages,
    layer_streams,
    logical_bytes,
    roles_of,
    state_rows,
    whole_sequences,
    with_roles,
)
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Stream, Strided, Window

if TYPE_CHECKING:
    from kvcalc.attention import AttentionKind

NAME, VERSION = "transformers", "5.23.0"
FORMATS = ("bf16", "fp16", "fp32")

Moment = Literal["kept", "decoding", "after_prefill", "highest"]
"""`highest`: the most that is stored while decoding at any length so far (buffers fill up and empty again)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are transformers 5.23's."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    cache: Literal["dynamic", "static", "quantized"] = "dynamic"
    """cache_implementation."""
    max_cache_len: int | None = None
    """Static: tokens that are allocated; None: the sequence."""
    nbits: int = 4
    q_group_size: int = 64
    residual_length: int = 128
    prompt_len: int | None = None
    """Quantised: tokens of the prompt, quantised at once; None: all of them."""

    def __post_init__(self) -> None:
        check_counts(self)


def engine_formats(spec: ModelSpec, asked: FormatChoice) -> FormatChoice:
    """Everything in the model's dtype; recurrent states in fp32."""
    roles = roles_of(layer_streams(spec))
    extra = {Role.BUFFER: asked.default} if Role.BUFFER in roles else {}
    extra |= {Role.CONV: BF16.default, Role.STATE: cache_dtype("fp32")} if roles & STATE_ROLES else {}
    return with_roles(asked, extra)


LATENTS_STORED = (5, 0, 0)
"""From this version on the cache holds latents."""


def _as_cached(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """The model as this version caches it: before 5.0 with the heads of a latent written out."""
    if version_key(settings.version) >= LATENTS_STORED:
        return spec
    expanded = {
        name: with_kv_heads(kind, None) if any(s.role is Role.LATENT for s in kind.streams()) else kind
        for name, kind in spec.attention.items()
    }
    return replace(spec, attention=cast("Mapping[str, AttentionKind]", expanded))


def _copies(window: Stream, part: Sequence[Stream]) -> int:
    """The window of compressed attention is stored as keys and as values where no compressed rows stand beside it."""
    return 2 if window.label and not any(isinstance(s.extent, Strided) for s in part) else 1


def _size(
    stream: Stream, part: Sequence[Stream], tokens: int, workload: Workload, formats: FormatChoice,
    settings: Settings, moment: Moment, heads: int | None = None,
) -> int:  # fmt: skip
    """Bytes of one layer's stream of one sequence at a moment, with `heads` of its heads."""

    def rows(count: int) -> int:
        return stream.rows_bytes(count, formats, heads=heads)

    if stream.role is Role.CONV:
        return rows(state_rows(stream) + 1)
    if stream.role is Role.STATE:
        return rows(1)
    if stream.role is Role.BUFFER:
        return _buffer(stream, part, tokens, formats, moment)
    if isinstance(stream.extent, Strided) or (not isinstance(stream.extent, Window) and not stream.extent.grows):
        return rows(stream.extent.rows(tokens, workload.encoder_len))
    if settings.cache == "quantized":
        full_tail = tokens - (tokens - (settings.prompt_len or tokens) + 1) % settings.residual_length
        lengths = (tokens, full_tail) if moment == "highest" else (tokens,)
        return max(_quantised(stream, length, settings, heads) for length in lengths)
    if settings.cache == "static":
        limit = settings.max_cache_len or workload.seq_len
        return rows(min(limit, stream.extent.size) if isinstance(stream.extent, Window) else limit)
    if isinstance(stream.extent, Window):
        most = {"kept": stream.extent.size - 1, "after_prefill": tokens}.get(moment, stream.extent.size)
        return _copies(stream, part) * rows(min(tokens, most))
    return rows(tokens)


def _buffer(stream: Stream, part: Sequence[Stream], tokens: int, formats: FormatChoice, moment: Moment) -> int:
    """Inputs of the compressor that wait for a full stride, and the previous stride where strides overlap."""
    stride = next(s.extent.stride for s in part if isinstance(s.extent, Strided))
    overlaps = stream.extent.saturation > stride
    waiting = {"after_prefill": tokens, "highest": min(tokens, stride - 1)}.get(moment, tokens % stride)
    size = stream.rows_bytes(waiting, formats)
    if overlaps and tokens >= stride:
        size += replace(stream, width=stream.width // 2).rows_bytes(stride, formats)
    return size


def _quantised(stream: Stream, tokens: int, settings: Settings, heads: int | None) -> int:
    """Codes with bf16 scale and shift per group, and the tail that has not been quantised yet."""
    prompt = tokens if settings.prompt_len is None else min(settings.prompt_len, tokens)
    tail = (tokens - prompt) % settings.residual_length
    coded = cache_dtype(f"int{settings.nbits}-g{settings.q_group_size}-zp")
    choice = FormatChoice(default=coded)
    plain = replace(stream, dtype=None)
    codes = plain.rows_bytes(tokens - tail, choice, heads=heads)
    return codes + plain.rows_bytes(tail, BF16, heads=heads)


def _logical(stream: Stream, workload: Workload, formats: FormatChoice, settings: Settings) -> int:
    if settings.cache == "quantized" and stream.extent.grows and not isinstance(stream.extent, Strided):
        return _quantised(stream, workload.seq_len, settings, None)
    if settings.cache == "quantized" and isinstance(stream.extent, Window):
        rows = min(workload.seq_len, stream.extent.size)
        return min(_quantised(stream, workload.seq_len, settings, None), _quantised(stream, rows, settings, None))
    return logical_bytes(stream, workload, formats)


def _cause(stream: Stream, settings: Settings) -> str:
    if stream.role is Role.CONV:
        return "one more column of the convolution"
    if stream.role is Role.BUFFER:
        return "compressor buffers"
    if settings.cache == "static":
        return "allocated up to max_cache_len"
    if settings.cache == "quantized":
        return "windows kept in full" if isinstance(stream.extent, Window) else "tail before it is quantised"
    return "a latent stored as keys and as values"


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Tensors of the cache while a sequence decodes; the figures tell what is kept and what a prefill leaves behind.

    Raises:
        KvcalcError: a format that transformers does not have, or a static cache shorter than the sequence.
    """
    check_formats(NAME, workload.formats, FORMATS)
    if settings.parallel.decode_context > 1:
        raise usage_error("transformers has no context parallelism for its caches", help="use -dcp 1")
    if settings.cache == "static" and (settings.max_cache_len or workload.seq_len) < workload.seq_len:
        raise usage_error(f"max_cache_len {settings.max_cache_len:,} is shorter than {workload.seq_len:,} tokens")
    spec = _as_cached(spec, settings)
    stored, layers = engine_formats(spec, workload.formats), layer_streams(spec)
    parallel, batch = settings.parallel, workload.batch_size
    shares: list[Share] = []
    for layer, stage in zip(layers, layer_stages(layers, parallel), strict=True):
        for part in layer.parts:
            for stream in part:
                logical = _logical(stream, workload, stored, settings)
                heads = heads_per_rank(stream, parallel.tensor, NAME)
                size = _size(stream, part, workload.seq_len, workload, stored, settings, "highest")
                rank = _size(stream, part, workload.seq_len, workload, stored, settings, "highest", heads)
                cause = _cause(stream, settings)
                shares.append(
                    whole_sequences(stage, parallel, batch, logical=logical, allocated=size, rank=rank, cause=cause)
                )
    return assemble(
        NAME, spec, workload, settings, stored, shares, unit="token", unit_tokens=1, units=workload.seq_len,
        figures=_figures(spec, workload, stored, settings),
    )  # fmt: skip


def _figures(spec: ModelSpec, workload: Workload, formats: FormatChoice, settings: Settings) -> tuple[Figure, ...]:
    """Of one sequence, all layers, without sharding."""
    following = workload.seq_len if settings.cache == "static" else workload.seq_len + 1

    def total(moment: Moment, tokens: int) -> int:
        return sum(
            _size(stream, part, tokens, workload, formats, settings, moment)
            for layer in layer_streams(spec)
            for part in layer.parts
            for stream in part
        )

    rows: tuple[tuple[str, str, Moment, int], ...] = (
        ("kept", "values that the cache's tensors show", "kept", workload.seq_len),
        ("after_prefill", "storage behind those tensors right after the prompt", "after_prefill", workload.seq_len),
        ("kept_next", "values after the next token", "kept", following),
        ("decoding_next", "storage after the next token", "decoding", following),
    )
    return tuple(
        Figure(name=name, meaning=meaning, units=tokens, bytes=total(moment, tokens))
        for name, meaning, moment, tokens in rows
    )


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="tensors that grow by concatenation; static and quantised caches",
    source="transformers 5.23.0 cache_utils.py",
    settings=Settings,
    allocate=allocate,
)
