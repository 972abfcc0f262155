"""kvcalc import"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kvcalc.cli.models import AssumeOption, HubOption


def import_command(
    model: Annotated[
        str,
        typer.Argument(metavar="PATH|HUB-ID", help="config.json, a folder with one, a .gguf, - or org/name."),
    ],
    assume: AssumeOption = None,
    hub: HubOption = False,
) -> None:
    """Other people's files: a config.json, a GGUF file or a hub id as a spec.

    Example: kvcalc import ./my-model/config.json > my-model.yaml
    """
    from kvcalc.cli.models import imported
    from kvcalc.importers.load import spec_of
    from kvcalc.importers.writer import to_yaml

    found = imported(model, assume=assume, hub=hub)
    spec_of(found)
    sys.stdout.write(to_yaml(found))
