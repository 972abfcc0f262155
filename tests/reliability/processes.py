"""kvcalc in processes of its own: what it leaves behind when it is killed, interrupted, or out of room."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KVCALC = (sys.executable, "-m", "kvcalc")
CLEAN = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "KVCALC_DEBUG")}


def start(arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """`kvcalc ARGUMENTS`, its streams on pipes."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*KVCALC, *arguments], **{**streams, "env": CLEAN, **options})


def run(arguments: Sequence[str], **options: Any) -> tuple[int, bytes, bytes]:
    """(exit code, standard output, standard error)."""
    process = start(arguments, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out or b"", err or b""


def little_room(most: int) -> Callable[[], None]:
    """For `preexec_fn`: no file may grow beyond `most` bytes, as if the disk were full then."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return limit


def as_anybody() -> None:
    """For `preexec_fn`: permissions hold for root as well (after exec, without the capability to override them)."""
    if os.geteuid() == 0:
        prctl_capbset_drop, cap_dac_override = 24, 1  # linux/prctl.h, linux/capability.h
        assert ctypes.CDLL(None).prctl(prctl_capbset_drop, cap_dac_override, 0, 0, 0) == 0


def worked(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Waits until a process has used so much processor time; False where it ended before."""
    ticks = os.sysconf("SC_CLK_TCK")
    while process.poll() is None:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        if (int(fields[11]) + int(fields[12])) / ticks >= seconds:
            return True
        time.sleep(0.002)
    return False


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Ctrl-C: (exit code, standard error)."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err
