"""What Tab offers: shipped names, by the parameter that takes them.

A shell asks on every key press, so nothing of kvcalc is imported for an answer: files are listed where a file is a
name, and all other names stand in names.txt, which `python -m kvcalc.cli.completion` writes from the tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from typer.models import ParameterInfo

NAMES_FILE = os.path.join(os.path.dirname(__file__), "names.txt")
_PACKAGE = os.path.dirname(os.path.dirname(__file__))

Source = Callable[[], Iterable[str]]
Complete = Callable[[str], list[str]]


def _stems(folder: str) -> list[str]:
    return sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".yaml"))


def models() -> list[str]:
    """Catalogue names; their folder lies beside the package, as in spec.catalog."""
    return _stems(os.path.join(os.path.dirname(_PACKAGE), "model_specs"))


def gpus() -> list[str]:
    """Catalogue names."""
    return _stems(os.path.join(_PACKAGE, "hardware"))


def listed(what: str) -> Source:
    """A line of names.txt."""

    def names() -> list[str]:
        with open(NAMES_FILE, encoding="utf-8") as lines:
            return next((line.split()[1:] for line in lines if line.startswith(f"{what}: ")), [])

    return names


def _subjects() -> list[str]:
    """What `explain` explains."""
    return [*models(), *gpus(), *(name for what in ("kinds", "formats", "codes") for name in listed(what)())]


def complete(source: Source, *, after: str = "", then: str = "") -> Complete:
    """Names that begin with what is typed, in the case in which it is typed (names are found in either).

    Args:
        after: characters behind which another name begins, as in `h100,h2`.
        then: what follows a name, as the `=` of `h200=2.50`.
    """

    def completions(incomplete: str) -> list[str]:
        typed = incomplete[max((incomplete.rfind(mark) + 1 for mark in after), default=0) :]
        fitting = (name for name in source() if name.lower().startswith(typed.lower()))
        return [f"{incomplete}{name[len(typed) :]}{then}" for name in fitting]

    return completions


def _model_names(incomplete: str) -> list[str]:
    """Catalogue names, or hub ids once a slash is typed (a path is left to the shell, which offers files)."""
    if "/" not in incomplete or incomplete.startswith((".", "/", "~")):
        return complete(models)(incomplete)
    from kvcalc.spec.catalog import shipped, shipped_raw

    named = (str(shipped_raw(name).get("hub_id") or "") for name in shipped())
    return complete(lambda: named)(incomplete)


COMPLETED: Mapping[str, Complete] = {
    "model": _model_names,
    "models": _model_names,
    "subject": complete(_subjects),
    "gpu": complete(gpus, after=","),
    "prices": complete(gpus, after=",", then="="),
    "engine": complete(listed("engines")),
    "kv_cache_dtype": complete(listed("formats"), after=",="),
    "weight_dtype": complete(listed("weight_formats"), after=",="),
    "variants": complete(listed("variants"), after=",@"),
    "convention": complete(listed("conventions"), after=","),
    "compute_dtype": complete(listed("compute_dtypes")),
    "objective": complete(listed("objectives")),
    "select": complete(listed("codes"), after=","),
    "ignore": complete(listed("codes"), after=","),
    "what": complete(listed("lists")),
    "kind": complete(listed("file_kinds")),
    "report": complete(listed("reports")),
    "assume": complete(listed("assumptions")),
    "device": complete(lambda: ("cuda", "cpu")),
}
"""Parameter of a command -> its completion. Parameters that are not here take numbers, files or free text."""


def attach(body: Callable[..., None]) -> None:
    """Gives the parameters of a command their completions; its annotations are no longer text."""
    for name, hint in body.__annotations__.items():
        found = COMPLETED.get(name)
        for mark in getattr(hint, "__metadata__", ()) if found else ():
            if isinstance(mark, ParameterInfo):
                mark.autocompletion = found


def tables() -> Mapping[str, Iterable[str]]:
    """Every line of names.txt, from where the names have their home."""
    from kvcalc.attention import KINDS
    from kvcalc.cache_dtypes import CACHE_DTYPES
    from kvcalc.checks.table import RULES
    from kvcalc.cli.schema import SCHEMAS
    from kvcalc.engines import NAMES
    from kvcalc.importers.hf_config import ASSUMPTIONS
    from kvcalc.listing import LISTS
    from kvcalc.plan.request import OBJECTIVES
    from kvcalc.render.reports import REPORTS
    from kvcalc.roofline import FALLBACKS
    from kvcalc.steps import CONVENTIONS
    from kvcalc.variants import EXAMPLES
    from kvcalc.weights.formats import WEIGHT_FORMATS

    return {
        "kinds": KINDS, "formats": CACHE_DTYPES, "weight_formats": WEIGHT_FORMATS, "engines": NAMES, "codes": RULES,
        "lists": LISTS, "file_kinds": SCHEMAS, "reports": REPORTS, "assumptions": ASSUMPTIONS,
        "objectives": OBJECTIVES, "compute_dtypes": FALLBACKS, "conventions": CONVENTIONS, "variants": EXAMPLES,
    }  # fmt: skip


def names_text(lines: Mapping[str, Iterable[str]]) -> str:
    """names.txt."""
    return "".join(f"{what}: {' '.join(names)}\n" for what, names in lines.items())


def main(*_: Any) -> None:
    """Writes names.txt."""
    from kvcalc.files import write_whole

    write_whole(NAMES_FILE, names_text(tables()).encode())


if __name__ == "__main__":
    main()
