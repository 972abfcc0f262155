"""A config.json as a family's reader sees it: every key that is read, and every default taken, is remembered.

What a reader has not asked for and what looks like cache geometry is refused afterwards (see `looks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from kvcalc.importers.defaults import class_defaults, transformers_version
from kvcalc.problems import KvcalcError
from kvcalc.spec.document import Document, Loc
from kvcalc.spec.model import MAX_LAYERS

MAX_CONFIG = 4 * 2**20
"""Bytes of a config.json: one that lists the format of each matrix takes 3 MB (MiniMax-M3-NVFP4)."""
MAX_SIZE = 2**40
_COUNTS_LAYERS = re.compile(r"(_layers?|_modules|block_count)$")
"""Readers write out every layer: as many as a spec may have."""


@dataclass(slots=True, kw_only=True)
class Config:
    """One mapping of a config (the whole, a `text_config`, an `attn_config`).

    Accessors take several spellings of one field; two that stand side by side and differ are refused.
    `null` counts as absent, as transformers reads it.
    """

    document: Document
    data: Mapping[str, Any]
    loc: Loc = ()
    model_type: str = ""
    nested: bool = False
    """A nested config leaves out what equals its class default (transformers writes it so)."""
    used: set[str] = field(default_factory=set)
    """Keys of this mapping that the reader has asked for, or knows to be harmless."""
    defaults_used: dict[str, str] = field(default_factory=dict)
    """Key -> what was taken in its place, and by whose rule."""
    sections: list[Config] = field(default_factory=list)
    outer: Config | None = None
    """The config that this one is nested in: a few keys (tie_word_embeddings) may stand only there."""

    def refuse(self, key: str | None, message: str, help: str | None = None) -> NoReturn:
        """Ends the reading with a Problem at `key` (None: at this mapping)."""
        loc = self.loc if key is None else (*self.loc, key)
        raise KvcalcError(self.document.problem("KV801", loc, message, help=help))

    def harmless(self, *keys: str) -> None:
        """Keys that the reader knows to say nothing of the cache (here)."""
        self.used.update(keys)

    def raw(self, *names: str) -> Any:
        """The value under the first of these names that holds one; None where none does."""
        found: dict[str, Any] = {}
        for name in names:
            self.used.add(name)
            if self.data.get(name) is not None:
                found[name] = self.data[name]
        if not found:
            return None
        first, value = next(iter(found.items()))
        for name, other in found.items():
            if other != value:
                self.refuse(name, f"{name} is {_shown(other)}, but {first} is {_shown(value)}: one field, two values")
        return value

    def has(self, *names: str) -> bool:
        """Whether any of these keys holds a value (asking counts as reading)."""
        found = [name for name in names if self.raw(name) is not None]
        return bool(found)

    def name_of(self, *names: str) -> str:
        """The spelling that this config uses (the first one where it uses none)."""
        return next((name for name in names if self.data.get(name) is not None), names[0])

    def assume(self, key: str, value: Any, rule: str) -> Any:
        """`value` for a key that the config leaves out; `rule` says by whose word."""
        self.defaults_used[key] = f"{key} = {_shown(value)}: {rule}"
        return value

    def assume_class(self, key: str, value: Any) -> Any:
        """`value`, which the class's own code takes where the config leaves `key` out."""
        return self.assume(key, value, f"class default of {self.model_type} ({transformers_version()})")

    def default_of(self, *names: str) -> Any:
        """What the config's class in transformers has under the first of these names that it gives a value."""
        table = class_defaults(self.model_type)
        return next((table[name] for name in names if name in table), None)

    @property
    def has_class(self) -> bool:
        """Whether transformers has a class for this `model_type` (so that its defaults are known here)."""
        return bool(class_defaults(self.model_type))

    def class_default(self, *names: str) -> Any:
        """`default_of`, remembered as taken."""
        value = self.default_of(*names)
        if value is None:
            return None
        return self.assume_class(names[0], value)

    def size(self, *names: str, default: bool = False, least: int = 1) -> int:
        """A required dimension.

        Args:
            default: whether the class default may stand in (always so in a nested config).
            least: smallest value accepted.
        """
        value = self.optional(*names, least=least)
        if value is None and (default or self.nested):
            value = self.class_default(*names)
        if value is None:
            self.missing(*names)
        return value

    def optional(self, *names: str, least: int = 1) -> int | None:
        """A dimension, or None where the config gives none."""
        value = self.raw(*names)
        if value is None:
            return None
        name = self.name_of(*names)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, f"{name}: expected an integer, got {_shown(value)}")
        most, shown = (MAX_LAYERS, f"{MAX_LAYERS:,}") if _COUNTS_LAYERS.search(name) else (MAX_SIZE, "2^40")
        if not least <= value <= most:
            self.refuse(name, f"{name}: must be at least {least} and at most {shown}, got {_shown(value)}")
        return value

    def flag(self, *names: str, default: bool | None = False) -> bool:
        """A switch; `default` is what the class takes where the key is absent (None: the key is required)."""
        value = self.raw(*names)
        if value is None:
            if default is None:
                self.missing(*names)
            return bool(self.assume(names[0], default, "the class's own where the key is absent"))
        if not isinstance(value, bool):
            if value in (0, 1):
                return bool(value)
            self.refuse(self.name_of(*names), f"{self.name_of(*names)}: expected true or false, got {_shown(value)}")
        return value

    def text(self, *names: str) -> str | None:
        """A word, or None."""
        value = self.raw(*names)
        if value is not None and not isinstance(value, str):
            self.refuse(self.name_of(*names), f"{self.name_of(*names)}: expected a string, got {_shown(value)}")
        return value

    def items(self, *names: str, length: int | None = None) -> list[Any] | None:
        """A list (of `length` entries where given), or None."""
        value = self.raw(*names)
        if value is None:
            return None
        name = self.name_of(*names)
        if not isinstance(value, list):
            self.refuse(name, f"{name}: expected a list, got {_shown(value)}")
        if length is not None and len(value) != length:
            self.refuse(name, f"{name} has {len(value)} entries for {length} layers")
        return value

    def sizes(self, *names: str, length: int | None = None, least: int = 0) -> list[int] | None:
        """A list of integers, or None."""
        value = self.items(*names, length=length)
        name = self.name_of(*names)
        for entry in value or ():
            if isinstance(entry, bool) or not isinstance(entry, int) or not least <= entry <= MAX_SIZE:
                self.refuse(name, f"{name}: expected integers of at least {least}, got {_shown(entry)}")
        return value

    def words(self, *names: str, length: int | None = None) -> list[str] | None:
        """A list of strings, or None."""
        value = self.items(*names, length=length)
        name = self.name_of(*names)
        for entry in value or ():
            if not isinstance(entry, str):
                self.refuse(name, f"{name}: expected strings, got {_shown(entry)}")
        return value

    def section(self, name: str, *, model_type: str = "", nested: bool = False) -> Config | None:
        """A mapping inside this one, the same however often it is asked for, or None."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(name, f"{name}: expected a mapping, got {_shown(value)}")
        opened = next((part for part in self.sections if part.data is value), None)
        if opened is not None:
            return opened
        inner = Config(document=self.document, data=value, loc=(*self.loc, name), model_type=model_type, nested=nested)
        self.sections.append(inner)
        return inner

    def missing(self, *names: str) -> NoReturn:
        """Refuses a config without any of these keys."""
        known = " or ".join(names)
        self.refuse(
            None,
            f"{self.model_type or 'this config'}: {known} is missing, and its cache cannot be known without it",
            "add the key, or write a spec by hand (see `kvcalc schema` and the shipped specs)",
        )

    def all_defaults(self) -> list[str]:
        """Every default taken here and in the sections read."""
        return [*self.defaults_used.values(), *(line for part in self.sections for line in part.all_defaults())]


LayerName = str | tuple[str, ...] | None
"""What one layer has of a table of the spec: an entry, several, or none."""
LayerNames = Sequence[LayerName]
"""Of every layer, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a family's reader found: the entries of `attention:` and which of them each layer uses."""

    attention: Mapping[str, Mapping[str, Any]]
    layers: LayerNames
    """Of the decoder; None for a layer without any cache."""
    mtp_layers: LayerNames = ()
    encoder_layers: int = 0
    max_position_embeddings: int | None = None
    max_source_positions: int | None = None
    comments: Mapping[str, str] = field(default_factory=dict)
    """Entry of `attention:`, or `layers` -> a line that says where its figures come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnLayout:
    """What beside attention costs weights: read by `hf_ffn.py`, one reader per family.

    `layers` (and `mtp_layers`, `encoder_layers`) name an entry of `ffn`, several, or none for every layer.
    `fields` are further keys of the spec (hidden_size, vocab_size, tie_word_embeddings, ...).
    """

    ffn: Mapping[str, Mapping[str, Any]]
    layers: LayerNames
    mtp_layers: LayerNames = ()
    encoder_layers: LayerNames = ()
    attention: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Kind of attention -> fields of weights (biases, norms, gates) for every entry of that kind."""
    fields: Mapping[str, Any] = field(default_factory=dict)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, (dict, list)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
