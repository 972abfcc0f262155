"""vLLM's pages: what one block of one layer's cache takes on one rank.

Rules: vLLM 0.33.0 v1/kv_cache_interface.py:537-613 and 1083-1180, config/model.py:1663-1683,
model_executor/layers/mamba/mamba_utils.py:155-330, platforms/interface.py:830-1140,
models/deepseek_v4/attention.py:860-926, compressor.py:139-193, v1/attention/backends/mla/sparse_swa.py:69-148.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kvcalc.cache_dtypes import BF16, FormatChoice, cache_dtype
from kvcalc.engines.layers import (
    LayerStreams,
    compresses,
    heads_per_rank,
    layer_streams,
    roles_of,
    state_rows,
    with_roles,
)
from kvcalc.engines.vllm.settings import NAME, Settings
from kvcalc.formats import STATE_ROLES, Role, ceil_div, round_up
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Encoder, Sharding, Stream, Strided, Window

DEFAULT_BLOCK = 16
"""Tokens, as all below (config/cache.py)."""
MLA_BLOCK = 64
"""FlashMLA and the sparse-indexer kernels (mla/flashmla.py:57). FlashInfer-MLA has 32, CUTLASS-MLA 128."""
COMPRESSED_BLOCK = 256
COMPRESSED_WINDOW_BLOCK = 64
"""Of DeepSeek-V4's compressed rows and of its windows (models/deepseek_v4/attention.py, mla/sparse_swa.py)."""
COMPRESSOR_BLOCK = {4: 4, 128: 8}
"""Tokens of a compressor's block by stride (models/deepseek_v4/compressor.py:139-193)."""
MLA_HYBRID_ALIGNMENT = 128
"""Blocks of latents beside states are multiples of it; of K and V beside them, of DEFAULT_BLOCK (interface.py)."""
PACKED_ALIGNMENT = 576
"""Bytes. Pages of DeepSeek-V4 under fp8_ds_mla are rounded up to it; 512 under every other format."""
PLAIN_ALIGNMENT = 512
SLOT_ALIGNMENT = {"turboquant_": 2, "octave_k3v3_compact": 4, "octave_": 8}
"""K and V of one head and token are rounded up together (turboquant/config.py slot_size_aligned, Octave slot_bytes)."""
BOUNDARY_FORMATS = ("turboquant_", "ultraquant_")
BOUNDARY_LAYERS = 2
"""Layers at each end of a dense model that stay in the model's dtype (engine/arg_utils.py:2333)."""
FP32_STATES = frozenset({"nemotron_h", "kimi_linear", "kimi_k3", "qwen3_5", "qwen3_5_text", "qwen3_5_moe",
                         "qwen3_5_moe_text"})  # fmt: skip
"""Model types whose recurrent state is fp32 by default (models/config.py:808-966; kda_state_dtype)."""


class Keep(StrEnum):
    """How long a layer needs its blocks."""

    FULL = "full"
    WINDOW = "window"
    CHUNK = "chunk"
    STATE = "state"
    ENCODER = "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The cache of one module of one layer, and one block of it on one rank."""

    layer: int
    keep: Keep
    streams: tuple[Stream, ...]
    formats: FormatChoice
    block_size: int
    """Tokens."""
    rank_bytes: int
    """Content of a block on one rank."""
    whole_bytes: int
    """The same with every head."""
    page_bytes: int
    """What a block takes on one rank, padding included."""
    latent: bool = False
    """One vector per row, the same on every rank."""
    stride: int = 1
    """Tokens of one stored row."""

    @property
    def span(self) -> int:
        """Window or chunk in tokens."""
        first, *_ = self.streams
        return first.extent.saturation

    @property
    def kind(self) -> tuple[object, ...]:
        """Layers of one kind can share a group and a block table."""
        return (self.keep, self.span, self.latent, self.stride, self.block_size, self.page_bytes, self.rank_bytes)


def engine_formats(spec: ModelSpec, asked: FormatChoice, settings: Settings) -> FormatChoice:
    """The formats that vLLM stores: indexer keys, states and DeepSeek's rows follow rules of their own."""
    layers = layer_streams(spec, draft_layers=True)
    roles = roles_of(layers)
    if Role.LATENT in roles and Role.INDEX in roles and asked.default.name == "fp8":
        # The sparse backends store every 8-bit cache as DeepSeek's packed row (mla_attention.py:355-376).
        asked = replace(asked, default=cache_dtype("fp8_ds_mla"))
    if compresses(layers) and asked.default.name in ("fp8", "bf16"):
        # DeepSeek-V4: `auto` and `fp8` are both its packed row (models/deepseek_v4/attention.py:94-122).
        asked = replace(asked, default=cache_dtype("fp8_ds_mla"))
    extra = {}
    if Role.INDEX in roles and Role.LATENT in roles:
        extra[Role.INDEX] = cache_dtype("fp8_ds_mla")
    if roles & STATE_ROLES:
        extra[Role.CONV] = BF16.default
        extra[Role.STATE] = cache_dtype(_state_dtype(spec, layers, settings))
    return with_roles(asked, extra)


