"""The highest number of blocks while a prompt is prefilled: by looking at every single step."""

from __future__ import annotations

import pytest
from factories import chunked, full, model, short_conv, sliding
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.cache_dtypes import BF16
from kvcalc.engines.vllm import ENGINE, planned
from kvcalc.engines.vllm.sequence import Counter

MODELS = {
    "full": model((3, full())),
    "window": model((2, sliding(sliding_window=30))),
    "full and windows": model((1, full()), (2, sliding(sliding_window=100)), (1, sliding(sliding_window=7))),
    "full and chunks": model((1, full()), (3, chunked(attention_chunk_size=100))),
    "states": model((2, short_conv())),
    "full and states": model((1, full()), (2, short_conv())),
    "windows and states": model((1, sliding(sliding_window=100)), (1, short_conv())),
}


@pytest.mark.parametrize("name", MODELS)
@given(
    step=st.sampled_from([5, 16, 24, 48, 100, 256]),
    block=st.sampled_from([16, 32, 48]),
    tokens=st.integers(1, 4000),
    drafts=st.sampled_from([0, 1, 3]),
    caches=st.booleans(),
)
def test_no_step_holds_more(name: str, step: int, block: int, tokens: int, drafts: int, caches: bool) -> None:
    options = ENGINE.configure(
        max_num_batched_tokens=step, block_size=block, num_speculative_tokens=drafts, enable_prefix_caching=caches
    )
    groups = planned(MODELS[name], BF16, options).groups
    counter = Counter(settings=options, max_model_len=4096, encoder_len=0)
    every = [
        sum(counter.held(group.first, min(start + step, tokens), start) for group in groups)
        for start in range(0, tokens, step)
    ]
    assert counter.peak(groups, tokens) == max(every)


def test_a_peak_before_the_last_step_beside_states_without_blocks() -> None:
    """Steps of 12 over a window of 30 in blocks of 16: step 7 (tokens 72 to 83) sees 43 to 83, in blocks 2 to 5; the
    last, token 84 alone, sees 55 to 84, in blocks 3 to 5; the first four see three blocks at most. A state is one."""
    options = ENGINE.configure(max_num_batched_tokens=12, block_size=16, enable_prefix_caching=False)
    spec = model((1, sliding(sliding_window=30)), (1, short_conv()))
    groups = planned(spec, BF16, options).groups
    assert [group.first.block_size for group in groups] == [16, 0]
    assert Counter(settings=options, max_model_len=4096, encoder_len=0).peak(groups, 85) == 4 + 1
