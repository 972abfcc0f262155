"""Runs the commands whose output README.md and docs/*.md show, and writes the output into place.

`python docs/refresh_outputs.py` rewrites; `--check` fails where a page shows something else than the tool says.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- output: kvcalc (?P<arguments>[^\n]+?) -->\n```text\n)(?P<shown>.*?)(```\n)", re.DOTALL)


def run(arguments: str) -> str:
    """What the command prints on a pipe."""
    command = [sys.executable, "-m", "kvcalc", *shlex.split(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"kvcalc {arguments}\n{done.stderr}")
    return done.stdout


def refreshed(text: str) -> str:
    """A page with every block's output as it is now."""
    return BLOCK.sub(lambda block: f"{block[1]}{run(block['arguments'])}{block[4]}", text)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    stale = []
    for page in pages():
        text = page.read_text("utf-8")
        new = refreshed(text)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if "--check" not in sys.argv:
                page.write_text(new, "utf-8")
    for page in stale:
        print(f"{page}: {'differs' if '--check' in sys.argv else 'refreshed'}")
    sys.exit(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    main()
