"""Options and the last step that commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kvcalc.render.document import Document

if TYPE_CHECKING:
    from kvcalc.api.arguments import Asked

Report = TypeVar("Report")


class Output(StrEnum):
    """The forms of every answer but those of `check`, which has its own."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]
BatchOption = Annotated[str, typer.Option("--batch-size", "-b", metavar="N", help="Sequences at once.")]
SeqLenOption = Annotated[
    str | None,
    typer.Option(
        "--seq-len",
        "-s",
        metavar="TOKENS",
        help="Tokens per sequence: 32K = 32,768, 32k = 32,000. Default: the model's context.",
    ),
]
EncoderLenOption = Annotated[
    str | None, typer.Option("--encoder-len", metavar="TOKENS", help="Encoder tokens (encoder-decoder models).")
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--kv-cache-dtype", metavar="FORMAT", help="One format, or per stream: key=q8_0,value=q4_0; see `list formats`."
    ),
]


def workload_of(batch_size: str, seq_len: str | None, kv_cache_dtype: str, encoder_len: str | None) -> Asked:
    """The options of a workload, read.

    Raises:
        KvcalcError: no count, or an unknown format.
    """
    from kvcalc.cache_dtypes import parse_kv_cache_dtype

    return {
        "batch_size": parsed_count(batch_size, "--batch-size") or 1,
        "seq_len": parsed_count(seq_len, "--seq-len"),
        "encoder_len": parsed_count(encoder_len, "--encoder-len", minimum=0),
        "formats": parse_kv_cache_dtype(kv_cache_dtype),
    }


def emit(name: str, report: Report, view: Callable[[Report], Document], output: Output) -> None:
    """Print a report on standard output in the asked form."""
    if output is Output.JSON:
        from kvcalc.render.machine import render_json

        sys.stdout.write(render_json(name, report))
    elif output is Output.CSV:
        from kvcalc.render.machine import render_csv

        sys.stdout.write(render_csv(view(report)))
    elif output is Output.MARKDOWN:
        from kvcalc.render.text import render_markdown

        sys.stdout.write(render_markdown(view(report)))
    else:
        from kvcalc.render.text import print_document

        print_document(view(report))


def warn(*messages: str) -> None:
    """Say something on standard error beside the answer."""
    from kvcalc.render.problems import print_warning

    for message in messages:
        print_warning(message)


def parsed_count(text: str | None, what: str, **bounds: Any) -> int | None:
    """An optional count option."""
    from kvcalc.units import parse_count

    return None if text is None else parse_count(text, what, **bounds)
