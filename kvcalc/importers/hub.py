"""One config.json from the Hugging Face hub, only when asked for (`--hub`).

huggingface_hub does the work, and so its cache, tokens, mirrors (HF_ENDPOINT) and offline variables (HF_HUB_OFFLINE)
hold. It bounds neither what a server sends nor how long that takes, and prints what a server says; so it works in a
process of its own, which may write MAX_CONFIG bytes to a file, is ended after DEADLINE_S, and answers in one line.
Nothing but config.json is ever fetched, and nothing of it is executed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from kvcalc.importers.config import MAX_CONFIG
from kvcalc.problems import KvcalcError, Problem, usage_error

MAX_MEMORY = 2**30
"""Bytes of address space for the process that fetches: a body may be packed a million times."""
DEADLINE_S = 60
"""For one config.json, retries and all."""
QUIET = {
    "HF_HUB_DISABLE_XET": "1",  # its many threads reserve more memory than that, and no config.json needs it
    "HF_HUB_DISABLE_TELEMETRY": "1",  # with it, a list of coding agents is fetched as well
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONIOENCODING": "utf-8",
}
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def fetch_config(hub_id: str, commit: str = "main") -> Path:
    """The local copy of `org/name`'s config.json, from the cache or the hub, as it is now or was at a commit.

    Raises:
        KvcalcError: no such id, no access, no network, too large, too slow, or the extra is not installed (KV805).
    """
    if not _HUB_ID.fullmatch(hub_id):
        raise usage_error(f"{hub_id[:100]!r} is no hub id", help="write it like Qwen/Qwen3-8B")
    script = Path(__file__).with_name("hub_fetch.py")
    command = [sys.executable, "-P", str(script), hub_id, commit, str(MAX_CONFIG), str(MAX_MEMORY)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=DEADLINE_S, encoding="utf-8",
            errors="replace", env={**os.environ, **QUIET},
        )  # fmt: skip
        answer = json.loads(done.stdout.rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        raise _problem(hub_id, f"no config.json within {DEADLINE_S} s", "give a local config.json instead") from None
    except (OSError, ValueError):
        raise _problem(hub_id, "fetching its config.json broke off", "give a local config.json instead") from None
    if "path" not in answer:
        raise _problem(hub_id, answer["message"], answer["help"])
    return Path(answer["path"])


def _problem(hub_id: str, message: str, hint: str | None) -> KvcalcError:
    return KvcalcError(Problem(code="KV805", message=f"{hub_id}: {message}", help=hint))
