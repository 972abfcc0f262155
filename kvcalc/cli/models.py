"""MODEL of every command: a shipped name, a spec, or somebody else's config.json, folder, GGUF file or hub id."""

from __future__ import annotations

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
    from kvcalc.importers import find

    spec, remarks = find.find_model(model, assume=assume, hub=hub)
    warn(*remarks)
    return spec


def find_what_if(model: str, *, assume: str | None = None, hub: bool = False) -> ModelSpec:
    """The spec of MODEL, or of `qwen-72b@gqa:8`: the model as if its attention were another.

    Raises:
        KvcalcError: as `find_model`, or a variant that is unknown or does not apply.
    """
    from kvcalc.variants import as_if, split_what_if

    name, changes = split_what_if(model)
    spec = find_model(name, assume=assume, hub=hub)
    return spec if changes is None else as_if(spec, changes)


def find_layout(model: str, *, assume: str | None = None, hub: bool = False) -> CacheLayout:
    """The cache of MODEL, or of a what-if of it; see `find_what_if`."""
    if "@" in model:
        return find_what_if(model, assume=assume, hub=hub).layout()
    from kvcalc.importers import find

    layout, remarks = find.find_layout(model, assume=assume, hub=hub)
    warn(*remarks)
    return layout


def imported(model: str, *, assume: str | None, hub: bool) -> ImportedSpec:
    """A foreign file as a raw spec, with its remarks as warnings."""
    from kvcalc.importers.find import remarks
    from kvcalc.importers.load import load_foreign

    found = load_foreign(model, assume=assume, hub=hub)
    warn(*remarks(found))
    return found
