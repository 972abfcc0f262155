"""What if a layer had other KV heads, a latent, a window: the same layer as another kind."""

from __future__ import annotations

from kvcalc.attention.base import Attention, HeadGeometry
from kvcalc.attention.full import Full
from kvcalc.attention.mla import Mla
from kvcalc.attention.sliding import Sliding
from kvcalc.problems import usage_error


def with_kv_heads(kind: Attention, count: int | None) -> Attention:
    """The layer with `count` KV heads (None: as many as query heads); itself where it has no heads of K and V.

    MLA becomes the cache of its expanded heads.

    Raises:
        KvcalcError: the query heads cannot be shared by so many.
    """
    heads = kind.geometry()
    if heads is None:
        return kind
    wanted = count or heads.num_attention_heads
    if heads.num_attention_heads % wanted:
        raise usage_error(
            f"{heads.num_attention_heads} query heads cannot be shared by {wanted} KV heads",
            help="choose a divisor of the query heads",
        )
    return kind.regrouped(wanted) or _headed(heads, wanted, _window(heads))


def with_latent(kind: Attention, rank: int, rope: int) -> Attention:
    """The layer with MLA's latent in place of K and V; itself where it has neither, or only an encoder's."""
    heads = kind.geometry()
    if heads is None or _encoder_only(heads):
        return kind
    return kind.reranked(rank, rope) or Mla(
        num_attention_heads=heads.num_attention_heads,
        kv_lora_rank=rank,
        qk_rope_head_dim=rope,
        qk_nope_head_dim=max(1, heads.head_dim - rope),
        v_head_dim=heads.v_head_dim,
        sliding_window=_window(heads),
    )


def with_window(kind: Attention, size: int) -> Attention:
    """The layer keeping only the newest `size` tokens; itself where nothing grows with the tokens."""
    heads = kind.geometry()
    if heads is None or not heads.extent.grows:
        return kind
    return kind.windowed(size) or _headed(heads, heads.num_key_value_heads, size)


def _window(heads: HeadGeometry) -> int | None:
    return None if heads.extent.grows else heads.extent.saturation


def _encoder_only(heads: HeadGeometry) -> bool:
    """Kept whole whatever the tokens."""
    return _window(heads) == 0


def _headed(heads: HeadGeometry, num_key_value_heads: int, window: int | None) -> Attention:
    full = Full(
        num_attention_heads=heads.num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=heads.head_dim,
        v_head_dim=heads.v_head_dim,
    )
    if window is None:
        return full
    return Sliding(
        num_attention_heads=full.num_attention_heads,
        num_key_value_heads=full.num_key_value_heads,
        head_dim=full.head_dim,
        v_head_dim=full.v_head_dim,
        sliding_window=window,
    )
