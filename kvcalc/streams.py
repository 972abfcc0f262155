"""A cache is a set of streams: heads x width elements per kept row, an extent, a format, a sharding.

logical bytes = sum over layers and streams of ceil(format.bits(extent.rows(S), heads, width) / 8)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.formats import STATE_ROLES, Format, IntLike, Role, bytes_of, ceil_div, lesser


class Extent(Protocol):
    """How many rows of a stream are kept for a sequence of S tokens (and E encoder tokens)."""

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        """Rows that are kept of S tokens."""
        ...

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        """Rows that the newest of S tokens attends to: never more than are kept."""
        ...

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        """The sum of `visible` over sequences of 1, 2, ... S tokens: the pairs of a causal prefill."""
        ...

    @property
    def saturation(self) -> int:
        """From this many tokens on, rows grow evenly (or not at all)."""
        ...

    @property
    def period(self) -> int:
        """Tokens after which one more step of rows has been added."""
        ...

    @property
    def grows(self) -> bool:
        """Whether rows grow without bound with the tokens."""
        ...

    @property
    def formula(self) -> str:
        """Rows as an expression in S (tokens) and E (encoder tokens)."""
        ...


@dataclass(frozen=True, slots=True)
class Full:
    """Every token is kept."""

    saturation: int = field(default=0, init=False)
    period: int = field(default=1, init=False)
    grows: bool = field(default=True, init=False)
    formula: str = field(default="S", init=False)

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * (tokens + 1) // 2


@dataclass(frozen=True, slots=True)
class Window:
    """The newest `size` tokens are kept: min(S, size). A chunk of `size` tokens needs the same room."""

    size: int
    chunked: bool = False
    """Chunked attention starts anew every `size` tokens: the same capacity, freed chunk by chunk."""
    period: int = field(default=1, init=False)
    grows: bool = field(default=False, init=False)

    @property
    def saturation(self) -> int:
        return self.size

    @property
    def formula(self) -> str:
        return f"min(S, {self.size})"

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return lesser(tokens, self.size)

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        if not self.chunked:
            return lesser(tokens, self.size)
        # Whole chunks before the newest token's own (none at zero tokens).
        return tokens - (ceil_div(tokens, self.size) - lesser(tokens, 1)) * self.size

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        """1 + 2 + ... + W and then W each; in chunks a ramp for every whole chunk, and the one under way."""
        if not self.chunked:
            ramp = lesser(tokens, self.size)
            return ramp * (ramp + 1) // 2 + (tokens - ramp) * self.size
        whole, rest = tokens // self.size, tokens % self.size
        return whole * (self.size * (self.size + 1) // 2) + rest * (rest + 1) // 2


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant number of rows, whatever the length."""

    count: int = 1
    saturation: int = field(default=0, init=False)
    period: int = field(default=1, init=False)
    grows: bool = field(default=False, init=False)

    @property
    def formula(self) -> str:
        return str(self.count)

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * 0 + self.count

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * 0 + self.count

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * self.count


@dataclass(frozen=True, slots=True)
class Encoder:
    """The encoder's tokens are kept, however long the decoder's sequence."""

    saturation: int = field(default=0, init=False)
    period: int = field(default=1, init=False)
    grows: bool = field(default=False, init=False)
    formula: str = field(default="E", init=False)

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * 0 + encoder_tokens

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * 0 + encoder_tokens

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens * encoder_tokens


@dataclass(frozen=True, slots=True)
class Strided:
    """One row for every `stride` complete tokens: floor(S / stride)."""

    stride: int
    saturation: int = field(default=0, init=False)
    grows: bool = field(default=True, init=False)

    @property
    def period(self) -> int:
        return self.stride

    @property
    def formula(self) -> str:
        return f"floor(S / {self.stride})"

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens // self.stride

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return tokens // self.stride

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        """Sum of floor(n / m) over n = 1..S: m tokens each see 1, 2, ... w - 1 rows, the last (S mod m) + 1 see w."""
        whole, rest = tokens // self.stride, tokens % self.stride
        return self.stride * (whole * (whole - 1) // 2) + whole * (rest + 1)


Part = Literal["kv", "index", "cross", "state"]


class Sharding(StrEnum):
    """What tensor parallelism does to a stream."""

    HEADS = "heads"
    """Split over heads, at least one per rank: a rank count above the heads replicates them."""
    REPLICATED = "replicated"
    """Every rank holds it whole (MLA's latent, indexer keys)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What one attention layer keeps of one sequence, of one role.

    Rows hold `heads x width` elements. `dtype` is set where the model itself fixes the format (recurrent
    states); None follows the chosen KV cache dtype.
    """

    role: Role
    heads: int
    width: int
    extent: Extent
    sharding: Sharding = Sharding.HEADS
    dtype: str | None = None
    label: str = ""
    """Distinguishes streams of one role within a kind, as in `conv_qk` and `conv_v`; default: the role."""

    @property
    def name(self) -> str:
        return self.label or self.role.value

    @property
    def part(self) -> Part:
        """Which line of an account of caches it belongs to."""
        if self.role in STATE_ROLES:
            return "state"
        if self.role is Role.INDEX:
            return "index"
        return "cross" if isinstance(self.extent, Encoder) else "kv"

    def format(self, choice: FormatChoice) -> Format:
        """How its rows become bytes; raises KvcalcError where they cannot be stored so."""
        return choice.format(self.role, self.width, self.dtype)

    def elements(self, tokens: IntLike, encoder_tokens: int = 0) -> IntLike:
        """Cached values, without metadata, of one layer and one sequence."""
        return self.extent.rows(tokens, encoder_tokens) * (self.heads * self.width)

    def bytes(self, tokens: IntLike, choice: FormatChoice, encoder_tokens: int = 0) -> IntLike:
        """Logical bytes of one layer and one sequence of `tokens` tokens."""
        return self.rows_bytes(self.extent.rows(tokens, encoder_tokens), choice)

    def rows_bytes(self, rows: IntLike, choice: FormatChoice, *, heads: int | None = None) -> IntLike:
        """Bytes of `rows` rows (of `heads` heads, where not of all): bits are rounded up to a byte once."""
        return bytes_of(self.format(choice).bits(rows, self.heads if heads is None else heads, self.width))
