"""Coverage-guided fuzzing of everything that reads strangers' bytes (atheris: libFuzzer over Python's bytecode).

    pip install -e ".[test]" atheris
    python tests/fuzz/run.py --runs 1000000 --jobs 2 --out tests/fuzz/report.json     # all targets, by their shares
    python tests/fuzz/run.py --target gguf-header --runs 50000

A finding is any exception other than KvcalcError, what `oracle.py` refuses, an execution of more than two seconds of
CPU time (of a plain interpreter, when it is run again), or a process above 1 GiB. Findings are written below
--findings/TARGET (one file each, by where it broke) and do not stop the run; the exit status says whether there are
any. A mended one belongs into tests/fuzz/corpus/TARGET-what.bin, where pytest replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "importers")]
MAX_SECONDS = 2.0
MAX_MIB = 1024
MAX_STARTS = 20
"""Of one target: a killed process (out of memory) is followed by another."""
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb: *(\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="these alone")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--out", type=Path, help="the report, as JSON")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--again", type=Path, help="one execution of --target, without instrumentation")
    options = parser.parse_args()
    if options.worker:
        _work(options)
    if options.again:
        return _again(options)
    shares = {name: share for name, share in _shares().items() if not options.target or name in options.target}
    rows: list[dict[str, object]] = []

    def fuzzed(name: str) -> None:
        rows.append(_fuzzed(name, options, -(-options.runs * shares[name] // sum(shares.values()))))
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            ordered = sorted(rows, key=lambda row: list(shares).index(str(row["target"])))
            options.out.write_text(json.dumps(_report(options, ordered), indent=1) + "\n", encoding="utf-8")

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(fuzzed, shares))
    return 1 if any(row["findings"] for row in rows) else 0


def _shares() -> dict[str, int]:
    from fuzz.targets import TARGETS

    return {name: target.share for name, target in TARGETS.items()}


def _report(options: argparse.Namespace, rows: list[dict[str, object]]) -> dict[str, object]:
    from kvcalc import __version__

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "kvcalc": __version__, "commit": commit.strip(), "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}", "date": datetime.now(UTC).date().isoformat(),
        "seed": options.seed, "executions": sum(int(str(row["executions"])) for row in rows), "targets": rows,
    }  # fmt: skip


# --- one target, in processes of its own


def _fuzzed(name: str, options: argparse.Namespace, runs: int) -> dict[str, object]:
    """Its row of the report."""
    from fuzz.targets import TARGETS

    options = argparse.Namespace(**{**vars(options), "findings": options.findings / name})
    options.findings.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    executed = peak = edges = features = kept = 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"kvcalc-corpus-{name}-") as corpus:
        for index, data in enumerate(TARGETS[name].seeds()):
            Path(corpus, f"seed-{index:04}").write_bytes(data)
        for turn in range(MAX_STARTS):
            before = {path.name for path in options.findings.iterdir()}
            done = _worker(name, options, Path(corpus), runs - executed, options.seed + turn)
            counted, high = _EXECUTED.search(done.stderr), _PEAK.search(done.stderr)
            executed += int(counted[1]) if counted else 0
            peak = max(peak, int(high[1]) if high else 0)
            edges, features, kept = map(int, (_COVERED.findall(done.stderr) or [(edges, features, kept)])[-1])
            new = sorted({path.name for path in options.findings.iterdir()} - before)
            found += [
                file for file in new if file.endswith(".bin") and not _only_slow_when_watched(name, options, file)
            ]
            found += [f"{name}-{file}" for file in new if re.match("(oom|timeout|crash|leak)-", file)]
            if counted is None or (done.returncode and not new):
                found.append(f"exit {done.returncode}: {done.stderr[-1500:]}")
                break
            if executed >= runs:
                break
    return {
        "target": name, "executions": executed, "edges": edges, "features": features, "corpus": kept,
        "seconds": round(time.monotonic() - start), "peak_mib": peak, "findings": found,
    }  # fmt: skip


def _worker(
    name: str, options: argparse.Namespace, corpus: Path, runs: int, seed: int
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, "--worker", corpus, "--target", name, "--runs", runs, "--seed", seed,
               "--findings", options.findings]  # fmt: skip
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")


def _only_slow_when_watched(name: str, options: argparse.Namespace, file: str) -> bool:
    """Whether an execution that took too long is quick enough in a plain interpreter; it is no finding then."""
    if "-TimeoutError" not in file:
        return False
    from fuzz.targets import TARGETS

    path = options.findings / file
    command = [sys.executable, __file__, "--target", TARGETS[name].reader or name, "--again", str(path)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode == 0:
        path.unlink()
        path.with_suffix(".txt").unlink()
    return done.returncode == 0


def _again(options: argparse.Namespace) -> int:
    from fuzz.targets import TARGETS, attempt

    (name,) = options.target
    attempt(name, TARGETS[name].seeds()[0])  # what is imported and cached once is not counted
    start = time.process_time()
    attempt(name, options.again.read_bytes())
    spent = time.process_time() - start
    print(f"{spent:.2f} s")
    return int(spent > MAX_SECONDS)


# --- inside the process


def _work(options: argparse.Namespace) -> None:
    """libFuzzer takes the process over and does not return."""
    import atheris

    with atheris.instrument_imports(include=["kvcalc"]):
        from fuzz.targets import TARGETS, attempt
    (name,) = options.target
    seen: set[str] = set()

    def one(data: bytes) -> None:
        start = time.process_time()
        try:
            attempt(name, data)
        except MemoryError:
            raise
        except Exception as error:
            _keep(options, name, seen, data, error)
        spent = time.process_time() - start
        if spent > MAX_SECONDS:
            _keep(options, name, seen, data, TimeoutError(f"{spent:.1f} s"))

    flags = [f"-runs={options.runs}", f"-seed={options.seed}", f"-rss_limit_mb={MAX_MIB}", "-timeout=60",
             "-print_final_stats=1", "-max_len=4096", "-reload=0", f"-artifact_prefix={options.findings}/"]  # fmt: skip
    if TARGETS[name].words:
        words = options.worker.with_suffix(".dict")
        words.write_text("".join(f"{_quoted(word)}\n" for word in TARGETS[name].words.split()), encoding="utf-8")
        flags.append(f"-dict={words}")
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        atheris.Setup([sys.argv[0], *flags, str(options.worker)], one)
        atheris.Fuzz()


def _quoted(word: str) -> str:
    return '"' + re.sub(r'"', r"\\x22", word) + '"'


def _keep(options: argparse.Namespace, name: str, seen: set[str], data: bytes, error: Exception) -> None:
    """Once for each kind of error and place in our code."""
    from fuzz.targets import TARGETS

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT))]
    last = frames[-1] if frames else None
    where = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}" if last else type(error).__name__
    if where in seen:
        return
    seen.add(where)
    target = TARGETS[name]
    if target.spelt is not None:
        name, data = target.reader, target.spelt(data)
    stem = f"{name}-{where}-{hashlib.sha256(data).hexdigest()[:8]}"
    (options.findings / f"{stem}.bin").write_bytes(data)
    (options.findings / f"{stem}.txt").write_text(
        "".join(traceback.format_exception(error))[-6000:], encoding="utf-8", errors="backslashreplace"
    )


if __name__ == "__main__":
    sys.exit(main())
