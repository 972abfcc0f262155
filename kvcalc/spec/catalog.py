"""Shipped models by name, hub id or path. Offline; a query on a shipped spec needs no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from os.path import exists, isfile  # unlike pathlib's, no error for a name too long
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvcalc.problems import KvcalcError, Problem, did_you_mean
from kvcalc.spec.compiled import FOLDER as COMPILED_FOLDER
from kvcalc.spec.compiled import thaw

if TYPE_CHECKING:
    from kvcalc.layout import CacheLayout
    from kvcalc.spec.model import ModelSpec

SPEC_SUFFIXES = (".yaml", ".yml")
SPEC_FOLDER = Path(__file__).resolve().parents[2] / "model_specs"
"""Where the shipped specs lie: beside the package, in a checkout as in a wheel."""


@cache
def shipped() -> Mapping[str, Path]:
    """Catalogue name -> spec file."""
    return {path.stem: path for path in sorted(SPEC_FOLDER.glob("*.yaml"))}


@cache
def hub_ids() -> Mapping[str, str]:
    """Hub id (lower case) -> catalogue name, from the `hub_id` and `aliases` of every shipped spec."""
    found: dict[str, str] = {}
    for name in shipped():
        raw = shipped_raw(name)
        for hub_id in (raw.get("hub_id"), *raw.get("aliases", ())):
            if hub_id:
                found[hub_id.lower()] = name
    return found


@cache
def shipped_raw(name: str) -> Mapping[str, Any]:
    """The plain data of a shipped spec."""
    from kvcalc.spec.yamlio import load_yaml

    path = shipped()[name]
    data: Mapping[str, Any] = load_yaml(str(path), path.read_bytes()).data
    return data


def shipped_model(name: str) -> ModelSpec:
    """A shipped spec by its catalogue name: CI has validated it, so it is only built."""
    from kvcalc.spec.build import build
    from kvcalc.spec.model import ModelSpec

    return build(ModelSpec, shipped_raw(name))


def looks_like_path(model: str) -> bool:
    """Whether MODEL names a file rather than a model."""
    return model == "-" or model.endswith(SPEC_SUFFIXES) or model.startswith((".", "/", "~"))


def find_model(model: str) -> ModelSpec:
    """MODEL as a user writes it: a catalogue name, a hub id of a shipped model, a YAML path or `-`.

    Raises:
        KvcalcError: unknown name, or a spec file that does not hold.
    """
    key = model.strip().lower()
    if isfile(SPEC_FOLDER / f"{key}.yaml") and key in shipped():
        return shipped_model(key)
    if looks_like_path(model) or exists(model):
        from kvcalc.spec.validate import load_model
        from kvcalc.spec.yamlio import read_bytes

        return load_model(*read_bytes(model))[0]
    ids = hub_ids()
    if key in ids:
        return shipped_model(ids[key])
    near = did_you_mean(key.rpartition("/")[2], shipped()) or did_you_mean(key, ids)
    raise KvcalcError(
        Problem(code="KV902", message=f"unknown model {model[:100]!r}", help=near or "see `kvcalc list models`")
    )


def find_layout(model: str) -> CacheLayout:
    """The cache of MODEL: compiled where it is a shipped name, else from the spec that `find_model` finds.

    Raises:
        KvcalcError: as `find_model`.
    """
    name = model.strip().lower()
    if name.replace("-", "").replace(".", "").isalnum():
        try:
            spec = (SPEC_FOLDER / f"{name}.yaml").read_bytes()
            layout = thaw((COMPILED_FOLDER / f"{name}.json").read_text("utf-8"), spec)
        except (OSError, ValueError):
            layout = None
        if layout is not None:
            return layout
    return find_model(model).layout()
