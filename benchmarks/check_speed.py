"""How long `kvcalc check` takes for 1,000 model specs on one core, beside check-jsonschema with the same schema.

    pip install check-jsonschema
    python benchmarks/check_speed.py [--files 1000] [--runs 3]

Both commands run as processes of their own, start-up included, pinned to one core; of each the run that took the least
CPU time counts, as wall time on a machine that does other work as well says little.
check-jsonschema validates against the schema; kvcalc validates, recomputes every expected figure and runs its rules.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kvcalc.spec.catalog import shipped

BIN = Path(sys.executable).parent


def make_specs(folder: Path, count: int) -> None:
    """The shipped specs over and over, each copy with a name of its own and without hub ids."""
    texts = [path.read_text(encoding="utf-8") for path in shipped().values()]
    for index in range(count):
        name, text = f"model-{index}", texts[index % len(texts)]
        text = re.sub(r"^name: .*$", f"name: {name}", text, flags=re.MULTILINE)
        text = re.sub(r"^(hub_id|aliases):.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def best_of(runs: int, command: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of the run that took the least CPU time."""
    found: list[tuple[float, float]] = []
    for _ in range(runs):
        before, started = os.times(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((cpu, time.perf_counter() - started))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_specs(folder, arguments.files)
        schema = folder / "schema.json"
        schema.write_bytes(subprocess.run([BIN / "kvcalc", "schema"], capture_output=True, check=True).stdout)
        files = [str(path) for path in sorted(folder.glob("*.yaml"))]
        commands = {
            "kvcalc check": [str(BIN / "kvcalc"), "check", "--isolated", "--ignore", "KV3", str(folder)],
            "check-jsonschema": [str(BIN / "check-jsonschema"), "--schemafile", str(schema), *files],
        }
        print(f"{arguments.files:,} model specs, one core, best of {arguments.runs}")
        for label, command in commands.items():
            cpu, wall = best_of(arguments.runs, command)
            print(
                f"{label:18} {cpu:6.2f} s CPU  {wall:6.2f} s wall  {cpu / arguments.files * 1e3:6.2f} ms of it per file"
            )


if __name__ == "__main__":
    main()
