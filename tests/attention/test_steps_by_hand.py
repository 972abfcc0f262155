"""What one decode step of every kind reads and computes, by hand; a multiply-add is two FLOPs.

Sources: FlashAttention counts 4 x heads x head_dim per row (2 for q k, 2 for p v); DeepSeek-V2, section 2.1.2, for the
two forms of MLA; the kinds' own files for the recurrences.
"""

from __future__ import annotations

import pytest
from factories import (
    block_sparse,
    chunked,
    compressed,
    cross,
    full,
    gated_delta_net,
    kda,
    lightning,
    mamba,
    mamba2,
    mla,
    shared,
    short_conv,
    sliding,
    sparse,
)

from kvcalc.attention import Attention
from kvcalc.formats import Role
from kvcalc.steps import DECODE, PREFILL, Convention, Heads, TopK
from kvcalc.streams import Encoder, Extent, Fixed, Full, Sharding, Strided, Window

EXPANDED = Convention(heads=Heads.EXPANDED)
TOKEN = Fixed(1)
Row = tuple[str, Extent, int, int]
"""(name, rows, units, FLOPs of a unit and row)"""


def headed(rows: Extent, heads: int = 12) -> list[Row]:
    return [("scores", rows, heads, 2 * 96), ("values", rows, heads, 2 * 96)]


def absorbed(rows: Extent) -> list[Row]:
    """Scores over the latent and the rotary part, values over the latent."""
    return [("scores", rows, 12, 2 * (160 + 32)), ("values", rows, 12, 2 * 160)]


def window_and_strides(window: Extent, strides: Extent | None) -> list[Row]:
    found = [("scores (window)", window, 12, 2 * 160), ("values (window)", window, 12, 2 * 160)]
    if strides is not None:
        found += [("scores (compressed)", strides, 12, 2 * 160), ("values (compressed)", strides, 12, 2 * 160)]
    return found


