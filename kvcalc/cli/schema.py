"""kvcalc schema"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer


def _model() -> dict[str, Any]:
    from kvcalc.spec.schema import model_schema

    return model_schema()


def _hardware() -> dict[str, Any]:
    from kvcalc.spec.schema import hardware_schema

    return hardware_schema()


def _plan() -> dict[str, Any]:
    from kvcalc.plan.planfile import PlanSpec
    from kvcalc.spec.schema import schema_of

    return schema_of(PlanSpec, "kvcalc plan file")


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {"model": _model, "hardware": _hardware, "plan": _plan}
"""Kind of file -> its schema."""


def schema(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help=f"Of file: {', '.join(SCHEMAS)}.")] = None,
    report: Annotated[
        str | None, typer.Option("--report", metavar="NAME", help="Of what a command prints with -o json: size, ...")
    ] = None,
) -> None:
    """The JSON Schema (draft-07) of a kind of file, or of a report, for editors and other tools.

    Example: kvcalc schema plan > plan.schema.json
    """
    from kvcalc.problems import did_you_mean, usage_error
    from kvcalc.spec.schema import schema_text

    if report is not None:
        from kvcalc.render.reports import report_schema

        if kind is not None:
            raise usage_error(f"a kind of file ({kind[:40]}) and a report: one schema is printed", help="name one")
        sys.stdout.write(schema_text(report_schema(report)))
        return
    kind = kind or "model"
    if kind not in SCHEMAS:
        raise usage_error(
            f"no schema of {kind[:40]!r}", help=did_you_mean(kind, SCHEMAS) or f"kinds: {', '.join(SCHEMAS)}"
        )
    sys.stdout.write(schema_text(SCHEMAS[kind]()))
