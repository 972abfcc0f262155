"""kvcalc beside public peers: the same questions, installed and asked on this machine.

    python benchmarks/peers --install DIR [--runs 21] [--only answers sizing sweeps plans catalogue] [--tool NAME...]
    python benchmarks/peers --page

The first installs each peer, at a pinned version, in an environment of its own below DIR (about 1.5 GB), asks it for
the bytes of eight models and times it, and writes benchmarks/peers-results.json; parts not asked for are kept.
Both write the tables of docs/peers.md from that file. No peer reaches a network: those that insist on a model hub
are given one on the loopback interface, with the config and a weight file's header, and no weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "peers-results.json"
PARTS = ("answers", "sizing", "sweeps", "plans", "catalogue")


def main() -> None:
    import page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", type=Path, metavar="DIR", help="install what is missing below DIR, ask and time")
    parser.add_argument("--page", action="store_true", help="only rewrite the tables from the results on file")
    parser.add_argument("--runs", type=int, default=21, help="processes behind each median (default 21)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tool", nargs="+", help="these tools alone, and kvcalc")
    arguments = parser.parse_args()
    if bool(arguments.install) == arguments.page:
        parser.error("either --install DIR or --page")
    if arguments.install:
        measure_all(arguments)
    if not arguments.tool:
        page.write(json.loads(RESULTS.read_text("utf-8")))


def measure_all(arguments: argparse.Namespace) -> None:
    from measure import Bench
    from tools import TOOLS

    root = arguments.install.resolve()
    root.mkdir(parents=True, exist_ok=True)
    chosen = [t for t in TOOLS if not arguments.tool or t.name in (*arguments.tool, "kvcalc")]
    bench = Bench(root, chosen, arguments.runs)
    old: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() and not arguments.tool else {}
    found = {**old, "schema_version": 1, "versions": bench.versions()}
    for part in PARTS:
        if part in arguments.only:
            machine = bench.machine()
            found[part] = {"machine": machine, "rows": getattr(bench, part)()}
            if not arguments.tool:  # each part is kept as soon as it is there
                RESULTS.write_text(as_text(found), encoding="utf-8")
    if arguments.tool:
        sys.stdout.write(as_text(found))


def as_text(found: dict[str, Any]) -> str:
    """JSON with a row to a line, so that a new run shows as the rows that changed."""
    parts = []
    for name, value in found.items():
        rows = value["rows"] if isinstance(value, dict) else value if isinstance(value, list) else None
        text = json.dumps(value, ensure_ascii=False)
        if rows is not None:
            lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
            text = f"[\n  {lines}\n ]"
            if isinstance(value, dict):
                text = f'{{"machine": {json.dumps(value["machine"])}, "rows": {text}}}'
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