def _state_dtype(spec: ModelSpec, layers: Iterable[LayerStreams], settings: Settings) -> str:
    if settings.mamba_ssm_cache_dtype != "auto":
        return settings.mamba_ssm_cache_dtype
    own = next((s.dtype for layer in layers for s in layer.streams if s.role is Role.STATE and s.dtype), "bf16")
    return own if (spec.model_type or "") in FP32_STATES else "bf16"


def is_hybrid(layers: Iterable[LayerStreams]) -> bool:
    """States beside attention."""
    roles = roles_of(layers)
    return bool(roles & STATE_ROLES) and bool(roles - STATE_ROLES)


def default_block_size(layers: Sequence[LayerStreams]) -> int:
    """Tokens of a block as the attention backend prefers them."""
    if compresses(layers):
        return COMPRESSED_BLOCK
    return MLA_BLOCK if Role.LATENT in roles_of(layers) else DEFAULT_BLOCK


def model_pages(spec: ModelSpec, formats: FormatChoice, settings: Settings) -> tuple[Page, ...]:
    """Every cache of the model with its block size settled.

    Raises:
        KvcalcError: heads that the ranks cannot share, or a window under context parallelism.
    """
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    block = settings.block_size or default_block_size(layers)
    stored = engine_formats(spec, formats, settings)
    skipped = _skipped_layers(layers, stored, settings)
    plain = replace(stored, default=BF16.default)
    compressed = compresses(layers)
    built: dict[tuple[int, bool], tuple[Page, ...]] = {}
    pages: list[Page] = []
    for layer in layers:
        plainly = layer.index in skipped
        for part in layer.parts:
            key = (id(part), plainly)  # layers of one kind share their streams
            if key not in built:
                built[key] = tuple(_part_pages(layer, part, plain if plainly else stored, block, settings, compressed))
            pages += (replace(page, layer=layer.index) for page in built[key])
    pages = _align_states(pages, settings, block)
    if skipped:
        pages = _align_formats(pages, skipped, block)
    return tuple(pages)


