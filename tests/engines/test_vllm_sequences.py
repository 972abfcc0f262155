"""How many blocks one sequence holds in vLLM: every token looked at, block by block."""

from __future__ import annotations

import pytest
from engine_factories import chunked, cross, full, gdn, model, parallel, sliding

from kvcalc.attention import Attention
from kvcalc.cache_dtypes import BF16
from kvcalc.engines.vllm.groups import Group
from kvcalc.engines.vllm.pages import Page, model_pages
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import Settings

WINDOW, CHUNK, ENCODER, LIMIT = 20, 12, 45, 130


def page_and_counter(
    kind: Attention, block: int, drafts: int = 0, step: int = 16, dcp: int = 1
) -> tuple[Page, Counter]:
    settings = Settings(
        block_size=block, num_speculative_tokens=drafts, max_num_batched_tokens=step, enable_prefix_caching=True,
        parallel=parallel(tp=dcp, dcp=dcp),
    )  # fmt: skip
    (page,) = model_pages(model({"a": kind}, "a"), BF16, settings)
    return page, Counter(settings=settings, max_model_len=LIMIT, encoder_len=ENCODER)


def blocks(first: int, behind: int, size: int) -> int:
    """Blocks that hold any of the tokens first, ..., behind - 1."""
    return len({token // size for token in range(first, behind)})


SIZES = [1, 4, 7, 16, 30]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("drafts", [0, 1, 2, 4])
def test_a_window_holds_the_blocks_of_its_tokens(size: int, drafts: int) -> None:
    """The token at p sees p - W + 1 and what follows; draft layers read further back, one token less than drafts."""
    page, counter = page_and_counter(sliding(WINDOW), size, drafts)
    back = WINDOW - 1 + max(0, drafts - 1)
    decoding = [blocks(max(0, last - back), last + 1, size) for last in range(LIMIT)]
    assert [counter.held(page, last + 1, last) for last in range(LIMIT)] == decoding
    assert [counter.highest(page, tokens) for tokens in range(1, LIMIT + 1)] == [
        max(decoding[:tokens]) for tokens in range(1, LIMIT + 1)
    ]
    # a prefill's step of 16: what the first of its tokens sees, up to the last
    steps = [blocks(max(0, done - back), done + 16, size) for done in range(0, LIMIT - 16, 16)]
    assert [counter.held(page, done + 16, done) for done in range(0, LIMIT - 16, 16)] == steps
    assert counter.peak((Group(pages=(page,)),), LIMIT - LIMIT % 16) == max(steps)


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_holds_the_blocks_since_it_began(size: int) -> None:
    page, counter = page_and_counter(chunked(CHUNK), size)
    decoding = [blocks(last // CHUNK * CHUNK, last + 1, size) for last in range(LIMIT)]
    assert [counter.held(page, last + 1, last) for last in range(LIMIT)] == decoding
    assert [counter.highest(page, tokens) for tokens in range(1, LIMIT + 1)] == [
        max(decoding[:tokens]) for tokens in range(1, LIMIT + 1)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_full_layers_and_encoders_hold_all_tokens(size: int) -> None:
    page, counter = page_and_counter(full(), size)
    for tokens in range(1, LIMIT):
        assert counter.held(page, tokens, tokens - 1) == counter.highest(page, tokens) == blocks(0, tokens, size)
        assert counter.steady((Group(pages=(page,)),), tokens) == blocks(0, tokens + 1, size)
        assert counter.admission(page, tokens) == blocks(0, tokens, size)
    # no token comes after the last of the context
    assert counter.steady((Group(pages=(page,)),), LIMIT) == counter.admission(page) == blocks(0, LIMIT, size)
    page, counter = page_and_counter(cross(), size)
    for tokens in (1, LIMIT):
        assert counter.held(page, tokens, 0) == counter.highest(page, tokens) == blocks(0, ENCODER, size)
        assert counter.admission(page, tokens) == blocks(0, ENCODER, size)


@pytest.mark.parametrize("size", SIZES)
def test_context_parallel_ranks_hold_every_other_token(size: int) -> None:
    page, counter = page_and_counter(full(1), size, dcp=2)
    for tokens in range(1, LIMIT):
        assert counter.held(page, tokens, 0) == -(-tokens // (2 * size))
        assert counter.admission(page, tokens) == blocks(0, (tokens + 1) // 2, size)


def test_a_window_is_admitted_with_what_may_be_in_flight() -> None:
    """ceil(min(W - 1 + extra + in flight, L) / b) + 1; a chunk: ceil(min(C + in flight, L) / b). Two steps fly."""
    for drafts, extra in ((0, 0), (1, 0), (2, 1), (4, 3)):
        page, counter = page_and_counter(sliding(WINDOW), 1, drafts)
        assert counter.admission(page) == 19 + extra + 32 + 1
        assert counter.admission(page, 7) == 7 + 1
    page, counter = page_and_counter(sliding(WINDOW), 8)
    assert counter.admission(page) == 7 + 1  # 51 tokens
    page, counter = page_and_counter(chunked(CHUNK), 1)
    assert (counter.admission(page), counter.admission(page, 7)) == (12 + 32, 7)


def test_a_state_is_kept_once_and_twice_where_a_step_leaves_a_block_of_the_grid() -> None:
    """Beside attention; speculative tokens have states of their own."""
    for drafts in (0, 2):
        settings = Settings(num_speculative_tokens=drafts, enable_prefix_caching=True)
        page = next(p for p in model_pages(model({"a": gdn(), "f": full()}, "af"), BF16, settings) if p.keep == "state")
        counter, grid = Counter(settings=settings, max_model_len=LIMIT, encoder_len=0), page.block_size
        assert grid == (288 if drafts else 272)
        assert (
            counter.highest(page, 5000) == counter.held(page, 1, 0) == counter.held(page, grid, grid - 1) == 1 + drafts
        )
        assert counter.held(page, grid + 1, grid) == counter.held(page, 2 * grid + 1, 2 * grid) == 2 + drafts
        assert counter.held(page, grid + 5, 0) == 1 + drafts  # the first step has no state before it
        assert counter.admission(page) == 2 + drafts
        lone = Settings(num_speculative_tokens=drafts)
        (alone,) = model_pages(model({"a": gdn()}, "a"), BF16, lone)
        counter = Counter(settings=lone, max_model_len=LIMIT, encoder_len=0)
        assert counter.held(alone, 300, 200) == counter.admission(alone) == 1 + drafts
