"""MODEL as a user writes it: a shipped name, a spec, or somebody else's config.json, folder, GGUF file or hub id."""

from __future__ import annotations

from os.path import isdir
from typing import TYPE_CHECKING

from kvcalc.spec import catalog

if TYPE_CHECKING:
    from kvcalc.importers.hf_config import ImportedSpec
    from kvcalc.layout import CacheLayout
    from kvcalc.spec.model import ModelSpec

Remarks = tuple[str, ...]
"""What an import took on whose word."""


def find_model(model: str, *, assume: str | None = None, hub: bool = False) -> tuple[ModelSpec, Remarks]:
    """The spec of MODEL.

    Args:
        assume: see `hf_config.ASSUMPTIONS`.
        hub: fetch config.json of an `org/name` that is not shipped (network).

    Raises:
        KvcalcError: unknown, unreadable, or refused.
    """
    if not is_foreign(model, hub):
        return catalog.find_model(model), ()
    from kvcalc.importers.load import load_foreign, spec_of

    found = load_foreign(model, assume=assume, hub=hub)
    return spec_of(found), remarks(found)


def find_layout(model: str, *, assume: str | None = None, hub: bool = False) -> tuple[CacheLayout, Remarks]:
    """The cache of MODEL alone, compiled where it is a shipped name; see `find_model`."""
    if not is_foreign(model, hub):
        return catalog.find_layout(model), ()
    spec, said = find_model(model, assume=assume, hub=hub)
    return spec.layout(), said


def remarks(found: ImportedSpec) -> Remarks:
    """What the import took on the user's word, and what the file leaves out."""
    return (
        *(f"assumed: {line}" for line in found.assumed),
        *(f"not in {found.path}: {line}" for line in found.defaults),
    )


def is_foreign(model: str, hub: bool = False) -> bool:
    """Whether MODEL is for an importer to read, rather than a spec of ours."""
    if model.lower().endswith((".json", ".gguf")) or (model != "-" and isdir(model)):
        return True
    return hub and "/" in model and model.strip().lower() not in catalog.hub_ids() and model not in catalog.shipped()
