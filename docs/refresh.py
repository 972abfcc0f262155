"""Writes into the docs what the tool itself says: outputs of commands, pictures, the reference pages.

    python docs/refresh.py [PAGE...]    rewrites what differs (everything, or these pages alone)
    python docs/refresh.py --check      changes nothing; exit 1 where a page says something else than the tool

In a page, `<!-- output: kvcalc ... -->` stands above a block of text with the command and its output, and
`<!-- picture: kvcalc ... --plot docs/pictures/NAME.svg -->` above a picture; the digest in its comment is of the
figures that the picture shows (`-o csv`), so that a stale picture is found without drawing it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"<!-- output: kvcalc (?P<arguments>[^\n]+?) -->\n```text\n(?P<shown>.*?)```\n", re.DOTALL)
PICTURE = re.compile(
    r"<!-- picture: kvcalc (?P<arguments>[^\n]+?) --plot (?P<file>\S+)(?: \| (?P<digest>[0-9a-f]{16}))? -->\n"
)


def run(arguments: str) -> str:
    """What the command prints on a pipe; exit 1 (findings, does not fit) is an answer too."""
    command = [sys.executable, "-m", "kvcalc", *shlex.split(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"kvcalc {arguments}\n{done.stderr}")
    return done.stdout


def block(arguments: str, output: str) -> str:
    """An output as a page shows it, below the command that prints it."""
    return f"<!-- output: kvcalc {arguments} -->\n```text\n$ kvcalc {arguments}\n{output}```\n"


def digest(csv: str) -> str:
    """Of the figures behind a picture."""
    return hashlib.sha256(csv.encode()).hexdigest()[:16]


def refreshed(text: str, answer: Callable[[str], str] = run) -> str:
    """A page with every block's output, and every picture's digest, as they are now."""
    asked = [m["arguments"] for m in BLOCK.finditer(text)]
    drawn = [f"{m['arguments']} -o csv" for m in PICTURE.finditer(text)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        said = dict(zip([*asked, *drawn], pool.map(answer, [*asked, *drawn]), strict=True))
    text = BLOCK.sub(lambda m: block(m["arguments"], said[m["arguments"]]), text)
    return PICTURE.sub(lambda m: _picture(m, digest(said[f"{m['arguments']} -o csv"])), text)


def _picture(found: re.Match[str], now: str) -> str:
    return f"<!-- picture: kvcalc {found['arguments']} --plot {found['file']} | {now} -->\n"


def draw(old: str, new: str) -> None:
    """Draw the pictures of a page whose figures have changed, or that are missing."""
    known = {m["file"]: m["digest"] for m in PICTURE.finditer(old)}
    for m in PICTURE.finditer(new):
        if known.get(m["file"]) != m["digest"] or not (ROOT / m["file"]).exists():
            run(f"{m['arguments']} --plot {m['file']}")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def main() -> None:
    from kvcalc_docs import PAGES

    check = "--check" in sys.argv
    named = {Path(name).resolve() for name in sys.argv[1:] if not name.startswith("-")}
    generated = {DOCS / name: write for name, write in PAGES.items()}
    stale = []
    for page in [*generated, *(page for page in pages() if page not in generated)]:
        if named and page not in named:
            continue
        old = page.read_text("utf-8") if page.exists() else ""
        new = generated[page]() if page in generated else refreshed(old)
        if new != old:
            stale.append(page.relative_to(ROOT))
        if not check:
            draw(old, new)
            page.write_text(new, "utf-8") if new != old else None
    for name in stale:
        print(f"{name}: {'differs' if check else 'refreshed'}")
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
