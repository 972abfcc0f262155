"""`python -m kernels_ref`: the whole verification, as `kvcalc verify` runs it, to a JSON file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from kernels_ref.verify import verify
from kernels_ref.view import verify_document
from kvcalc.render.machine import render_json
from kvcalc.render.text import render_markdown


def main() -> int:
    """Exit code 0 when everything agrees, 1 when something contradicts kvcalc."""
    parser = argparse.ArgumentParser(prog="python -m kernels_ref", description=__doc__)
    parser.add_argument("models", nargs="*", help="models whose caches are allocated whole; default: all shipped")
    parser.add_argument("--json", type=Path, help="write the report here (default: standard output)")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--device", help="cuda or cpu")
    parser.add_argument("--quick", action="store_true", help="leave out timing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    report = verify(
        models=options.models or None,
        device=options.device,
        quick=options.quick,
        seed=options.seed,
        command=" ".join(["python -m kernels_ref", *(Path(part).name for part in sys.argv[1:])]),
        say=lambda message: print(f"[{time.monotonic() - start:6.1f} s] {message}", file=sys.stderr, flush=True),
    )
    text = render_json("verify", report)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(render_markdown(verify_document(report)), encoding="utf-8")
    for line in report.disagreements:
        print(f"disagrees: {line}", file=sys.stderr)
    return 1 if report.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
