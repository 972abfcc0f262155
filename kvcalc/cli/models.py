"""MODEL of every command: a shipped name, a spec, or somebody else's config.json, folder, GGUF file or hub id."""

from __future__ import annotations

from os.path import isdir
from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli.common import warn

if TYPE_CHECKING:
    from kvcalc.importers.hf_config import ImportedSpec
    from kvcalc.layout import CacheLayout
    from kvcalc.spec.model import ModelSpec

AssumeOption = Annotated[
    str | None,
    typer.Option("--assume", metavar="dense-gqa", help="Read a config that is refused as plain attention."),
]
HubOption = Annotated[bool, typer.Option("--hub", help="Fetch config.json of a hub id that is not shipped.")]


def find_model(model: str, *, assume: str | None = None, hub: bool = False) -> ModelSpec:
    """The spec of MODEL; what an import took on whose word is said on standard error.

    Raises:
        KvcalcError: unknown, unreadable, or refused.
    """
    from kvcalc.spec import catalog

    if not _foreign(model, hub):
        return catalog.find_model(model)
    from kvcalc.importers.load import spec_of

    return spec_of(imported(model, assume=assume, hub=hub))


def find_layout(model: str, *, assume: str | None = None, hub: bool = False) -> CacheLayout:
    """The cache of MODEL; see `find_model`."""
    from kvcalc.spec import catalog

    if not _foreign(model, hub):
        return catalog.find_layout(model)
    return find_model(model, assume=assume, hub=hub).layout()


def imported(model: str, *, assume: str | None, hub: bool) -> ImportedSpec:
    """A foreign file as a raw spec, with its remarks as warnings."""
    from kvcalc.importers.load import load_foreign

    found = load_foreign(model, assume=assume, hub=hub)
    warn(*(f"assumed: {line}" for line in found.assumed), *(f"not in {found.path}: {line}" for line in found.defaults))
    return found


def _foreign(model: str, hub: bool) -> bool:
    if model.lower().endswith((".json", ".gguf")) or (model != "-" and isdir(model)):
        return True
    return hub and "/" in model and not _shipped(model)


def _shipped(model: str) -> bool:
    from kvcalc.spec.catalog import hub_ids, shipped

    return model.strip().lower() in hub_ids() or model in shipped()
