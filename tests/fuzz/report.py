"""The latest whole run (`run.py --out tests/fuzz/report.json`) as the table of docs/reliability.md.

python tests/fuzz/report.py      # prints it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPORT = Path(__file__).parent / "report.json"
COLUMNS = {"executions": "executions", "edges": "edges", "features": "features", "corpus": "corpus",
           "seconds": "seconds", "peak_mib": "peak MiB"}  # fmt: skip
"""Figure of a row -> its heading."""


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(REPORT.read_text("utf-8"))
    return found


def table(report: dict[str, Any]) -> str:
    """One row per target, and the sum."""
    rows = [f"| target | {' | '.join(COLUMNS.values())} | findings |", f"|---|{'---:|' * (len(COLUMNS) + 1)}"]
    for row in report["targets"]:
        figures = " | ".join(f"{row[name]:,}" for name in COLUMNS)
        rows.append(f"| `{row['target']}` | {figures} | {len(row['findings'])} |")
    seconds = sum(row["seconds"] for row in report["targets"])
    peak = max(row["peak_mib"] for row in report["targets"])
    findings = sum(len(row["findings"]) for row in report["targets"])
    rows.append(f"| all | {report['executions']:,} | | | | {seconds:,} | {peak:,} | {findings} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(load()), end="")
