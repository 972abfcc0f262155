"""How many blocks one sequence holds in vLLM, while it decodes, while it prefills, and on admission.

Rules: vLLM 0.33.0 v1/core/single_type_kv_cache_manager.py (get_num_skipped_tokens, remove_skipped_blocks,
MambaManager), kv_cache_manager.py allocate_slots, kv_cache_interface.py max_admission_blocks_per_request.

With T the tokens that need a slot in this step and p those processed before it:

    full     ceil(T / (b x dcp))
    window   ceil(T / b) - floor(max(0, p - W + 1 - extra) / b)
    chunk    ceil(T / b) - floor(floor(p / C) x C / b)
    state    1, and another one while a step crosses a block of the prefix-cache grid; + speculative tokens
    encoder  ceil(E / b)

Blocks are freed before the next step, so a prefill in steps of c tokens holds about W + c at its peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm

from kvcalc.engines.vllm.groups import Group, Pool
from kvcalc.engines.vllm.pages import Keep, Page
from kvcalc.engines.vllm.settings import Settings
from kvcalc.formats import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Counts blocks for one engine configuration. All lengths in tokens."""

    settings: Settings
    max_model_len: int
    encoder_len: int

    @property
    def extra_retained(self) -> int:
        """Tokens below the window that a chain of prediction layers may still read (num_prefill_lookahead - 1)."""
        return max(0, self.settings.num_speculative_tokens - 1)

    def held(self, page: Page, tokens: int, processed: int) -> int:
        """Blocks of one group in the step that brings a sequence from `processed` to `tokens` tokens."""
        size = page.block_size
        if page.keep is Keep.STATE:
            return self._states(size, tokens, processed)
        if page.keep is Keep.ENCODER:
            return ceil_div(self.encoder_len, size)
        if page.keep is Keep.WINDOW:
            skipped = max(0, processed - page.span + 1 - self.extra_retained)
            return ceil_div(tokens, size) - skipped // size
        if page.keep is Keep.CHUNK:
            return ceil_div(tokens, size) - processed // page.span * page.span // size
        return ceil_div(tokens, size * self.settings.parallel.decode_context)

    @property
    def at_rest(self) -> int:
        """States of one request between steps."""
        return 1 + self.settings.num_speculative_tokens

    def _states(self, grid: int, tokens: int, processed: int) -> int:
        crossing = grid and processed and ceil_div(processed, grid) < ceil_div(tokens, grid)
        return self.at_rest + bool(crossing)

    def highest(self, page: Page, tokens: int) -> int:
        """Most blocks that a decoding sequence holds at any length up to `tokens`."""
        if page.keep is Keep.STATE:
            return self.at_rest
        if page.keep not in (Keep.WINDOW, Keep.CHUNK):
            return self.held(page, tokens, tokens)
        lengths = self._chunk_ends(page, tokens) if page.keep is Keep.CHUNK else self._full_windows(page, tokens)
        return max(self.held(page, length, length - 1) for length in lengths)

    def _full_windows(self, page: Page, tokens: int) -> Iterable[int]:
        """Once the window is full the count repeats every block: one period, and the last length before it."""
        full = page.span + self.extra_retained
        return range(min(tokens, full), min(tokens, full + page.block_size) + 1)

    def _chunk_ends(self, page: Page, tokens: int) -> Iterable[int]:
        """Chunks start anywhere within a block: one period of them, and the one that is under way."""
        whole = range(1, min(tokens // page.span, page.block_size) + 1)
        return (*(number * page.span for number in whole), tokens)

    def peak(self, groups: tuple[Group, ...], tokens: int) -> int:
        """Most blocks of all groups at once while a prompt is prefilled in steps of max_num_batched_tokens."""
        step = self.settings.max_num_batched_tokens
        last, period = ceil_div(tokens, step), _period([g.first for g in groups], step)
        # A step of an earlier period holds no more than the one a period later, unless that is the last, cut short.
        return max(
            sum(self.held(g.first, min(number * step, tokens), (number - 1) * step) for g in groups)
            for number in range(max(1, last - period), last + 1)
        )

    def steady(self, groups: tuple[Group, ...], tokens: int) -> int:
        """Blocks while the token after `tokens` is being computed."""
        end = min(tokens + 1, self.max_model_len)
        return sum(self.held(g.first, end, tokens) for g in groups)

    def admission(self, page: Page, tokens: int | None = None) -> int:
        """Blocks that one request of `tokens` tokens (default: max_model_len) is charged with on admission."""
        limit = self.max_model_len if tokens is None else tokens
        size, flying = page.block_size, self.settings.in_flight_tokens
        if page.keep is Keep.WINDOW:
            return ceil_div(min(page.span - 1 + self.extra_retained + flying, limit), size) + 1
        if page.keep is Keep.CHUNK:
            return ceil_div(min(page.span + flying, limit), size)
        if page.keep is Keep.STATE:
            return self.at_rest + bool(size)
        if page.keep is Keep.ENCODER:
            return ceil_div(self.encoder_len, size)
        share = self.settings.parallel.decode_context
        return ceil_div(ceil_div(limit, share), size)

    def admission_of(self, pool: Pool, tokens: int | None = None) -> int:
        """Of all groups: what the log's concurrency divides by."""
        return sum(self.admission(g.first, tokens) for g in pool.groups)


PERIOD = 8192
"""Steps that are looked at, at most."""


def _period(pages: Sequence[Page], step: int) -> int:
    """Steps after which the counts of full windows, chunks and states repeat; those of all tokens only grow."""
    moving = [page for page in pages if page.keep in (Keep.WINDOW, Keep.CHUNK, Keep.STATE)]
    chunks = [page.span for page in moving if page.keep is Keep.CHUNK]
    return min(PERIOD, lcm(step, *(page.block_size or 1 for page in moving), *chunks) // step)
