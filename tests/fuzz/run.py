"""Coverage-guided fuzzing of everything that reads strangers' bytes (atheris: libFuzzer over Python's bytecode).

    pip install atheris
    python tests/fuzz/run.py --runs 1000000 --out fuzz-report.json     # all targets, by their shares
    python tests/fuzz/run.py --target gguf-header --runs 50000

A finding is any exception other than KvcalcError, an execution of more than two seconds of CPU time, or a process
above 1 GiB. Findings are written below --findings (one file each, by where it broke), and do not stop the run: a
mended one belongs into tests/fuzz/corpus/TARGET-what.bin, where pytest replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MAX_SECONDS = 2.0
"""CPU time of one execution, under instrumentation."""
MAX_MIB = 1024
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb: *(\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="one target, and no report")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("", "fuzz", "importers"))]
    if options.worker:
        _work(options)
    names = [options.target] if options.target else list(_shares())
    total = sum(_shares()[name] for name in names)
    rows = []
    for name in names:
        rows.append(_fuzzed(name, options, max(1, options.runs * _shares()[name] // total)))
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(_report(options, rows), indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["findings"] for row in rows) else 0


def _shares() -> dict[str, int]:
    from targets import TARGETS

    return {name: target.share for name, target in TARGETS.items()}


def _report(options: argparse.Namespace, rows: list[dict[str, object]]) -> dict[str, object]:
    from kvcalc import __version__

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "kvcalc": __version__, "commit": commit.strip(), "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}", "date": datetime.now(UTC).date().isoformat(),
        "seed": options.seed, "executions": sum(int(str(row["executions"])) for row in rows), "targets": rows,
    }  # fmt: skip


def _fuzzed(name: str, options: argparse.Namespace, runs: int) -> dict[str, object]:
    """One target in a process of its own; its row of the report."""
    command = [sys.executable, __file__, "--worker", "--target", name, "--runs", str(runs), "--seed", str(options.seed),
               "--findings", str(options.findings)]  # fmt: skip
    before = {path.name for path in options.findings.iterdir()}
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    covered = _COVERED.findall(done.stderr)
    executed, peak = _EXECUTED.search(done.stderr), _PEAK.search(done.stderr)
    found = sorted({path.name for path in options.findings.iterdir()} - before)
    if done.returncode or executed is None:
        found.append(f"exit {done.returncode}: {done.stderr[-1500:]}")
    edges, features, corpus = map(int, covered[-1]) if covered else (0, 0, 0)
    return {
        "target": name, "executions": int(executed[1]) if executed else 0, "edges": edges, "features": features,
        "corpus": corpus, "seconds": round(time.monotonic() - start), "peak_mib": int(peak[1]) if peak else 0,
        "findings": found,
    }  # fmt: skip


def _work(options: argparse.Namespace) -> None:
    """libFuzzer takes the process over and does not return."""
    import atheris

    with atheris.instrument_imports(include=["kvcalc"]):
        from targets import TARGETS, attempt
    target = TARGETS[options.target]
    seen: set[str] = set()

    def one(data: bytes) -> None:
        start = time.process_time()
        try:
            attempt(options.target, data)
        except MemoryError:
            raise
        except Exception as error:
            _keep(options, seen, data, error)
        spent = time.process_time() - start
        if spent > MAX_SECONDS:
            _keep(options, seen, data, TimeoutError(f"{spent:.1f} s"))

    corpus = Path(tempfile.mkdtemp(prefix=f"kvcalc-corpus-{options.target}-"))
    for index, seed in enumerate(target.seeds()):
        (corpus / f"seed-{index:04}").write_bytes(seed)
    flags = [f"-runs={options.runs}", f"-seed={options.seed}", f"-rss_limit_mb={MAX_MIB}", "-timeout=30",
             "-print_final_stats=1", "-max_len=4096", "-reload=0", f"-artifact_prefix={options.findings}/"]  # fmt: skip
    if target.words:
        words = corpus.with_suffix(".dict")
        words.write_text("".join(f"{_quoted(word)}\n" for word in target.words.split()), encoding="utf-8")
        flags.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def _quoted(word: str) -> str:
    return '"' + re.sub(r'"', r"\\x22", word) + '"'


def _keep(options: argparse.Namespace, seen: set[str], data: bytes, error: Exception) -> None:
    """Once for each kind of error and place in kvcalc."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "kvcalc" in frame.filename]
    last = frames[-1] if frames else None
    where = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}" if last else type(error).__name__
    if where in seen:
        return
    seen.add(where)
    stem = f"{options.target}-{where}-{hashlib.sha256(data).hexdigest()[:8]}"
    (options.findings / f"{stem}.bin").write_bytes(data)
    (options.findings / f"{stem}.txt").write_text(
        "".join(traceback.format_exception(error))[-6000:], encoding="utf-8", errors="backslashreplace"
    )


if __name__ == "__main__":
    sys.exit(main())
