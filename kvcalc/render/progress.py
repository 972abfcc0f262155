"""A progress bar on standard error: on a terminal alone, and only where the work lasts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

PATIENCE_S = 1.0
"""What is done by then shows no bar."""


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Gives `advance(done, whole)`; None where nobody would see a bar.

    The bar is made when `advance` is first called after PATIENCE_S seconds; it goes when the work is done.
    """
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(what)
    try:
        yield bar.advance
    finally:
        bar.stop()


class _Bar:
    """rich's, imported and drawn late."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._from = monotonic() + PATIENCE_S
        self._drawn: Any = None
        self._task: Any = None

    def advance(self, done: int, whole: int) -> None:
        if self._drawn is None:
            if monotonic() < self._from:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._drawn = Progress(console=Console(stderr=True), transient=True)
            self._drawn.start()
            self._task = self._drawn.add_task(self._what, total=whole)
        # Whoever is done with a part may have others to do, of unknown length: the bar then only shows that it lives.
        self._drawn.update(self._task, completed=done, total=whole if done < whole else None)

    def stop(self) -> None:
        if self._drawn is not None:
            self._drawn.stop()
