"""Every report that a command prints as JSON, its schema, and the version of its form.

The JSON of a report is `{"schema_version": 1, "report": name, ...its fields}`. Within a version fields are only added;
a field that goes, is renamed or changes its meaning or unit raises SCHEMA_VERSION.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kvcalc.files import write_whole
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.render.machine import SCHEMA_VERSION

REPORTS: Mapping[str, str] = {
    "size": "kvcalc.sizing:SizeReport",
    "allocation": "kvcalc.engines.sizing:EngineSizeReport",
    "compare": "kvcalc.comparison:CompareReport",
    "explanation": "kvcalc.explanation:ModelExplanation",
    "kind": "kvcalc.explanation:KindExplanation",
    "format": "kvcalc.explanation:FormatExplanation",
    "gpu": "kvcalc.accelerators:AcceleratorExplanation",
    "rule": "kvcalc.checks.table:RuleExplanation",
    "tiers": "kvcalc.tiers:TiersReport",
    "roofline": "kvcalc.roofline:RooflineReport",
    "sweep": "kvcalc.render.sweep:SweepForm",
    "plan": "kvcalc.plan.report:PlanReport",
    "fit": "kvcalc.plan.report:FitReport",
    "check": "kvcalc.render.findings.lists:Checked",
    "diff": "kvcalc.diffing:DiffReport",
    "verify": "kernels_ref.report:VerifyReport",
    "reconcile": "kvcalc.reconcile.report:ReconcileReport",
    "list": "kvcalc.listing:ListReport",
}
"""Name in the JSON -> the frozen dataclass whose fields it holds, imported when asked for."""

FOLDER = "docs/schemas"
"""Where the schemas are committed: `python -m kvcalc.render.reports` writes them."""


def report_class(name: str) -> type[Any]:
    """The dataclass behind a report's JSON.

    Raises:
        KvcalcError: unknown name.
    """
    place = REPORTS.get(name)
    if place is None:
        near = did_you_mean(name, REPORTS) or f"one of {', '.join(REPORTS)}"
        raise usage_error(f"no report is called {name[:40]!r}", help=near)
    module, _, cls = place.partition(":")
    found: type[Any] = getattr(import_module(module), cls)
    return found


def report_name(report: object) -> str:
    """The name under which a report is printed.

    Raises:
        KvcalcError: not one of ours.
    """
    place = f"{type(report).__module__}:{type(report).__qualname__}"
    for name, known in REPORTS.items():
        if known == place:
            return name
    raise usage_error(f"a {type(report).__name__} is no report", help=f"reports: {', '.join(REPORTS)}")


def report_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft-07) of `-o json`.

    Raises:
        KvcalcError: unknown name.
    """
    from kvcalc.spec.schema import DRAFT, output_schema

    body = output_schema(report_class(name))
    envelope = {
        "schema_version": {"const": SCHEMA_VERSION, "description": "Of the form: fields are only added within one."},
        "report": {"const": name},
    }
    return {
        "$schema": DRAFT,
        "$id": f"urn:kvcalc:report:{name}:{SCHEMA_VERSION}",
        "title": f"kvcalc report: {name}",
        **{key: value for key, value in body.items() if key not in ("title", "properties", "required", "definitions")},
        "properties": {**envelope, **body["properties"]},
        "required": [*envelope, *body["required"]],
        **({"definitions": body["definitions"]} if body.get("definitions") else {}),
    }


def main() -> None:
    """Writes every schema into docs/schemas of the checkout."""
    from kvcalc.spec.schema import schema_text

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
    folder.mkdir(exist_ok=True)
    for name in REPORTS:
        write_whole(str(folder / f"{name}.schema.json"), schema_text(report_schema(name)).encode())


if __name__ == "__main__":
    main()
