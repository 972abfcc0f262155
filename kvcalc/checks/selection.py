"""Which rules run on which file: what is selected, what is ignored, and which of the two decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

from kvcalc.checks.rule import Rule
from kvcalc.checks.settings import Settings


class Selection:
    """Which rules run: selected or on by default, and not ignored. The longest matching code decides."""

    def __init__(self, settings: Settings, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> None:
        self._chosen = tuple(select) or settings.select
        self._extra = settings.extend_select
        self._ignored = (*settings.ignore, *ignore)
        self._settings = settings
        self._repairs = False
        self._known: dict[tuple[str, tuple[str, ...]], bool] = {}

    def repairs(self) -> Selection:
        """The same choice, of those rules alone that can repair what they find: others may take their time."""
        found = copy(self)
        found._repairs, found._known = True, {}
        return found

    def wants(self, rule: Rule[Any], path: str | None = None) -> bool:
        """Whether this rule's findings are reported (in this file)."""
        more = () if path is None else self._settings.ignored_for(path)
        key = (rule.code, more)
        if key not in self._known:
            self._known[key] = self._decide(rule, (*self._ignored, *more))
        return self._known[key]

    def silences(self, rule: Rule[Any], path: str) -> bool:
        """Whether this rule is ignored by name: what keeps the others from running is hidden by nothing less."""
        ignored = (*self._ignored, *self._settings.ignored_for(path))
        return _longest(rule.code, ignored) > 0 and not self.wants(rule, path)

    def _decide(self, rule: Rule[Any], ignored: tuple[str, ...]) -> bool:
        if self._repairs and not rule.fixable:
            return False
        if not rule.suppressible:
            return True
        chosen = (*self._chosen, *self._extra) if self._chosen else (*(("KV",) if rule.default else ()), *self._extra)
        return _longest(rule.code, chosen) > _longest(rule.code, ignored)


def _longest(code: str, prefixes: Iterable[str]) -> int:
    return max((len(prefix) for prefix in prefixes if code.startswith(prefix)), default=0)
