"""Mutation testing of the core rooms: does some fast test fail for every small change of the code?

    pip install cosmic-ray pytest-cov
    python tests/mutation/run.py formats streams attention footprint --out mutation.json
    python tests/mutation/run.py plan --sample 300 --seed 1
    python tests/mutation/run.py streams --try kvcalc/streams.py "return f\"min(S" "return f\"max(S"

Each change (changes.py) runs in a forked process that sees the changed code (trial.py), against the tests that ran
that line (choice.py), fastest first, until one fails. A survivor is killed by a new test, or explained in
explained.toml; the exit status says whether any is neither.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import random
import re
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from changes import Mutant, hand_made, in_bodies, mutants
from choice import Choice, measured
from core_rooms import ROOMS, ROOT, Room
from trial import SURVIVES, Imported, Verdict, patched

SHOWN = ("room", "mutants", "run", "killed", "explained", "unexplained", "seconds")
EXPLAINED = Path(__file__).parent / "explained.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why no test can tell some mutants from the code as it is; the patterns are regular expressions."""

    path: str
    was: str
    became: str
    why: str

    def explains(self, mutant: Mutant) -> bool:
        pairs = ((self.path, mutant.path), (self.was, mutant.was), (self.became, mutant.became))
        return all(re.fullmatch(pattern, text) for pattern, text in pairs)


def reasons() -> tuple[Reason, ...]:
    rows = tomllib.loads(EXPLAINED.read_text("utf-8")).get("mutant", [])
    return tuple(Reason(**row) for row in rows)


def verdicts(chosen: Sequence[Mutant], choice: Choice) -> Iterator[tuple[Mutant, Verdict]]:
    """Of every mutant: quickly where only a function's body is changed, else (and where it survives) imported anew."""
    bodies = {path: in_bodies(path) for path in {mutant.path for mutant in chosen}}
    quick: list[tuple[Mutant, Sequence[str]]] = []
    slow: list[tuple[Mutant, Sequence[str]]] = []
    for mutant in chosen:
        swapped = mutant.line in bodies[mutant.path] and not choice.at_import(mutant)
        (quick if swapped else slow).append((mutant, choice.of(mutant)))
    with tempfile.TemporaryDirectory() as scratch:
        found = patched(quick, choice.seconds, Path(scratch) / "verdicts")
    if len(found) < len(quick):
        print(f"  ({len(quick) - len(found)} could not be tried quickly)", flush=True)
    found += [SURVIVES] * (len(quick) - len(found))
    again = [pair for pair, verdict in zip(quick, found, strict=True) if not verdict.killed]
    yield from ((mutant, verdict) for (mutant, _), verdict in zip(quick, found, strict=True) if verdict.killed)
    print(f"  {len(quick)} swapped, {len(again)} of them tried again; {len(slow)} imported", flush=True)
    imported = Imported(choice.seconds)
    for mutant, tests in (*again, *slow):
        verdict = imported.try_out(mutant, tests)
        if not verdict.killed and len(every := choice.of(mutant, inf)) > len(tests):
            verdict = imported.try_out(mutant, every[len(tests) :])
        yield mutant, verdict


def tried(room: str, choice: Choice, chosen: Sequence[Mutant], known: Sequence[Reason]) -> Mapping[str, Any]:
    """The room's row of the report."""
    alive, kills = [], []
    for mutant, verdict in verdicts(chosen, choice):
        row = {key: value for key, value in asdict(mutant).items() if key != "source"}
        if verdict.killed:
            kills.append(row | {"by": verdict.by, "how": verdict.how})
            continue
        why = next((reason.why for reason in known if reason.explains(mutant)), "")
        alive.append(row | {"why": why})
        if not why:
            print(mutant, flush=True)
    unexplained = sum(not row["why"] for row in alive)
    return {"room": room, "run": len(chosen), "killed": len(kills), "explained": len(alive) - unexplained,
            "unexplained": unexplained, "survivors": alive, "kills": kills}  # fmt: skip


def by_hand(path: str, was: str, became: str) -> list[Mutant]:
    """One change written by hand: the first place in the file where `was` stands."""
    source = (ROOT / path).read_text("utf-8")
    place = source.index(was)
    line = source.count("\n", 0, place) + 1
    return [hand_made(path, line, source[:place] + became + source[place + len(was) :])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", choices=list(ROOMS))
    parser.add_argument("--sample", type=int, help="so many mutants of each room, drawn with --seed; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", help="only mutants of files whose path holds this text")
    parser.add_argument("--only", help="only mutants whose line holds this text")
    parser.add_argument("--try", nargs=3, metavar=("PATH", "WAS", "BECAME"), dest="hand", help="one change by hand")
    parser.add_argument("--baseline", type=Path, help="keep which test ran which line here, and read it if it is there")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    _warm()
    known, rows = reasons(), []
    for room in options.rooms:
        start = time.monotonic()
        choice = _baseline(options.baseline, ROOMS[room])
        files = [path for path in ROOMS[room].files if (options.file or "") in path]
        every = by_hand(*options.hand) if options.hand else [mutant for path in files for mutant in mutants(path)]
        chosen = [mutant for mutant in every if (options.only or "") in mutant.was]
        if options.sample and options.sample < len(chosen):
            chosen = random.Random(options.seed).sample(chosen, options.sample)
        print(f"{room}: {len(chosen)} of {len(every)} mutants; baseline {time.monotonic() - start:.0f} s", flush=True)
        row = tried(room, choice, chosen, known)
        rows.append(row | {"mutants": len(every), "seconds": round(time.monotonic() - start)})
        print(", ".join(f"{name} {rows[-1][name]}" for name in SHOWN), flush=True)
        print("  killed by", dict(Counter(_kind(kill) for kill in row["kills"]).most_common(12)), flush=True)
        if options.hand:
            print(row["kills"])
        if options.out:
            options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["unexplained"] for row in rows) else 0


def _baseline(kept: Path | None, room: Room) -> Choice:
    if kept is not None and kept.exists():
        choice: Choice = pickle.loads(kept.read_bytes())
        return choice
    choice = measured(room.files, room.tests)
    if kept is not None:
        kept.write_bytes(pickle.dumps(choice))
    return choice


def _kind(kill: Mapping[str, str]) -> str:
    return kill["how"] if "::" in kill["by"] else kill["by"]


def _warm() -> None:
    """What every child needs and no mutant touches is imported once, before the fork."""
    for name in ("csv", "hypothesis.strategies", "numpy", "pydantic", "typer", "yaml", "pathspec", "rich"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
