"""Bytes and FLOPs of one step, per layer group and per component of the weights.

A decode step reads the visible rows of every stream and writes one token's; it reads every weight that works for
some token of the batch. A prefill computes all pairs of a token and a visible row. All counts are of the fullest
rank, integers (means, where a write or a draw of experts happens only now and then, are fractions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, IntLike, ceil_div
from kvcalc.spec.model import LayerGroup, ModelSpec, layer_groups
from kvcalc.steps import DECODE, PREFILL, Convention, Phase, Read, Work
from kvcalc.streams import Encoder, Part, Sharding, Stream
from kvcalc.tensors import Component
from kvcalc.weight_traffic import ONE_RANK, UNIFORM_ROUTING, Shards, WeightTraffic, step_weights
from kvcalc.weights.ledger import WeightScheme, weight_scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTraffic:
    """What a step reads of one stream, of one layer and one sequence."""

    name: str
    part: str
    """kv, index, cross or state."""
    format: str
    rows_formula: str
    rows: int
    read_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFlops:
    """FLOPs of one layer and one sequence."""

    name: str
    formula: str
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTraffic:
    """One kernel of a layer group; totals cover every layer and the rank's share of the batch."""

    label: str
    layers: int
    streams: tuple[StreamTraffic, ...]
    work: tuple[WorkFlops, ...]
    read_bytes: int
    written_bytes: Fraction
    flops: int

    @property
    def bytes(self) -> Fraction:
        """Read and written."""
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTraffic:
    """All layers with the same caches."""

    names: tuple[str, ...]
    label: str
    layers: int
    kernels: tuple[KernelTraffic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes and FLOPs of one step on the fullest rank."""

    phase: Phase
    model: str
    batch_size: int
    """Sequences of all ranks together."""
    rank_batch: int
    """Sequences whose attention this rank computes."""
    seq_len: int
    encoder_len: int
    kv_cache_dtype: str
    weight_format: str
    convention: str
    shards: str
    groups: tuple[GroupTraffic, ...]
    weights: tuple[WeightTraffic, ...]
    """Empty where the spec describes the cache alone."""
    kv_read_bytes: int
    index_read_bytes: int
    cross_read_bytes: int
    state_read_bytes: int
    written_bytes: Fraction
    weight_read_bytes: int
    cache_read_bytes: int
    """Everything read of the caches and states."""
    bytes: Fraction
    """All that moves between memory and chip."""
    attention_flops: int
    gemm_flops: int
    flops: int
    assumptions: tuple[str, ...]


def read_rows(read: Read, phase: Phase, tokens: IntLike, workload: Workload, shards: Shards) -> IntLike:
    """Rows of one layer and sequence on one rank. A prefill reads what it has kept once; a state starts empty."""
    if phase == "decode":
        seen = read.extent.visible(tokens, workload.encoder_len)
    elif read.stream.role in STATE_ROLES:
        seen = tokens * 0
    else:
        seen = read.stream.extent.rows(tokens, workload.encoder_len)
    return shards.rows(seen, read.stream)


def read_bytes(read: Read, phase: Phase, tokens: IntLike, workload: Workload, shards: Shards) -> IntLike:
    """Bytes of one layer and sequence on one rank (an integer, or an int64 array of lengths)."""
    rows = read_rows(read, phase, tokens, workload, shards)
    heads = shards.units(read.heads, read.split, grows=read.stream.extent.grows)
    return read.stream.rows_bytes(rows, workload.formats, heads=heads)


def work_flops(work: Work, phase: Phase, tokens: IntLike, workload: Workload, shards: Shards) -> IntLike:
    """FLOPs of one layer and sequence on one rank.

    Context parallel ranks share the rows and repeat the heads: the same FLOPs as sharing the heads alone.
    """
    pairs = work.extent.visible if phase == "decode" else work.extent.visible_sum
    return pairs(tokens, workload.encoder_len) * (work.flops * shards.units(work.units, work.split, grows=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What one kernel of a layer reads, writes and computes."""

    label: str
    reads: tuple[Read, ...]
    work: tuple[Work, ...]
    streams: tuple[Stream, ...]
    """Those it reads and this layer itself keeps: a step writes them too."""


def kernels(group: LayerGroup, phase: Phase, convention: Convention) -> Iterator[Kernel]:
    """The kernels between the projections of one layer, in the order in which they run."""
    for kind in group.attention:
        kept = kind.streams()
        reads = kind.decode_reads(convention)
        work = [each for each in kind.work(convention) if phase == "decode" or not each.decode_only]
        for name in dict.fromkeys([*(each.kernel for each in work), *(read.kernel for read in reads)]):
            mine = tuple(read for read in reads if read.kernel == name)
            yield Kernel(
                label=kind.label if name == "attention" else f"{kind.label}: {name}",
                reads=mine,
                work=tuple(each for each in work if each.kernel == name),
                streams=tuple(stream for stream in kept if any(read.stream == stream for read in mine)),
            )


def kept_bytes(streams: Iterable[Stream], tokens: IntLike, workload: Workload, shards: Shards) -> IntLike:
    """Bytes that one layer keeps in `streams` of one sequence of `tokens` tokens on one rank."""
    total = tokens * 0
    for stream in streams:
        heads = shards.units(stream.heads, stream.sharding is Sharding.HEADS, grows=stream.extent.grows)
        rows = shards.rows(stream.extent.rows(tokens, workload.encoder_len), stream)
        total = total + stream.rows_bytes(rows, workload.formats, heads=heads)
    return total


def written(streams: Iterable[Stream], workload: Workload, shards: Shards) -> Fraction:
    """Bytes that one layer writes for one sequence in a decode step: the mean growth, and the states again."""
    total = Fraction(0)
    for stream in streams:
        grows = stream.extent.grows
        heads = shards.units(stream.heads, stream.sharding is Sharding.HEADS, grows=grows)
        stored = stream.format(workload.formats)
        if stream.role in STATE_ROLES:
            total += stream.rows_bytes(stream.extent.rows(workload.seq_len, 0), workload.formats, heads=heads)
        elif not isinstance(stream.extent, Encoder):
            start, step = stored.saturation, stored.period(heads, stream.width)
            more = stored.bits(start + step, heads, stream.width) - stored.bits(start, heads, stream.width)
            stride = stream.extent.period if grows else 1
            total += Fraction(more, 8 * step * stride * (shards.decode_context if grows else 1))
    return total


def traffic(
    spec: ModelSpec,
    workload: Workload,
    *,
    phase: Phase = "decode",
    convention: Convention | None = None,
    scheme: WeightScheme | None = None,
    shards: Shards = ONE_RANK,
) -> Traffic:
    """One decode step of `batch_size` sequences whose caches hold `seq_len` tokens (the new one included), or the
    prefill of `batch_size` prompts of `seq_len` tokens.

    Raises:
        KvcalcError: a stream cannot be stored in the chosen format.
    """
    chosen = convention or (DECODE if phase == "decode" else PREFILL)
    stored = scheme or weight_scheme(spec)
    rank_batch = ceil_div(workload.batch_size, shards.weights.data)
    groups = tuple(
        _group_traffic(group, workload, phase, chosen, shards, rank_batch)
        for group in layer_groups(spec)
        if group.attention
    )
    new_tokens = 1 if phase == "decode" else workload.seq_len
    weights = step_weights(spec, phase, stored, shards).at(workload.batch_size, new_tokens)

    def part(name: Part) -> int:
        return sum(
            group.layers * rank_batch * stream.read_bytes
            for group in groups
            for kernel in group.kernels
            for stream in kernel.streams
            if stream.part == name
        )

    ran = [kernel for group in groups for kernel in group.kernels]
    read = sum(kernel.read_bytes for kernel in ran)
    wrote = sum((kernel.written_bytes for kernel in ran), Fraction(0))
    weights_read = sum(weight.read_bytes for weight in weights)
    attention_flops, gemm_flops = sum(kernel.flops for kernel in ran), sum(weight.flops for weight in weights)
    return Traffic(
        phase=phase,
        model=spec.name,
        batch_size=workload.batch_size,
        rank_batch=rank_batch,
        seq_len=workload.seq_len,
        encoder_len=workload.encoder_len,
        kv_cache_dtype=workload.formats.name,
        weight_format=stored.summary,
        convention=chosen.name,
        shards=shards.name,
        groups=groups,
        weights=weights,
        kv_read_bytes=part("kv"),
        index_read_bytes=part("index"),
        cross_read_bytes=part("cross"),
        state_read_bytes=part("state"),
        written_bytes=wrote,
        weight_read_bytes=weights_read,
        cache_read_bytes=read,
        bytes=read + wrote + weights_read,
        attention_flops=attention_flops,
        gemm_flops=gemm_flops,
        flops=attention_flops + gemm_flops,
        assumptions=tuple(_assumptions(weights, phase)),
    )


def _assumptions(weights: tuple[WeightTraffic, ...], phase: Phase) -> Iterator[str]:
    if not weights:
        yield "weights: the spec describes the cache alone, so they are left out"
    if any(weight.component == Component.ROUTED_EXPERTS for weight in weights):
        yield UNIFORM_ROUTING
    if phase == "prefill":
        yield "prefill: one pass over the weights for all tokens; logits for the last token of each sequence"


def _group_traffic(
    group: LayerGroup, workload: Workload, phase: Phase, convention: Convention, shards: Shards, rank_batch: int
) -> GroupTraffic:
    return GroupTraffic(
        names=group.names,
        label=group.label,
        layers=group.count,
        kernels=tuple(
            _kernel_traffic(kernel, group.count, workload, phase, shards, rank_batch)
            for kernel in kernels(group, phase, convention)
        ),
    )


def _kernel_traffic(
    kernel: Kernel, layers: int, workload: Workload, phase: Phase, shards: Shards, rank_batch: int
) -> KernelTraffic:
    tokens = workload.seq_len
    streams = tuple(
        StreamTraffic(
            name=read.stream.name,
            part=read.stream.part,
            format=read.stream.format(workload.formats).name,
            rows_formula=read.extent.formula if phase == "decode" else read.stream.extent.formula,
            rows=read_rows(read, phase, tokens, workload, shards),
            read_bytes=read_bytes(read, phase, tokens, workload, shards),
        )
        for read in kernel.reads
    )
    work = tuple(
        WorkFlops(name=work.name, formula=work.formula, flops=work_flops(work, phase, tokens, workload, shards))
        for work in kernel.work
    )
    times = rank_batch * layers
    wrote = (
        written(kernel.streams, workload, shards)
        if phase == "decode"
        else Fraction(kept_bytes(kernel.streams, tokens, workload, shards))
    )
    return KernelTraffic(
        label=kernel.label,
        layers=layers,
        streams=streams,
        work=work,
        read_bytes=times * sum(stream.read_bytes for stream in streams),
        written_bytes=times * wrote,
        flops=times * sum(each.flops for each in work),
    )
