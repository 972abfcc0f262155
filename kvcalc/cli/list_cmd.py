"""kvcalc list"""

from __future__ import annotations

from typing import Annotated

import typer

from kvcalc.cli.common import Output, OutputOption, emit


def list_command(
    what: Annotated[str, typer.Argument(metavar="models|gpus|kinds|formats|engines")] = "models",
    output: OutputOption = Output.TABLE,
) -> None:
    """What is shipped: models, GPUs, attention kinds, storage formats, engines.

    Example: kvcalc list formats
    """
    from kvcalc.listing import LISTS
    from kvcalc.problems import did_you_mean, usage_error
    from kvcalc.render.lists import list_document

    if what not in LISTS:
        known = ", ".join(LISTS)
        raise usage_error(f"cannot list {what[:60]!r}", help=did_you_mean(what, LISTS) or f"one of: {known}")
    emit("list", LISTS[what](), list_document, output)
