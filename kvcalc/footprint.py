"""Layer groups x workload -> logical bytes, exactly.

logical = batch x sum over layers and streams of ceil(format.bits(extent.rows(S, E), heads, width) / 8)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import lcm

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.formats import STATE_ROLES, IntLike, round_up
from kvcalc.layout import CacheGroup, HasLayout
from kvcalc.problems import usage_error
from kvcalc.streams import Part, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`batch_size` sequences of `seq_len` tokens (and `encoder_len` encoder tokens), stored as `formats` says."""

    batch_size: int
    seq_len: int
    encoder_len: int = 0
    formats: FormatChoice = field(default=BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Bytes of one sequence as fixed + slope x tokens.

    For S >= from_tokens and S a multiple of step_tokens, one sequence takes exactly
    fixed_bytes + step_bytes x S / step_tokens. A window has grown into `fixed_bytes` by then.
    """

    fixed_bytes: int
    step_bytes: int
    step_tokens: int
    from_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBytes:
    """One stream of one layer of one sequence."""

    name: str
    role: str
    heads: int
    width: int
    rows: int
    rows_formula: str
    format: str
    bytes_formula: str
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBytes:
    """All layers with the same caches. `bytes` covers every layer and the whole batch."""

    names: tuple[str, ...]
    label: str
    source: str
    layers: tuple[int, ...]
    streams: tuple[StreamBytes, ...]
    bytes_per_layer: int
    """Of one sequence."""
    bytes: int
    growth: Growth
    """Of one sequence, all layers of the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Logical bytes of a model's cache for a workload."""

    model: str
    batch_size: int
    seq_len: int
    encoder_len: int
    kv_cache_dtype: str
    groups: tuple[GroupBytes, ...]
    kv_bytes: int
    """Token caches and indexer keys, the whole batch."""
    index_bytes: int
    """Of which indexer keys."""
    cross_bytes: int
    """Of which cross-attention."""
    state_bytes: int
    """Recurrent and convolution states, the whole batch."""
    logical_bytes: int
    """kv_bytes + state_bytes."""
    bytes_per_sequence: int
    kv_elements_per_sequence: int
    growth: Growth
    """Of one sequence, all layers."""


def sequence_bytes(
    groups: Iterable[CacheGroup],
    tokens: IntLike,
    formats: FormatChoice,
    encoder_tokens: int = 0,
    keep: Callable[[Stream], bool] = lambda stream: True,
) -> IntLike:
    """Logical bytes of one sequence of `tokens` tokens (an integer, or an int64 array of lengths)."""
    total = tokens * 0
    for group in groups:
        for stream in group.logical_streams:
            if keep(stream):
                total = total + group.count * stream.bytes(tokens, formats, encoder_tokens)
    return total


def growth(
    groups: Iterable[CacheGroup],
    formats: FormatChoice,
    encoder_tokens: int = 0,
    keep: Callable[[Stream], bool] = lambda stream: True,
) -> Growth:
    """fixed + slope x tokens, taken from the exact sum at two lengths beyond every saturation."""
    groups = tuple(groups)
    step, start = 1, 0
    for group in groups:
        for stream in filter(keep, group.logical_streams):
            stored = stream.format(formats)
            start = max(start, stream.extent.saturation)
            if stream.extent.grows:
                step = lcm(step, stream.extent.period * stored.period(stream.heads, stream.width))
                start = max(start, stored.saturation * stream.extent.period)
    first = round_up(start, step)
    at_first, at_next = (
        sequence_bytes(groups, tokens, formats, encoder_tokens, keep) for tokens in (first, first + step)
    )
    slope = at_next - at_first
    return Growth(fixed_bytes=at_first - slope * (first // step), step_bytes=slope, step_tokens=step, from_tokens=start)


def footprint(model: HasLayout, workload: Workload) -> Footprint:
    """Every logical byte of the model's cache for `workload`.

    Raises:
        KvcalcError: a stream cannot be stored in the chosen format.
    """
    layout = model.layout()
    groups = layout.groups
    parts = tuple(_group_bytes(group, workload) for group in groups)

    def whole_batch(part: Part) -> int:
        return workload.batch_size * sequence_bytes(
            groups, workload.seq_len, workload.formats, workload.encoder_len, lambda stream: stream.part == part
        )

    state = whole_batch("state")
    logical = sum(part.bytes for part in parts)
    return Footprint(
        model=layout.name,
        batch_size=workload.batch_size,
        seq_len=workload.seq_len,
        encoder_len=workload.encoder_len,
        kv_cache_dtype=workload.formats.name,
        groups=parts,
        kv_bytes=logical - state,
        index_bytes=whole_batch("index"),
        cross_bytes=whole_batch("cross"),
        state_bytes=state,
        logical_bytes=logical,
        bytes_per_sequence=logical // workload.batch_size,
        kv_elements_per_sequence=sum(
            len(part.layers) * sum(s.elements for s in part.streams if s.role not in STATE_ROLES) for part in parts
        ),
        growth=growth(groups, workload.formats, workload.encoder_len),
    )


def _group_bytes(group: CacheGroup, workload: Workload) -> GroupBytes:
    streams = tuple(_stream_bytes(stream, workload) for stream in group.logical_streams)
    per_layer = sum(stream.bytes for stream in streams)
    return GroupBytes(
        names=group.names,
        label=group.label,
        source=group.source,
        layers=group.indices,
        streams=streams,
        bytes_per_layer=per_layer,
        bytes=workload.batch_size * group.count * per_layer,
        growth=growth((group,), workload.formats, workload.encoder_len),
    )


def _stream_bytes(stream: Stream, workload: Workload) -> StreamBytes:
    stored = stream.format(workload.formats)
    return StreamBytes(
        name=stream.name,
        role=stream.role.value,
        heads=stream.heads,
        width=stream.width,
        rows=stream.extent.rows(workload.seq_len, workload.encoder_len),
        rows_formula=stream.extent.formula,
        format=stored.name,
        bytes_formula=stored.formula(stream.width),
        elements=stream.elements(workload.seq_len, workload.encoder_len),
        bytes=stream.bytes(workload.seq_len, workload.formats, workload.encoder_len),
    )


def workload_for(
    model: HasLayout, *, batch_size: int = 1, seq_len: int | None = None, encoder_len: int | None = None,
    formats: FormatChoice = BF16,
) -> tuple[Workload, tuple[str, ...]]:  # fmt: skip
    """A workload with the model's own defaults, and warnings about what was assumed.

    Raises:
        KvcalcError: no length was given and the spec states no context.
    """
    warnings: list[str] = []
    layout = model.layout()
    context = layout.context
    if seq_len is None:
        if context is None and any(s.extent.grows or s.extent.saturation for g in layout.groups for s in g.streams):
            raise usage_error(f"{layout.name} states no context length", help="give --seq-len")
        seq_len = context or 1  # without a context only where the length changes nothing
    elif context is not None and seq_len > context:
        warnings.append(f"{seq_len:,} tokens exceed the context of {layout.name} ({context:,})")
    if encoder_len is None:
        encoder_len = layout.encoder_context or 0
        if layout.has_encoder and not layout.encoder_context:
            warnings.append(f"{layout.name} has cross-attention: counted with 0 encoder tokens; give --encoder-len")
    workload = Workload(batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=formats)
    return workload, tuple(warnings)
