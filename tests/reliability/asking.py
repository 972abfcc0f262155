"""`python asking.py PRELOADED... < {name: arguments}`: each question in a fork of a bare interpreter.

Answers go to standard output and standard error, between lines that name the question; what was imported, the exit
code and the most memory go to file descriptor 3, as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from importlib import import_module

MARK = "\x1e%s\n"
"""Before each answer: a character that no answer holds."""
PATIENCE_S = 120
"""A question that takes longer hangs: it ends, and its standard error says where."""


def ask(arguments: list[str], report: int) -> None:
    """In the child: never returns."""
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    code: object = 0
    sys.argv = ["kvcalc", *arguments]
    try:
        from kvcalc.__main__ import main

        main()
    except SystemExit as stop:
        code = stop.code
    sys.stdout.flush()
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    os.write(report, json.dumps([code or 0, loaded]).encode())
    os._exit(0)


def main() -> None:
    questions: dict[str, list[str]] = json.load(sys.stdin)
    for name in sys.argv[1:]:
        import_module(name)
    found = {}
    for name, arguments in questions.items():
        for stream in (1, 2):
            os.write(stream, (MARK % name).encode())
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            ask(arguments, writing)
        os.close(writing)
        with open(reading, encoding="utf-8") as report:
            text = report.read()
        _, status, usage = os.wait4(child, 0)
        code, loaded = json.loads(text) if text else (f"ended by {status}", [])
        found[name] = {"code": code, "imports": loaded, "max_rss_bytes": usage.ru_maxrss * 1024}
    os.write(3, json.dumps(found).encode())


if __name__ == "__main__":
    main()
