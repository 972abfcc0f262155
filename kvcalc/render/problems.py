"""Problems for people: place, code, message, the offending line with a caret, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from kvcalc.problems import Problem, Severity
from kvcalc.render.document import one_line


def render_problem(problem: Problem) -> str:
    """`path:line:col: CODE message`, the line with a caret, `help: ...`."""
    place = f"{problem.place}: " if problem.place else ""
    kind = "" if problem.severity is Severity.ERROR else f"{problem.severity}: "
    lines = [f"{place}{kind}{problem.code} {problem.message}"]
    if problem.snippet and problem.line and problem.column:
        number = str(problem.line)
        lines.append(f"  {number} | {problem.snippet}")
        if problem.column <= len(problem.snippet) + 1:  # the snippet of an endless line is cut
            lines.append(f"  {' ' * len(number)} | {' ' * (problem.column - 1)}^")
    if problem.help:
        lines.append(f"  help: {problem.help}")
    return "\n".join(map(one_line, lines))


def print_problems(problems: Iterable[Problem]) -> None:
    """To standard error."""
    for problem in problems:
        print(render_problem(problem), file=sys.stderr)


def print_warning(message: str) -> None:
    """To standard error."""
    print(f"warning: {one_line(message)}", file=sys.stderr)


def print_remark(message: str) -> None:
    """To standard error: what has been done so far."""
    print(one_line(message), file=sys.stderr, flush=True)
