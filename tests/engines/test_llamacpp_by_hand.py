"""llama.cpp's cells, cause by cause, by hand (llama-context.cpp, llama-kv-cache-iswa.cpp of 0.5.0)."""

from __future__ import annotations

from typing import Any

import pytest
from engine_allocations import (
    CONV,
    DECODER,
    DENSE,
    HYBRID,
    ROW,
    STATE,
    WINDOWED,
    allocated,
    causes,
)
from engine_factories import (
    cross,
    full,
    mamba2,
    mla,
    model,
)

from kvcalc.cache_dtypes import BF16
from kvcalc.engines import llamacpp


def test_llamacpp_allocates_every_cell_of_its_context() -> None:
    """1,000 tokens are padded to 1,024 cells a sequence; windows take pad256(100 + 512) = 768."""
    answer = allocated("llama.cpp", WINDOWED, 1000, 3, pp=2)
    assert answer.per_stage_bytes == (3 * 2 * 768 * ROW, 3 * 1024 * ROW)
    assert causes(answer) == {
        "window cells beyond the window (micro-batch, padding)": 3 * 2 * 668 * ROW,
        "padding and unused cells of the context": 3 * 24 * ROW,
    }
    assert (answer.unit, answer.unit_tokens, answer.units) == ("cell", 1, 3 * 1024)
    assert [(f.name, f.meaning, f.units, f.bytes) for f in answer.figures] == [
        ("cells", "cells per stream of sequences", 1024, 0),
        ("swa_cells", "cells for a window of 100", 768, 0),
    ]
    assert allocated("llama.cpp", DENSE, 1000, pp=2).per_stage_bytes == (2 * 1024 * ROW, 1024 * ROW)
    assert allocated("llama.cpp", model({"f": full()}, "f" * 8), 1, pp=3).per_stage_bytes == (
        3 * 256 * ROW, 3 * 256 * ROW, 2 * 256 * ROW,
    )  # fmt: skip
    assert allocated("llama.cpp", DENSE, 1000, pp=3).per_rank_bytes == 1024 * ROW


@pytest.mark.parametrize(
    ("options", "batch", "cells", "window_cells", "streams"),
    [
        # unified: one stream of pad256(3 x 1,000) cells; windows 3 x 100 + 512 -> 1,024
        ({"kv_unified": True}, 3, 3072, 1024, 1),
        ({"kv_unified": True, "n_seq_max": 7}, 3, 7168, 1280, 1),
        ({"swa_full": True}, 3, 1024, 1024, 3),
        ({"n_ctx": 3000, "n_seq_max": 3, "kv_unified": False}, 3, 1024, 768, 3),
        ({"n_ctx": 5000, "n_seq_max": 4}, 3, 1280, 768, 4),
        ({"n_ubatch": 100}, 1, 1024, 256, 1),
        ({"n_batch": 100}, 1, 1024, 256, 1),
        ({"n_ubatch": 5000}, 1, 1024, 1024, 1),
        # the context holds fewer tokens than a micro-batch
        ({"n_ctx": 1001}, 1, 1024, 768, 1),
    ],
)
def test_llamacpp_cells(options: dict[str, Any], batch: int, cells: int, window_cells: int, streams: int) -> None:
    answer = allocated("llama.cpp", WINDOWED, 1000, batch, **options)
    assert answer.allocated_bytes == streams * (cells + 2 * window_cells) * ROW
    assert [figure.units for figure in answer.figures] == [cells, window_cells]


def test_llamacpp_contexts_of_short_sequences() -> None:
    """Unified: 3 x 100 tokens are 512 cells; apart: 256 each, also where 256 cells are given for 1,000 sequences."""
    assert allocated("llama.cpp", DENSE, 100, 3, kv_unified=True).units == 512
    assert allocated("llama.cpp", DENSE, 100, 3).units == 3 * 256
    assert allocated("llama.cpp", DENSE, 100, n_ctx=256, n_seq_max=1000).units == 1000 * 256
    assert allocated("llama.cpp", DENSE, 100, n_ctx=600, n_seq_max=2).units == 2 * 512


def test_llamacpp_states_and_encoders_are_one_a_sequence() -> None:
    answer = allocated("llama.cpp", HYBRID, 256, 2, n_seq_max=5)
    states = 2 * (CONV * 2 + STATE * 4)  # both parts in fp32
    assert causes(answer) == {
        "states of unused sequences": 3 * states, "padding and unused cells of the context": 3 * 256 * ROW,
    }  # fmt: skip
    assert answer.kv_cache_dtype == "bf16,conv=fp32,state=fp32"
    answer = allocated("llama.cpp", DECODER, 256, 2, encoder=1500, n_seq_max=3)
    assert answer.allocated_bytes == 3 * 2 * (256 * ROW + 1500 * 2048)


def test_llamacpp_without_a_context_or_an_encoder_that_is_stated() -> None:
    """The smallest context is one padding of 256 cells."""
    context = llamacpp.cells(llamacpp.Settings())
    assert (context.per_sequence, context.sequences, context.streams) == (256, 1, 1)
    stream, *_ = cross().streams()
    assert llamacpp.stream_cells(stream, context, llamacpp.Settings()) == 0


@pytest.mark.parametrize("engine", ["llama.cpp", "transformers"])
def test_layers_for_drafts_are_not_kept_where_none_are_made(engine: str) -> None:
    plain, drafts = (allocated(engine, model({"f": full()}, "fff", mtp=mtp), 256) for mtp in (None, "f"))
    assert plain.allocated_bytes == drafts.allocated_bytes == 3 * 256 * ROW


def test_llamacpp_prints_a_line_for_each_cache() -> None:
    """2 MiB of keys and 2 of values in the full layer of 1,024 cells; windows in a cache of their own."""
    answer = allocated("llama.cpp", WINDOWED, 1000)
    assert answer.notes == (
        "llama_kv_cache: size =    4.00 MiB (  1024 cells,   1 layers,  1/1 seqs), K:    2.00 MiB, V:    2.00 MiB",
        "llama_kv_cache: size =    6.00 MiB (   768 cells,   2 layers,  1/1 seqs), K:    3.00 MiB, V:    3.00 MiB",
    )
    assert allocated("llama.cpp", model({"a": mamba2()}, "aa"), 10).notes == ()
    found = llamacpp.caches(WINDOWED, BF16, llamacpp.Settings(), llamacpp.cells(llamacpp.Settings(n_ctx=1024)))
    assert [(line.key_bytes, line.value_bytes, line.windowed) for line in found] == [
        (1024 * 2048, 1024 * 2048, False), (2 * 768 * 2048, 2 * 768 * 2048, True),
    ]  # fmt: skip
    assert "(   256 cells,   2 layers," in allocated("llama.cpp", DECODER, 10, encoder=1500).notes[0]
    (line,) = allocated("llama.cpp", model({"m": mla()}, "mm"), 10, 3, n_seq_max=3).notes
    assert "(   256 cells,   2 layers,  3/3 seqs), K:    1.69 MiB, V:    0.00 MiB" in line
