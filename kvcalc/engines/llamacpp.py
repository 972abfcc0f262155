"""llama.cpp: a context of cells, allocated whole at start; its own cells for sliding windows; fp32 states.

Rules: llama.cpp 0.5.0 (vendored in llama-cpp-python 0.3.36) llama-context.cpp:290-305 (padding, sequences),
llama-kv-cache.cpp:125-330 (rows; MLA keeps K only), llama-kv-cache-iswa.cpp:64-100 (window cells),
llama-memory-recurrent.cpp and llama-hparams.cpp n_embd_r, n_embd_s (states in f32).

    n_ctx      padded to 256; not unified: n_ctx_seq = pad256(n_ctx / n_seq), n_seq streams of it
    windows    pad256(min(n_ctx_seq, n_swa x (n_seq if unified else 1) + n_ubatch)) cells per stream
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kvcalc.cache_dtypes import FormatChoice, cache_dtype
from kvcalc.engines.base import Allocation, Engine, Figure, Parallel
from kvcalc.engines.checks import check_counts, check_formats
from kvcalc.engines.layers import (
    Share,
    assemble,
    compresses,
    layer_streams,
    logical_bytes,
    roles_of,
    stage_of_layers,
    state_rows,
    with_roles,
)
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role, round_up
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Encoder, Stream, Window
from kvcalc.units import MIB

NAME, VERSION = "llama.cpp", "0.5.0"
FORMATS = ("bf16", "fp16", "fp32", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1", "iq4_nl")
QUANTISED = ("q", "iq")
"""How the names of FORMATS begin that a cache of V has only with flash attention (llama-context.cpp)."""
PADDING = 256
"""Cells (GGML_PAD(n_ctx, 256), llama-context.cpp:290-305)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are llama-cli's; llama-server on its own takes 4 slots with a unified cache."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    """Only `pipeline` (layers split over devices, -sm layer)."""
    n_ctx: int | None = None
    """-c: cells of all sequences together; None: what the workload needs."""
    n_seq_max: int | None = None
    """-np: sequences; None: the batch."""
    kv_unified: bool = False
    """-kvu: one stream of cells for all sequences."""
    n_batch: int = 2048
    n_ubatch: int = 512
    flash_attn: bool = True
    """-fa: a quantised V needs it."""
    swa_full: bool = False
    """--swa-full: windows get as many cells as the context (the C API's default)."""

    def __post_init__(self) -> None:
        check_counts(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What a context comes to."""

    n_ctx: int
    per_sequence: int
    """n_ctx_seq: the longest sequence."""
    streams: int
    sequences: int
    ubatch: int

    def windows(self, span: int, settings: Settings) -> int:
        """Cells of a sliding-window layer, per stream."""
        if settings.swa_full:
            return self.per_sequence
        shared = self.sequences if settings.kv_unified else 1
        return _pad(min(self.per_sequence, span * shared + self.ubatch))


def _pad(tokens: int) -> int:
    return round_up(tokens, PADDING)


def cells(settings: Settings, *, batch: int = 1, seq_len: int = PADDING) -> Cells:
    """The context of a server, or one that just holds `batch` sequences of `seq_len` tokens."""
    sequences = settings.n_seq_max or batch
    wanted = settings.n_ctx or sequences * (seq_len if settings.kv_unified else _pad(seq_len))
    context = _pad(wanted)
    if settings.kv_unified:
        each, streams = context, 1
    else:
        each, streams = _pad(context // sequences) or PADDING, sequences
        context = each * streams
    ubatch = min(settings.n_ubatch, settings.n_batch, context)
    return Cells(n_ctx=context, per_sequence=each, streams=streams, sequences=sequences, ubatch=ubatch)


def engine_formats(spec: ModelSpec, asked: FormatChoice) -> FormatChoice:
    """States are fp32."""
    roles = roles_of(layer_streams(spec))
    fp32 = cache_dtype("fp32")
    return with_roles(asked, {Role.CONV: fp32, Role.STATE: fp32} if roles & STATE_ROLES else {})


def _check(spec: ModelSpec, workload: Workload, settings: Settings, context: Cells) -> None:
    parallel = settings.parallel
    if parallel.tensor > 1 or parallel.data > 1:
        raise usage_error("llama.cpp splits layers over devices, not heads or tokens", help="use -pp for -sm layer")
    check_formats(NAME, workload.formats, FORMATS)
    value = workload.formats.by_role.get(Role.VALUE, workload.formats.default)
    if value.name.startswith(QUANTISED) and not settings.flash_attn:
        raise usage_error(f"llama.cpp stores V as {value.name} only with -fa", help="leave flash attention on")
    if compresses(layer_streams(spec)):
        raise usage_error("llama.cpp has no cache for compressed attention as modelled here", help="use vllm")
    if context.sequences < workload.batch_size:
        raise usage_error(f"{workload.batch_size} sequences exceed -np {context.sequences}", help="raise -np")
    held = workload.batch_size * workload.seq_len if settings.kv_unified else workload.seq_len
    if held > context.per_sequence:
        raise usage_error(
            f"a context of {context.n_ctx:,} cells does not hold {workload.batch_size:,} x {workload.seq_len:,} tokens",
            help="raise -c",
        )


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Every cell of the context, used or not.

    Raises:
        KvcalcError: the context does not hold the workload, or llama.cpp cannot store it so.
    """
    context = cells(settings, batch=workload.batch_size, seq_len=workload.seq_len)
    _check(spec, workload, settings, context)
    stored, layers = engine_formats(spec, workload.formats), layer_streams(spec)
    sizes = _split(len(layers), settings.parallel.pipeline)
    shares = [
        _share(stream, stage, context, workload, stored, settings)
        for layer, stage in zip(layers, stage_of_layers(layers, sizes), strict=True)
        for stream in layer.streams
    ]
    spans = {s.extent.size for layer in layers for s in layer.streams if isinstance(s.extent, Window)}
    return assemble(
        NAME, spec, workload, settings, stored, shares, unit="cell", unit_tokens=1,
        units=context.per_sequence * context.streams,
        figures=tuple(_figures(context, spans, settings)), notes=tuple(log_lines(spec, stored, settings, context)),
    )  # fmt: skip


def _split(layers: int, devices: int) -> tuple[int, ...]:
    """Equal devices take equal shares of the layers, the first ones more."""
    if devices > layers:
        raise usage_error(f"{layers} layers cannot fill {devices} devices", help="lower -pp")
    few, more = divmod(layers, devices)
    return tuple(few + (device < more) for device in range(devices))


def stream_cells(stream: Stream, context: Cells, settings: Settings, encoder_len: int = 0) -> int:
    """Cells of one layer's stream in all its streams of sequences (states: sequences)."""
    if stream.role in STATE_ROLES:
        return context.sequences
    if isinstance(stream.extent, Encoder):
        return encoder_len * context.sequences
    each = context.per_sequence
    if isinstance(stream.extent, Window):
        each = context.windows(stream.extent.size, settings)
    return each * context.streams


def _share(
    stream: Stream, stage: int, context: Cells, workload: Workload, formats: FormatChoice, settings: Settings
) -> Share:
    count = stream_cells(stream, context, settings, workload.encoder_len)
    rows = state_rows(stream) if stream.role in STATE_ROLES else 1
    size = stream.rows_bytes(rows, formats) * count
    logical = logical_bytes(stream, workload, formats) * workload.batch_size
    cause = "padding and unused cells of the context"
    if stream.role in STATE_ROLES:
        cause = "states of unused sequences"
    elif isinstance(stream.extent, Window):
        cause = "window cells beyond the window (micro-batch, padding)"
    return Share(stage=stage, logical=logical, allocated=size, rank=size, total=size,
                 waste=((cause, size - logical),))  # fmt: skip


def _figures(context: Cells, spans: set[int], settings: Settings) -> Iterator[Figure]:
    yield Figure(name="cells", meaning="cells per stream of sequences", units=context.per_sequence, bytes=0)
    for span in sorted(spans):
        units = context.windows(span, settings)
        yield Figure(name="swa_cells", meaning=f"cells for a window of {span:,}", units=units, bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLine:
    """One cache as llama.cpp logs it."""

    cells: int
    layers: int
    key_bytes: int
    value_bytes: int
    windowed: bool

    @property
    def bytes(self) -> int:
        return self.key_bytes + self.value_bytes


def caches(spec: ModelSpec, formats: FormatChoice, settings: Settings, context: Cells) -> tuple[CacheLine, ...]:
    """The caches of keys and values: of full layers, and of windows apart."""
    found: list[CacheLine] = []
    for windowed in (False, True):
        kept = [
            [s for s in layer.streams if s.role not in STATE_ROLES and isinstance(s.extent, Window) == windowed]
            for layer in layer_streams(spec)
        ]
        sizes = [(s.role, stream_cells(s, context, settings), s.rows_bytes(1, formats)) for mine in kept for s in mine]
        if sizes:
            values = sum(cells * row for role, cells, row in sizes if role is Role.VALUE)
            found.append(
                CacheLine(
                    cells=max(cells for _, cells, _ in sizes) // context.streams,
                    layers=sum(map(bool, kept)),
                    key_bytes=sum(cells * row for _, cells, row in sizes) - values,
                    value_bytes=values,
                    windowed=windowed,
                )
            )
    return tuple(found)


def log_lines(spec: ModelSpec, formats: FormatChoice, settings: Settings, context: Cells) -> Iterator[str]:
    """As the server prints them at start."""
    for line in caches(spec, formats, settings, context):
        yield (
            f"llama_kv_cache: size = {line.bytes / MIB:7.2f} MiB ({line.cells:6} cells, {line.layers:3} layers,"
            f" {context.sequences:2}/{context.streams} seqs), K: {line.key_bytes / MIB:7.2f} MiB,"
            f" V: {line.value_bytes / MIB:7.2f} MiB"
        )


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="a context of cells padded to 256, allocated whole; fp32 states",
    source="llama.cpp 0.5.0 llama-context.cpp, llama-kv-cache.cpp, llama-kv-cache-iswa.cpp, llama-memory-recurrent.cpp",
    settings=Settings,
    allocate=allocate,
    batch_scales=False,
)
