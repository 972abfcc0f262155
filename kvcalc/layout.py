"""A model's cache, laid out: groups of layers with the same streams.

What every question downstream is asked of. A model spec gives it (`ModelSpec.layout`), and it is small enough
to be kept compiled beside a shipped spec, so that a sizing query needs neither YAML nor validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kvcalc.formats import Role
from kvcalc.streams import Encoder, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """All layers with the same caches."""

    names: tuple[str, ...]
    """Entries of the spec's `attention:` table that each of these layers has."""
    label: str
    source: str
    """Of the formula: paper or repository."""
    streams: tuple[Stream, ...]
    """Of one layer, an engine's own buffers included."""
    indices: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def logical_streams(self) -> tuple[Stream, ...]:
        """The streams that count as cache: an engine's own buffers are left out."""
        return tuple(stream for stream in self.streams if stream.role is not Role.BUFFER)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """The decoder's layers, in groups in the order of their first layer."""

    name: str
    context: int | None
    """Tokens (max_position_embeddings)."""
    encoder_context: int | None
    """Fixed length of the encoder's output, where the model has one."""
    groups: tuple[CacheGroup, ...]

    @property
    def has_encoder(self) -> bool:
        """Whether any layer keeps K and V of an encoder's tokens."""
        return any(isinstance(stream.extent, Encoder) for group in self.groups for stream in group.streams)

    def layout(self) -> CacheLayout:
        """Itself, so that a layout answers wherever a spec does."""
        return self


class HasLayout(Protocol):
    """A model spec, or its layout."""

    def layout(self) -> CacheLayout: ...