INDEXED = compressed(index_head_dim=24, index_n_heads=5, index_topk=63)
WORK: list[tuple[Attention, Convention, list[Row]]] = [
    (full(), DECODE, headed(Full())),
    (full(v_head_dim=80), DECODE, [("scores", Full(), 12, 2 * 96), ("values", Full(), 12, 2 * 80)]),
    (sliding(), EXPANDED, headed(Window(100))),
    (chunked(), DECODE, headed(Window(100, chunked=True))),
    (cross(), DECODE, headed(Encoder())),
    # three blocks of 20 tokens are read, every indexer key of 40 is met by 3 heads
    (block_sparse(), DECODE, [("index", Full(), 3, 2 * 40), *headed(TopK(Full(), 60))]),
    (
        block_sparse(v_head_dim=80), DECODE,
        [("index", Full(), 3, 80), ("scores", TopK(Full(), 60), 12, 192), ("values", TopK(Full(), 60), 12, 160)],
    ),
    (mla(), DECODE, absorbed(Full())),
    (mla(sliding_window=7), DECODE, absorbed(Window(7))),
    # K (96 + 32) and V (80) of every head, made from the latent: 2 x 160 x (96 + 80)
    (
        mla(), PREFILL,
        [("decompression", Full(), 12, 2 * 160 * 176), ("scores", Full(), 12, 2 * 128), ("values", Full(), 12, 2 * 80)],
    ),
    (sparse(), PREFILL, [("index", Full(), 5, 2 * 96), *absorbed(TopK(Full(), 63))]),
    (sparse(index_cache="shared"), DECODE, absorbed(TopK(Full(), 63))),
    (compressed(compress_ratio=0), DECODE, window_and_strides(Window(100), None)),
    (compressed(), DECODE, window_and_strides(Window(100), Strided(4))),
    (INDEXED, DECODE, [*window_and_strides(Window(100), TopK(Strided(4), 63)), ("index", Strided(4), 5, 2 * 24)]),
    (
        compressed(index_head_dim=24, index_n_heads=1, index_topk=63), DECODE,
        [*window_and_strides(Window(100), TopK(Strided(4), 63)), ("index", Strided(4), 1, 2 * 24)],
    ),
    # states: 2 x taps per channel, and per element of the state what the kind's recurrence costs
    (mamba(), DECODE, [("convolution", TOKEN, 700, 2 * 4), ("state", TOKEN, 700 * 18, 6)]),
    (mamba2(), DECODE, [("convolution", TOKEN, 700 + 2 * 5 * 18, 2 * 4), ("state", TOKEN, 700 * 18, 5)]),
    (
        gated_delta_net(), DECODE,
        [("convolution", TOKEN, 2 * 5 * 24 + 10 * 36, 2 * 4), ("state", TOKEN, 10 * 24 * 36, 7)],
    ),
    (kda(), DECODE, [("convolution", TOKEN, 3 * 10 * 24, 2 * 4), ("state", TOKEN, 10 * 24 * 24, 7)]),
    (lightning(), DECODE, [("state", TOKEN, 10 * 24 * 24, 5)]),
    (short_conv(), DECODE, [("convolution", TOKEN, 700, 2 * 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "convention", "rows"), WORK, ids=lambda value: getattr(value, "kind", None))
def test_a_step_costs_these_flops(kind: Attention, convention: Convention, rows: list[Row]) -> None:
    found = kind.work(convention)
    assert [(work.name, work.extent, work.units, work.flops) for work in found] == rows
    for work in found:
        # An indexer's keys are on every rank and its scan comes first; decompression is the weights' in a prefill.
        assert (work.split, work.kernel) == ((False, "index") if work.name == "index" else (True, "attention"))
        assert work.decode_only == (work.name == "decompression")


BY_HEADS = [kind for kind, convention, _ in WORK if convention is DECODE and "num_attention_heads" in dir(kind)]


@pytest.mark.parametrize("kind", [k for k in BY_HEADS if k.streams()[0].role is not Role.STATE], ids=repr)
def test_a_layer_that_reads_anothers_cache_brings_its_own_queries(kind: Attention) -> None:
    reader = shared(num_attention_heads=7).resolve({"layer0": kind})
    own, its = kind.work(), reader.work()
    assert [(w.name, w.extent, w.flops) for w in its] == [(w.name, w.extent, w.flops) for w in own]
    assert [w.units for w in its] == [w.units if w.name == "index" else 7 for w in own]
    assert reader.decode_reads() == kind.decode_reads()
    assert [r.heads for r in reader.decode_reads(EXPANDED) if r.kernel != "index"] == [
        7 for r in kind.decode_reads(EXPANDED) if r.kernel != "index"
    ]
    assert reader.work(num_attention_heads=5)[-1].units == (own[-1].units if own[-1].name == "index" else 5)
    assert reader.decode_reads(EXPANDED, num_attention_heads=5)[0].heads == 5


READS: list[tuple[Attention, Convention, list[tuple[str, Extent, int, bool]]]] = [
    # (stream, rows, heads, dealt out over ranks)
    (full(), DECODE, [("key", Full(), 3, True), ("value", Full(), 3, True)]),
    (full(), EXPANDED, [("key", Full(), 12, True), ("value", Full(), 12, True)]),
    (cross(), DECODE, [("key", Encoder(), 3, True), ("value", Encoder(), 3, True)]),
    (
        block_sparse(), DECODE,
        [("key", TopK(Full(), 60), 3, True), ("value", TopK(Full(), 60), 3, True), ("index", Full(), 1, False)],
    ),
    (
        block_sparse(), EXPANDED,
        [("key", TopK(Full(), 60), 12, True), ("value", TopK(Full(), 60), 12, True), ("index", Full(), 1, False)],
    ),
    (mla(), DECODE, [("latent", Full(), 1, False)]),
    (mla(), EXPANDED, [("latent", Full(), 12, True)]),
    (sparse(), DECODE, [("latent", TopK(Full(), 63), 1, False), ("index", Full(), 1, False)]),
    (sparse(), EXPANDED, [("latent", TopK(Full(), 63), 12, True), ("index", Full(), 1, False)]),
    (sparse(index_cache="shared"), DECODE, [("latent", TopK(Full(), 63), 1, False)]),
    (compressed(compress_ratio=0), DECODE, [("window", Window(100), 1, False)]),
    (compressed(), EXPANDED, [("window", Window(100), 12, True), ("compressed", Strided(4), 12, True)]),
    (
        INDEXED, DECODE,
        [("window", Window(100), 1, False), ("compressed", TopK(Strided(4), 63), 1, False),
         ("index", Strided(4), 1, False)],
    ),
    (mamba(), DECODE, [("conv", Fixed(3), 700, True), ("state", Fixed(1), 700, True)]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "convention", "rows"), READS, ids=lambda value: getattr(value, "kind", None))
def test_a_step_reads_these_rows(
    kind: Attention, convention: Convention, rows: list[tuple[str, Extent, int, bool]]
) -> None:
    found = kind.decode_reads(convention)
    assert [(read.stream.name, read.extent, read.heads, read.split) for read in found] == rows
    assert [read.kernel for read in found] == ["index" if name == "index" else "attention" for name, *_ in rows]


def test_compressors_keep_the_inputs_of_strides_that_are_not_full_in_fp32() -> None:
    """vLLM 0.33.0 models/deepseek_v4/compressor.py: content and gate, of two strides where they overlap (ratio 4)."""

    def buffers(kind: Attention) -> dict[str, tuple[int, Extent, str | None]]:
        return {s.name: (s.width, s.extent, s.dtype) for s in kind.streams() if s.role is Role.BUFFER}

    assert buffers(INDEXED) == {
        "compressor": (2 * 2 * 160, Window(8), "fp32"),
        "index_compressor": (2 * 2 * 24, Window(8), "fp32"),
    }
    assert buffers(compressed(compress_ratio=128)) == {"compressor": (2 * 160, Window(128), "fp32")}
    assert buffers(compressed(compress_ratio=0)) == {}


@pytest.mark.parametrize("kind", [mla(), sparse(), block_sparse(), compressed(), INDEXED], ids=repr)
def test_latents_and_indexer_keys_have_one_head_on_every_rank(kind: Attention) -> None:
    for stream in kind.streams():
        if stream.role not in (Role.KEY, Role.VALUE):
            assert (stream.heads, stream.sharding) == (1, Sharding.REPLICATED)


LABELS = [
    (full(num_key_value_heads=12), "MHA 12/12 x 96"),
    (full(v_head_dim=80), "GQA 12/3 x 96/80"),
    (full(v_head_dim=96), "GQA 12/3 x 96"),
    (full(num_key_value_heads=1), "MQA 12/1 x 96"),
    (full(num_attention_heads=1, num_key_value_heads=1), "MHA 1/1 x 96"),
    (sliding(sliding_window=4096), "GQA 12/3 x 96, window 4,096"),
    (chunked(attention_chunk_size=8192), "GQA 12/3 x 96, chunk 8,192"),
    (cross(), "cross GQA 12/3 x 96"),
    (shared(), "shares the cache of `layer0`"),
    (block_sparse(), "GQA 12/3 x 96 + index 40, top 3 x 20"),
    (mla(), "MLA 12 x (160+32)"),
    (mla(sliding_window=4096), "MLA 12 x (160+32), window 4,096"),
    (sparse(index_topk=2048), "MLA 12 x (160+32) + index 96, top 2,048"),
    (sparse(index_cache="shared"), "MLA 12 x (160+32), top 63"),
    (compressed(compress_ratio=0), "K=V 12 x 160: window 100"),
    (INDEXED, "K=V 12 x 160: window 100 + 1/4, index 24"),
    (mamba(intermediate_size=7000), "Mamba-1 7,000 x 18"),
    (mamba2(), "Mamba-2 10 x 70 x 18"),
    (gated_delta_net(), "GDN 10 x 24 x 36"),
    (kda(), "KDA 10 x 24 x 24"),
    (lightning(), "linear 10 x 24 x 24"),
    (short_conv(conv_dim=2048), "short conv 2,048 x 3"),
]


@pytest.mark.parametrize(("kind", "label"), LABELS, ids=[label for _, label in LABELS])
def test_a_label_holds_the_figures_that_matter(kind: Attention, label: str) -> None:
    assert kind.label == label
