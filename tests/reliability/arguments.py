"""Every parameter of every command given what it was not made for. `python arguments.py`: all of it, with figures."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from command_line import Ran, kvcalc  # noqa: E402

from kvcalc.cli.app import COMMANDS, load  # noqa: E402

LIMIT_S = 20
"""For one answer, on a busy machine."""

BASE: Mapping[str, tuple[str, ...]] = {
    "size": ("qwen-72b", "-s", "100"),
    "compare": ("qwen-72b", "-s", "100"),
    "explain": ("qwen-72b",),
    "tiers": ("qwen-72b", "--gpu", "h200", "-s", "100"),
    "roofline": ("qwen-72b", "--gpu", "h200", "-s", "100"),
    "sweep": ("qwen-72b", "-b", "1,3", "-s", "100,200"),
    "plan": ("qwen3-8b", "--gpu", "h200", "-s", "100"),
    "fit": ("qwen3-8b", "--gpu", "h200", "-s", "100"),
    "check": ("--isolated", "spec.yaml"),
    "diff": ("qwen-72b", "qwen-7b"),
    "verify": ("--device", "tpu"),
    "reconcile": ("server.log", "--model", "qwen3-8b"),
    "list": ("models",),
    "import": ("config.json",),
    "schema": ("model",),
}
"""Arguments that make a question; the parameter in question comes behind them, or in place of the first."""

VALUES = (
    "", " ", "\t", "-", "--", "0", "-1", "1", "1.5", "1e3", "1e999", "-1e-999", "nan", "inf", "9" * 100, "9" * 5000,
    "1T", "0x10", "1_000", "1,2", ",", "1:", "1:2:*1", "4:1:-1", "1:1T:1", "٣", "１２", "½", "1 2", "true", "null",
    "=1+1", "@mqa", "qwen-72b@", "qwen-72b@gqa:0", "key=", "=", "a=b=c", "key=bf16,key=fp8", "fp8,", "all", "ALL",
    "%s", "{0}", "[red]x[/red]", "\x1b[31mred", "a\nb", "\u202eabc", "\ufeff", "😀", "\udcff", "x" * 5000, "..", "~",
    "~nobody/x", ".", "folder", "none/x.yaml", "binary.gguf", "binary.yaml", "binary.json", "spec.yaml", "config.json",
    "worse.yaml", "/dev/null", "/dev/zero", "*", "$(touch made)", "`touch made`", "; touch made", "|touch made",
    "h200,", "h200=", "h200=-1", "h200=1e400", "main..", "..main", "-x..y", "HEAD:spec.yaml", "a:b", "vllm@", "vllm@0",
    "@", "-1GiB", "1XB", "1GiB/s", "-1ms", "1e400s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    command: str
    parameter: str
    arguments: tuple[str, ...]
    value: str


def cases() -> Iterator[Case]:
    """Every parameter that takes a value, with every value."""
    for command in COMMANDS:
        base = BASE[command.name]
        for parameter in load(command).params:
            if getattr(parameter, "is_flag", False) or parameter.name in ("help", "hub"):
                continue
            for value in VALUES:
                if parameter.name == "paths" and value in ("..", "~"):
                    continue  # whatever else lies on this machine
                if parameter.param_type_name == "argument":
                    arguments = ("--", value) if command.name in ("verify", "check") else (*base[1:], "--", value)
                else:
                    arguments = (*base, f"{max(parameter.opts, key=len)}={value}")
                yield Case(command.name, str(parameter.name), (command.name, *arguments), value)


def write_inputs(folder: Path) -> None:
    from reliability.questions import write_inputs as write

    write(folder)
    (folder / "folder").mkdir()
    for suffix in ("gguf", "yaml", "json"):
        (folder / f"binary.{suffix}").write_bytes(bytes(range(256)) * 64)


class Late(BaseException):
    """No error of kvcalc's, which would answer it."""


def fault(case: Case) -> str | None:
    """What is wrong with the answer; None where it is an answer, or a refusal as it should be."""

    def late(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        ran = kvcalc(*case.arguments)
    except Late:
        return f"no answer in {LIMIT_S} s"
    finally:
        signal.alarm(0)
    return _fault(ran)


def _fault(ran: Ran) -> str | None:
    if ran.code not in (0, 1, 2):
        return f"exit code {ran.code}"
    if "Traceback" in ran.err or "internal error" in ran.err:
        return ran.err
    if ran.code == 2 and (ran.out or not ran.err.strip()):
        return f"exit code 2 with {len(ran.out)} characters of an answer and {len(ran.err)} of a reason"
    if len(ran.err) > 20_000:
        return f"{len(ran.err):,} characters of a reason"
    drives = {
        c for text in (ran.out, ran.err) for c in text if c not in "\n" and unicodedata.category(c) in ("Cc", "Cf")
    }
    return f"for the terminal: {sorted(drives)!a}" if drives else None


def main() -> None:
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name))
        os.chdir(name)
        slowest = (0.0, "")
        for case in cases():
            before = time.monotonic()
            found = fault(case)
            counts["faults" if found else "fine"] += 1
            slowest = max(slowest, (time.monotonic() - before, repr(case)[:200]))
            if found:
                print(f"{case!r:.300}\n    {found[-400:]}", flush=True)
        made = [entry for entry in os.listdir(name) if entry.startswith("made")]
        os.chdir("/")
    print(f"{dict(counts)}, {time.monotonic() - started:.0f} s, slowest {slowest}, made by a shell: {made}")


if __name__ == "__main__":
    main()
