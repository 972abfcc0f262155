"""The attention kinds, listed once. Adding a kind is one file here and its line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union, get_args

from kvcalc.attention.base import Attention
from kvcalc.attention.block_sparse import BlockSparse
from kvcalc.attention.chunked import Chunked
from kvcalc.attention.compressed import Compressed
from kvcalc.attention.cross import Cross
from kvcalc.attention.full import Full
from kvcalc.attention.gated_delta_net import GatedDeltaNet
from kvcalc.attention.kda import Kda
from kvcalc.attention.lightning import Lightning
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import Mla
from kvcalc.attention.shared import Shared
from kvcalc.attention.short_conv import ShortConv
from kvcalc.attention.sliding import Sliding
from kvcalc.attention.sparse import Sparse

AttentionKind = Union[  # noqa: UP007 - read at run time by the schema
    Full,
    Sliding,
    Chunked,
    Cross,
    Shared,
    Mla,
    Sparse,
    BlockSparse,
    Compressed,
    Mamba,
    Mamba2,
    GatedDeltaNet,
    Kda,
    Lightning,
    ShortConv,
]

KINDS: Mapping[str, type[Attention]] = {
    kind.__dataclass_fields__["kind"].default: kind for kind in get_args(AttentionKind)
}

__all__ = ["KINDS", "Attention", "AttentionKind"]
