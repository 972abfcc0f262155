"""Reports as JSON, their schemas, and the names that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def to_json(report: object) -> str:
    """A report as its command prints it with `-o json`: stable, with its name and the version of its form.

    Raises:
        KvcalcError: not one of kvcalc's reports.
    """
    from kvcalc.render.machine import render_json
    from kvcalc.render.reports import report_name

    kind = type(report).__name__
    if kind == "SweepReport":
        from io import StringIO

        from kvcalc.render.sweep import write_json

        text = StringIO()
        write_json(report, text)  # type: ignore[arg-type]
        return text.getvalue()
    if kind == "CheckReport":
        from kvcalc.render.findings.lists import render_json as render_findings

        return render_findings(report)  # type: ignore[arg-type]
    return render_json(report_name(report), report)


def report_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft-07) of a report, as in `report_schema("size")`: `kvcalc schema --report size`.

    Raises:
        KvcalcError: unknown name.
    """
    from kvcalc.render.reports import report_schema as schema_of

    return schema_of(name)


def names(what: Literal["models", "gpus", "kinds", "formats", "engines", "reports"]) -> tuple[str, ...]:
    """Every shipped name: `kvcalc list`.

    Raises:
        KvcalcError: no such list.
    """
    from kvcalc.problems import did_you_mean, usage_error

    lists: Mapping[str, Callable[[], Iterable[str]]] = {
        "models": _models, "gpus": _gpus, "kinds": _kinds, "formats": _formats, "engines": _engines,
        "reports": _reports,
    }  # fmt: skip
    if what not in lists:
        raise usage_error(f"cannot list {what!r:.60}", help=did_you_mean(str(what), lists) or f"one of {list(lists)}")
    return tuple(lists[what]())


def _models() -> Iterable[str]:
    from kvcalc.spec.catalog import shipped

    return shipped()


def _gpus() -> Iterable[str]:
    from kvcalc.spec.hardware_catalog import shipped_hardware

    return shipped_hardware()


def _kinds() -> Iterable[str]:
    from kvcalc.attention import KINDS

    return KINDS


def _formats() -> Iterable[str]:
    from kvcalc.cache_dtypes import CACHE_DTYPES

    return CACHE_DTYPES


def _engines() -> Iterable[str]:
    from kvcalc.engines import NAMES

    return NAMES


def _reports() -> Iterable[str]:
    from kvcalc.render.reports import REPORTS

    return REPORTS
