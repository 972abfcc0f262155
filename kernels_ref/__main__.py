"""`python -m kernels_ref`: the whole verification, as `kvcalc verify` runs it, to a JSON file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from kernels_ref import obstacle
from kvcalc.files import write_whole
from kvcalc.problems import KvcalcError
from kvcalc.render.machine import render_json
from kvcalc.render.problems import print_problems, print_remark
from kvcalc.render.text import render_markdown


def main() -> int:
    """Exit code 0 when everything agrees, 1 when something contradicts kvcalc; as `kvcalc verify`."""
    parser = argparse.ArgumentParser(prog="python -m kernels_ref", description=__doc__)
    parser.add_argument("models", nargs="*", help="models whose caches are allocated whole; default: all shipped")
    parser.add_argument("--json", type=Path, help="write the report here (default: standard output)")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--device", help="cuda or cpu")
    parser.add_argument("--quick", action="store_true", help="leave out timing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if (problem := obstacle(options.device)) is not None:
        raise problem
    from kernels_ref.verify import verify
    from kernels_ref.view import verify_document

    start = time.monotonic()
    report = verify(
        models=options.models or None,
        device=options.device,
        quick=options.quick,
        seed=options.seed,
        command=" ".join(["python -m kernels_ref", *(Path(part).name for part in sys.argv[1:])]),
        say=lambda message: print_remark(f"[{time.monotonic() - start:6.1f} s] {message}"),
    )
    text = render_json("verify", report)
    if options.json:
        write_whole(str(options.json), text.encode())
    else:
        sys.stdout.write(text)
    if options.markdown:
        write_whole(str(options.markdown), render_markdown(verify_document(report)).encode())
    for line in report.disagreements:
        print_remark(f"disagrees: {line}")
    return 1 if report.disagreements else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KvcalcError as error:
        print_problems(error.problems)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
