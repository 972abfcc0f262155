"""Shipped models by name, hub id or path. Offline; a query on a shipped spec needs no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from os.path import exists, isfile  # unlike pathlib's, no error for a name too long
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvcalc.problems import KvcalcError, Problem, did_you_mean
from kvcalc.spec import compiled

if TYPE_CHECKING:
    from kvcalc.layout import CacheLayout
    from kvcalc.spec.model import ModelSpec

SPEC_SUFFIXES = (".yaml", ".yml")
_SEPARATORS = str.maketrans("", "", "-._")
"""What a catalogue name may hold beside letters and digits."""
SPEC_FOLDER = Path(__file__).resolve().parents[2] / "model_specs"
"""Where the shipped specs lie: beside the package, in a checkout as in a wheel."""


@cache
def shipped() -> Mapping[str, Path]:
    """Catalogue name -> spec file."""
    return {path.stem: path for path in sorted(SPEC_FOLDER.glob("*.yaml"))}


@cache
def hub_ids() -> Mapping[str, str]:
    """Hub id (lower case) -> catalogue name, from the `hub_id` and `aliases` of every shipped spec."""
    return {hub_id: name for name in shipped() for hub_id in _hub_ids_of(name)}


def _hub_ids_of(name: str) -> tuple[str, ...]:
    raw = shipped_raw(name)
    return tuple(hub_id.lower() for hub_id in (raw.get("hub_id"), *raw.get("aliases", ())) if hub_id)


@cache
def shipped_raw(name: str) -> Mapping[str, Any]:
    """The plain data of a shipped spec."""
    return compiled.plain_data(shipped()[name])


def shipped_model(name: str) -> ModelSpec:
    """A shipped spec by its catalogue name: CI has validated it, so it is only built."""
    from kvcalc.spec.build import build
    from kvcalc.spec.model import ModelSpec

    return build(ModelSpec, shipped_raw(name))


def looks_like_path(model: str) -> bool:
    """Whether MODEL names a file rather than a model."""
    return model == "-" or model.endswith(SPEC_SUFFIXES) or model.startswith((".", "/", "~"))


def short_forms(hub_id: str) -> tuple[str, ...]:
    """A hub id as people write it: whole, without its organisation, and without `-instruct`."""
    name = hub_id.rpartition("/")[2]
    return (hub_id, name, name.removesuffix("-instruct"))


def catalogue_name(model: str) -> str | None:
    """The catalogue name of a shipped model by that name or by a hub id, with or without its organisation.

    None where MODEL is a file, or unknown.
    """
    key = model.strip().lower()
    if key.translate(_SEPARATORS).isalnum() and isfile(SPEC_FOLDER / f"{key}.yaml"):
        return key
    if looks_like_path(model) or exists(model):
        return None
    # Only files in which the word stands at all are worth parsing.
    word = key.encode(errors="surrogatepass")
    named = (name for name, path in shipped().items() if word in path.read_bytes().lower())
    return next((name for name in named if any(key in short_forms(i) for i in _hub_ids_of(name))), None)


def find_model(model: str) -> ModelSpec:
    """MODEL as a user writes it: a catalogue name, a hub id of a shipped model, a YAML path or `-`.

    Raises:
        KvcalcError: unknown name, or a spec file that does not hold.
    """
    name = catalogue_name(model)
    if name is not None:
        return shipped_model(name)
    if looks_like_path(model) or exists(model):
        from kvcalc.spec.document import read_bytes
        from kvcalc.spec.validate import load_model

        return load_model(*read_bytes(model))[0]
    word = model.strip().lower()
    near = did_you_mean(word.rpartition("/")[2], shipped()) or did_you_mean(word, hub_ids())
    raise KvcalcError(
        Problem(code="KV902", message=f"unknown model {model[:100]!r}", help=near or "see `kvcalc list models`")
    )


def find_layout(model: str) -> CacheLayout:
    """The cache of MODEL: compiled where it is shipped, else from the spec that `find_model` finds.

    Raises:
        KvcalcError: as `find_model`.
    """
    name = catalogue_name(model)
    kept = compiled.layout(SPEC_FOLDER / f"{name}.yaml") if name else None
    return kept or find_model(model).layout()
