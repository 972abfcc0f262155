"""What if: the same model with other KV heads, a latent, a window, another format.

A variant is written `mha`, `mqa`, `gqa:8`, `mla:512+64`, `window:4096` or `kv:int4-g32`; several hold
together when joined by `@`, as in `gqa:8@kv:fp8`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from kvcalc.attention import Attention, AttentionKind
from kvcalc.attention.whatif import with_kv_heads, with_latent, with_window
from kvcalc.cache_dtypes import FormatChoice, parse_kv_cache_dtype
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.units import parse_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A change to every attention entry of a spec, or to the formats, or both in turn."""

    label: str
    attention: tuple[Callable[[Attention], Attention], ...] = ()
    formats: FormatChoice | None = None

    def spec(self, spec: ModelSpec) -> ModelSpec:
        """The changed model.

        Raises:
            KvcalcError: the change does not apply to this model at all.
        """
        if self.attention and not any(kind.geometry() for kind in spec.attention.values()):
            raise usage_error(f"{spec.name} keeps no keys and values that {self.label!r} could change")
        for change in self.attention:
            changed = {name: change(kind) for name, kind in spec.attention.items()}
            spec = replace(spec, attention=cast("Mapping[str, AttentionKind]", changed))
        return spec


def _heads(count: int | None) -> Callable[[Attention], Attention]:
    return lambda kind: with_kv_heads(kind, count)


def _gqa(text: str) -> tuple[Callable[[Attention], Attention], ...]:
    return (_heads(parse_count(text, "gqa heads")),)


def _mla(text: str) -> tuple[Callable[[Attention], Attention], ...]:
    rank, plus, rope = text.partition("+")
    latent, rotary = parse_count(rank, "mla rank"), parse_count(rope, "mla rotary width", minimum=0) if plus else 0
    return (lambda kind: with_latent(kind, latent, rotary),)


def _window(text: str) -> tuple[Callable[[Attention], Attention], ...]:
    size = parse_count(text, "window")
    return (lambda kind: with_window(kind, size),)


_PLAIN: Mapping[str, tuple[Callable[[Attention], Attention], ...]] = {
    "as-is": (),
    "mha": (_heads(None),),
    "mqa": (_heads(1),),
}
_WITH_FIGURE: Mapping[str, Callable[[str], tuple[Callable[[Attention], Attention], ...]]] = {
    "gqa": _gqa,
    "mla": _mla,
    "window": _window,
}

EXAMPLES = ("mha", "mqa", "gqa:8", "mla:512+64", "window:4096", "kv:fp8", "kv:int4-g32")
"""One of each, as help and completion show them."""


def parse_variant(text: str) -> Variant:
    """One variant, or several joined by `@`.

    Raises:
        KvcalcError: unknown variant, or a figure that is missing or no count.
    """
    changes: list[Callable[[Attention], Attention]] = []
    formats: FormatChoice | None = None
    for part in text.strip().split("@"):
        name, colon, figure = part.strip().partition(":")
        if name == "kv" and colon:
            formats = parse_kv_cache_dtype(figure.replace("+", ","))
        elif name in _PLAIN and not colon:
            changes += _PLAIN[name]
        elif name in _WITH_FIGURE and colon:
            changes += _WITH_FIGURE[name](figure)
        else:
            known = [*_PLAIN, *_WITH_FIGURE, "kv"]
            near = did_you_mean(name, known)
            raise usage_error(
                f"unknown variant {part[:60]!r}",
                help=near if near and name not in known else f"as in {', '.join(EXAMPLES)}",
            )
    return Variant(label=text.strip(), attention=tuple(changes), formats=formats)


MAX_SIGNS = 32
"""Of a text: a path with more is not looked for, so that a hostile one costs no time."""


def split_what_if(model: str) -> tuple[str, str | None]:
    """`qwen-72b@gqa:8` as its parts: (model, what is changed of it). An @ within the path of a file is no sign."""
    parts = model.split("@", MAX_SIGNS)
    if len(parts) == 1:
        return model, None
    heads = range(len(parts), 0, -1)
    end = next((end for end in heads if os.path.exists("@".join(parts[:end]))), 1)
    return "@".join(parts[:end]), "@".join(parts[end:]) if end < len(parts) else None


def as_if(spec: ModelSpec, changes: str) -> ModelSpec:
    """The model as if its attention were another, under a name that says so.

    Raises:
        KvcalcError: a variant that is unknown, does not apply, or names a format.
    """
    variant = parse_variant(changes)
    if variant.formats is not None:
        hint = "give it by --kv-cache-dtype (in Python kv_cache_dtype); compare takes both"
        raise usage_error(f"{changes[:60]!r} names a format", help=hint)
    return replace(variant.spec(spec), name=f"{spec.name} {variant.label}")
