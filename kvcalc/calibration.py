"""Measured ceilings from a verification report (`kvcalc verify -o json`, kernels_ref/results/*.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kvcalc.problems import KvcalcError, Problem
from kvcalc.roofline import Calibration
from kvcalc.spec.document import read_bytes


def load_calibration(path: str) -> Calibration:
    """The ceilings of a report, and where and when they were measured.

    Raises:
        KvcalcError: not readable (KV001), no JSON, or no measured ceilings in it (KV906).
    """
    name, content = read_bytes(path)
    try:
        report = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _no_report(name, f"is no JSON: {error}") from error
    machine, measured = (_table(report, key) for key in ("machine", "ceilings"))
    rate, rates = _rate(measured.get("read_bytes_per_s")), _table(measured, "gemm_flops_per_s")
    gemms = {str(dtype): _rate(figure) for dtype, figure in rates.items()}
    if rate is None or None in gemms.values():
        raise _no_report(name, "holds no measured ceilings")
    where = " ".join(str(machine.get(key, "")) for key in ("device", "driver")).strip()
    date = str(machine.get("date", ""))
    return Calibration(
        label=f"calibrated on {where or 'an unnamed machine'}{', ' + date if date else ''}"[:200],
        bytes_per_s=rate,
        flops_per_s={dtype: figure for dtype, figure in gemms.items() if figure is not None},
    )


def _table(report: object, key: str) -> Mapping[str, Any]:
    found = report.get(key) if isinstance(report, dict) else None
    return found if isinstance(found, dict) else {}


def _rate(figure: object) -> int | None:
    if isinstance(figure, bool) or not isinstance(figure, (int, float)):
        return None
    return int(figure) if 1 <= figure < 2**70 else None


def _no_report(name: str, what: str) -> KvcalcError:
    hint = "give a report of `kvcalc verify -o json` from a machine with a GPU"
    return KvcalcError(Problem(code="KV906", message=f"{name[:200]} {what}"[:300], path=name, help=hint))
