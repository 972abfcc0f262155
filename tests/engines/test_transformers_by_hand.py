"""transformers' caches while a sequence decodes, cause by cause, by hand (cache_utils.py of 5.23.0)."""

from __future__ import annotations

from dataclasses import replace

from engine_allocations import (
    CONV,
    DECODER,
    HYBRID,
    ROW,
    WINDOWED,
    allocated,
    causes,
)
from engine_factories import (
    compressed,
    full,
    mla,
    model,
    sliding,
)

from kvcalc.engines.base import Allocation


def test_transformers_windows_and_states_are_shared_by_heads_and_layers() -> None:
    """A window holds W tokens while it decodes; a convolution one column more; states are fp32."""
    answer = allocated("transformers", WINDOWED, 1000, 3, tp=2, pp=3, dp=2)
    assert answer.allocated_bytes == answer.logical_bytes == 3 * (2 * 100 + 1000) * ROW
    assert answer.per_stage_bytes == (2 * 100 * ROW // 2, 2 * 100 * ROW // 2, 2 * 1000 * ROW // 2)
    assert (answer.unit, answer.unit_tokens, answer.units) == ("token", 1, 1000)
    answer = allocated("transformers", HYBRID, 10, 2)
    assert causes(answer) == {"one more column of the convolution": 2 * 2 * CONV // 3}
    assert answer.kv_cache_dtype == "bf16,conv=bf16,state=fp32"
    assert [f.units for f in answer.figures] == [10, 10, 11, 11]


def test_transformers_compressors_wait_for_a_stride() -> None:
    """Ratio 4: up to 3 tokens' content and gate of two strides (2,048 and 512 elements), and the stride before."""
    spec = model({"c": compressed(4, 128)}, "c")
    kept = {2: 2 * 2 * 512, 3: 3 * 2 * 512, 4: (4 + 1) * 1024 + 256, 1000: (128 + 250) * 1024 + 250 * 256}
    for tokens, buffers in (
        (2, 2 * (4096 + 1024)),
        (3, 3 * 5120),
        (4, 3 * 5120 + 4 * 2560),
        (1000, 3 * 5120 + 4 * 2560),
    ):
        answer = allocated("transformers", spec, tokens)
        assert causes(answer) == {"compressor buffers": buffers}
        assert answer.logical_bytes == kept[tokens]
    # ratio 128: one stride at a time
    spec = model({"h": compressed(128)}, "h")
    assert causes(allocated("transformers", spec, 1000)) == {"compressor buffers": 127 * 2048}
    # a window without strides is stored as keys and as values; a what-if's window of a latent is not
    spec = model({"w": compressed(0)}, "w")
    assert causes(allocated("transformers", spec, 1000)) == {"a latent stored as keys and as values": 128 * 1024}
    assert allocated("transformers", model({"m": replace(mla(), sliding_window=100)}, "m"), 1000).waste == ()


def test_transformers_static_caches_are_as_long_as_they_are_given() -> None:
    answer = allocated("transformers", WINDOWED, 50, cache="static", max_cache_len=200)
    assert causes(answer) == {"allocated up to max_cache_len": (2 * (100 - 50) + 150) * ROW}
    assert causes(allocated("transformers", WINDOWED, 50, cache="static")) == {}
    assert allocated("transformers", WINDOWED, 50, cache="static", max_cache_len=70).allocated_bytes == 3 * 70 * ROW
    encoder = allocated("transformers", DECODER, 10, encoder=1500, cache="static", max_cache_len=30)
    assert encoder.allocated_bytes == 2 * (30 * ROW + 1500 * 2048)
    assert [f.units for f in answer.figures] == [50, 50, 50, 50]


def test_transformers_quantised_caches_have_a_tail() -> None:
    """int4 codes with 4 B for each 64: 72 B for 128 elements; the whole cache is coded anew when a tail reaches 128."""
    coded, plain = 2 * 8 * 72, ROW

    def held(tokens: int, prompt: int | None = 100, window: bool = False) -> Allocation:
        spec = model({"s": sliding(150)} if window else {"f": full()}, "s" if window else "f")
        return allocated("transformers", spec, tokens, cache="quantized", prompt_len=prompt)

    # the prompt is coded at once
    assert held(100).allocated_bytes == held(77, None).allocated_bytes * 100 // 77 == 100 * coded
    assert held(90).allocated_bytes == 90 * coded
    # 27 tokens on, they are a tail; the most so far is now
    assert held(127).allocated_bytes == held(127).logical_bytes == 100 * coded + 27 * plain
    # the 128th codes all of it: 228 coded, but 127 in full were there before
    assert held(250).allocated_bytes == held(228).allocated_bytes  # which was more than there is now
    answer = held(228)
    assert (answer.logical_bytes, answer.allocated_bytes) == (228 * coded, 100 * coded + 127 * plain)
    assert causes(answer) == {"tail before it is quantised": 127 * plain - 128 * coded}
    # a window is kept in full
    answer = held(400, None, window=True)
    assert (answer.logical_bytes, answer.allocated_bytes) == (150 * coded, 400 * coded)
    assert causes(answer) == {"windows kept in full": 250 * coded}
    assert held(120, None, window=True).waste == ()
