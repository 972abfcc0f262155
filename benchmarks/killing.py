"""Whole commands that write a file, killed (SIGKILL) at random moments: is the file always whole?

    python benchmarks/killing.py [--times 200]

A command runs once undisturbed; then, again and again from the same beginning, it is killed: every other time as its
temporary file appears (or a moment later), else after a random share of the processor time that it took. Prints how
often the file was the old one and the new one, and exits 1 where it was neither.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kvcalc.files import TEMPORARY
from kvcalc.spec.catalog import shipped

COMMANDS = {
    "check --fix": ("spec.yaml", ("check", "--isolated", "--fix", "spec.yaml")),
    "check --output-file": ("out", ("check", "--isolated", "spec.yaml", "-o", "sarif", "--output-file", "out")),
    "tiers --plot": ("out.png", ("tiers", "qwen-72b", "--gpu", "h200", "--plot", "out.png")),
    "sweep --plot": ("out.svg", ("sweep", "qwen-72b", "--gpu", "h200", "--plot", "out.svg")),
}  # fmt: skip
"""What is written, by which command."""
OLD = b"the old content\n" * 10_000


def start(arguments: tuple[str, ...], folder: Path) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    command = [sys.executable, "-m", "kvcalc", *arguments]
    return subprocess.Popen(command, cwd=folder, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def used(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lay_out(folder: Path, written: str) -> bytes:
    """The beginning: a spec that --fix repairs, and the file that is there already."""
    spec = shipped()["qwen-72b"].read_bytes().replace(b"num_key_value_heads", b"num_kv_heads")
    (folder / "spec.yaml").write_bytes(spec)
    old = spec if written == "spec.yaml" else OLD
    (folder / written).write_bytes(old)
    return old


def outcome(content: bytes, old: bytes, new: bytes) -> str:
    return "old" if content == old else "new" if content == new else "TORN"


def kill(written: str, arguments: tuple[str, ...], times: int, folder: Path) -> Counter[str]:
    """How often the file was the old one and the new one, and how many temporary files were left."""
    old = lay_out(folder, written)
    before = os.times()
    start(arguments, folder).wait()
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    new = (folder / written).read_bytes()
    assert new != old
    found: Counter[str] = Counter()
    for number in range(times):
        lay_out(folder, written)
        process = start(arguments, folder)
        if number % 2:
            while process.poll() is None and not any(name.startswith(TEMPORARY) for name in os.listdir(folder)):
                pass
            time.sleep(random.choice((0, 0.0002, 0.001, 0.003)))
        else:
            limit = seconds * random.random()
            while process.poll() is None and used(process) < limit:
                time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found["ended before" if process.returncode != -signal.SIGKILL else "killed"] += 1
        found[outcome((folder / written).read_bytes(), old, new)] += 1
        for left in folder.glob(f"{TEMPORARY}*"):
            found["left behind"] += 1
            left.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    random.seed(1)
    words = ("killed", "ended before", "old", "new", "TORN", "left behind")
    print("| command | " + " | ".join(words) + " |\n|---|" + "---:|" * len(words))
    torn = 0
    for name, (written, arguments) in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = kill(written, arguments, times, Path(folder))
        torn += found["TORN"]
        print(f"| `kvcalc {name}` | " + " | ".join(str(found[word]) for word in words) + " |", flush=True)
    sys.exit(bool(torn))


if __name__ == "__main__":
    main()