def _skipped_layers(layers: Sequence[LayerStreams], formats: FormatChoice, settings: Settings) -> frozenset[int]:
    if settings.skip_layers is not None:
        return frozenset(settings.skip_layers)
    count = sum(1 for layer in layers if not layer.draft)
    if not formats.default.name.startswith(BOUNDARY_FORMATS) or is_hybrid(layers):
        return frozenset()
    ends = min(BOUNDARY_LAYERS, count // 2)
    return frozenset((*range(ends), *range(count - ends, count)))


def _part_pages(
    layer: LayerStreams,
    part: Sequence[Stream],
    formats: FormatChoice,
    block: int,
    settings: Settings,
    compressed: bool,
) -> Iterable[Page]:
    """K and V share a page, states share one, every latent, indexer or compressor has its own."""
    heads = [s for s in part if s.role in (Role.KEY, Role.VALUE)]
    states = [s for s in part if s.role in STATE_ROLES]
    stride = next((s.extent.stride for s in part if isinstance(s.extent, Strided)), None)
    if heads:
        yield _attention_page(layer.index, tuple(heads), formats, block, settings)
    if states:
        yield _state_page(layer.index, tuple(states), formats, settings)
    for stream in part:
        if stream.role in (Role.LATENT, Role.INDEX, Role.BUFFER):
            yield _latent_page(
                layer.index, stream, formats, _latent_block(stream, block, stride, compressed), compressed
            )


def _latent_block(stream: Stream, block: int, stride: int | None, compressed: bool) -> int:
    """Tokens of a block: windows and compressors of compressed attention have sizes of their own."""
    if stream.role is Role.BUFFER:
        if stride not in COMPRESSOR_BLOCK:
            known = " and ".join(map(str, COMPRESSOR_BLOCK))
            raise usage_error(f"vLLM has no compressor for a stride of {stride} tokens", help=f"it has {known}")
        return COMPRESSOR_BLOCK[stride]
    return COMPRESSED_WINDOW_BLOCK if compressed and isinstance(stream.extent, Window) else block


def _keep(stream: Stream) -> Keep:
    if isinstance(stream.extent, Window):
        return Keep.CHUNK if stream.extent.chunked else Keep.WINDOW
    return Keep.ENCODER if isinstance(stream.extent, Encoder) else Keep.FULL


def _attention_page(
    layer: int, streams: tuple[Stream, ...], formats: FormatChoice, block: int, settings: Settings
) -> Page:
    first, *_ = streams
    mine = heads_per_rank(first, settings.parallel.tensor, NAME)
    slot = sum(s.rows_bytes(block, formats, heads=1) for s in streams)
    align = next((n for name, n in SLOT_ALIGNMENT.items() if formats.default.name.startswith(name)), 1) * block
    padded = round_up(slot, align)
    return Page(
        layer=layer, keep=_keep(first), streams=streams, formats=formats, block_size=block,
        rank_bytes=slot * mine, whole_bytes=slot * first.heads, page_bytes=padded * mine,
    )  # fmt: skip


def _state_page(layer: int, streams: tuple[Stream, ...], formats: FormatChoice, settings: Settings) -> Page:
    tensor, drafts = settings.parallel.tensor, settings.num_speculative_tokens

    def size(stream: Stream, ranks: int) -> int:
        # A convolution also keeps the inputs of tokens that may still be rejected.
        rows = state_rows(stream) + (drafts if stream.role is Role.CONV else 0)
        return stream.rows_bytes(rows, formats, heads=heads_per_rank(stream, ranks, NAME))

    rank = sum(size(s, tensor) for s in streams)
    # Without prefix caching a request has one state, whatever its length: no block grid.
    return Page(
        layer=layer, keep=Keep.STATE, streams=streams, formats=formats, block_size=0,
        rank_bytes=rank, whole_bytes=sum(size(s, 1) for s in streams), page_bytes=rank,
    )  # fmt: skip


def _latent_page(layer: int, stream: Stream, formats: FormatChoice, block: int, compressed: bool) -> Page:
    stride = stream.extent.stride if isinstance(stream.extent, Strided) else 1
    content = stream.rows_bytes(ceil_div(block, stride), formats)
    page = content
    if compressed:
        align = PACKED_ALIGNMENT if formats.default.name == "fp8_ds_mla" else PLAIN_ALIGNMENT
        page = round_up(content, align)
    return Page(
        layer=layer, keep=_keep(stream), streams=(stream,), formats=formats, block_size=block,
        rank_bytes=content, whole_bytes=content, page_bytes=page, latent=True, stride=stride,
    )  # fmt: skip


def resized(page: Page, block: int) -> Page:
    """The same cache with blocks of `block` tokens."""
    if page.block_size == block:
        return page
    rank = page.rank_bytes * block // page.block_size
    padding = (page.page_bytes - page.rank_bytes) * block // page.block_size
    whole = page.whole_bytes * block // page.block_size
    return replace(page, block_size=block, rank_bytes=rank, whole_bytes=whole, page_bytes=rank + padding)


def _align_states(pages: list[Page], settings: Settings, block: int) -> list[Page]:
    """Attention blocks are enlarged until a page holds a state, and the state is padded to the page."""
    states = [p.page_bytes for p in pages if p.keep is Keep.STATE]
    tokens = [p for p in pages if p.keep is not Keep.STATE]
    if not states or not tokens:
        return pages
    first = tokens[0]
    token_bytes = first.page_bytes // first.block_size
    kernel = max(block, MLA_HYBRID_ALIGNMENT if first.latent else DEFAULT_BLOCK)
    size = max(block, kernel * ceil_div(max(states), kernel * token_bytes))
    shared = size * token_bytes
    grid = size if settings.aligned_states else 0
    return [
        replace(p, page_bytes=max(p.page_bytes, shared), block_size=grid) if p.keep is Keep.STATE else resized(p, size)
        for p in pages
    ]


def _align_formats(pages: list[Page], skipped: frozenset[int], block: int) -> list[Page]:
    """Quantised layers beside unquantised ones: blocks grow until their page covers the larger kind's."""
    quantised = next((p for p in pages if p.layer not in skipped and p.keep is not Keep.STATE), None)
    whole = next((p for p in pages if p.layer in skipped and p.keep is not Keep.STATE), None)
    if quantised is None or whole is None:
        return pages
    small, large = quantised.page_bytes // quantised.block_size, whole.page_bytes // whole.block_size
    if large <= small:
        return pages
    kernel = DEFAULT_BLOCK
    align = max(kernel, block)
    size = max(block, align * ceil_div(large * kernel, align * small))
    return [resized(p, size) if p.keep is not Keep.STATE else p for p in pages]


def check_context_parallel(pages: Iterable[Page], settings: Settings) -> None:
    """Windows cannot be shared over context-parallel ranks, nor can heads that are not replicated."""
    share = settings.parallel.decode_context
    if share == 1:
        return
    for page in pages:
        if page.keep in (Keep.WINDOW, Keep.CHUNK):
            raise usage_error("vLLM does not shard sliding or chunked windows over -dcp ranks", help="use -dcp 1")
        stream, *_ = page.streams
        if page.keep is Keep.FULL and stream.sharding is Sharding.HEADS:
            replicas = settings.parallel.tensor // min(stream.heads, settings.parallel.tensor)
            if replicas % share:
                raise usage_error(
                    f"-dcp {share} needs {share} replicas of each KV head: -tp {settings.parallel.tensor} over"
                    f" {stream.heads} heads gives {replicas}",
                    help="raise -tp or lower -dcp",
                )
