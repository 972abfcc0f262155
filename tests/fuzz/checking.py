"""`kvcalc check`: every rule, every form of its findings, its repairs, its comments, and its settings."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fuzz.edits import edits
from fuzz.meaning import same_meaning
from fuzz.oracle import harmless, parsed, problem_shown, table_shown
from fuzz.scratch import written
from fuzz.seeds import SETTINGS
from fuzz.specs import YAML_WORDS, documents, yaml_seeds
from fuzz.target import Target
from import_configs import KNOWN

from kvcalc.checks.engine import check
from kvcalc.checks.fixing import repaired
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings, read_settings
from kvcalc.checks.subject import World
from kvcalc.problems import KvcalcError
from kvcalc.render.findings import FORMATS, renderer
from kvcalc.spec.yamlio import load_yaml

EVERY, IN_PLACE, ORDER = (
    Selection(Settings(), codes) for codes in (("KV",), ("KV601", "KV602", "KV603"), ("KV604", "KV605"))
)


@cache
def _worlds() -> tuple[World, World]:
    """Alone, and beside a config.json to agree with."""
    config = json.dumps(KNOWN["llama"].config).encode()
    return World(), World(against=written("config.json", config))


def _json(text: str) -> None:
    parsed(text)


def _junit(text: str) -> None:
    harmless(text)
    ElementTree.fromstring(text)


def _github(text: str) -> None:
    harmless(text)
    assert all(line.startswith("::") for line in text.splitlines()), "a line that is no command"


READ_BACK: Mapping[str, Callable[[str], None]] = {
    "json": _json, "sarif": _json, "gitlab": _json, "junit": _junit, "github": _github, "csv": table_shown,
}  # fmt: skip
"""Form of findings -> whether a reader takes it; the others are for eyes."""


def checked(data: bytes) -> bool:
    """The file as `check` sees it, its findings in one form, and its repairs; whether it could be understood."""
    number = zlib.crc32(data)
    report = check([written("x.yaml", data)], settings=Settings(), select=("KV",), world=_worlds()[number % 5 == 0])
    for finding in report.findings:
        assert finding.problem.code != "KV006", finding.problem.message
        assert finding.problem.line, "a finding without a place"
        problem_shown(finding.problem)
    form = [*FORMATS][number % len(FORMATS)]
    READ_BACK.get(form, harmless)(renderer(form)(report))
    try:
        before = load_yaml("x.yaml", data).data
    except KvcalcError:
        return False
    _repaired(data, before)
    return not any(finding.problem.code < "KV1" for finding in report.findings)


def _repaired(data: bytes, before: Any) -> None:
    """What could be read still can, and says the same; nothing is left to repair; an order says no other things."""
    change = repaired("x.yaml", data, EVERY, _worlds()[0])
    after = change.after.encode()
    load_yaml("x.yaml", after)
    again = repaired("x.yaml", after, EVERY, _worlds()[0])
    assert again.after == change.after, "a repair is not final"
    spelt = repaired("x.yaml", data, IN_PLACE, _worlds()[0]).after.encode()
    same_meaning(before, load_yaml("x.yaml", spelt).data)
    moved = repaired("x.yaml", data, ORDER, _worlds()[0]).after.encode()
    assert load_yaml("x.yaml", moved).data == before, "in another order, it says other things"


def _seeds() -> list[bytes]:
    """Plans on few GPUs alone: see `specs.plan_yaml`."""
    every = yaml_seeds("tests/checks/bad", "tests/checks/good")
    return [text for text in every if b"\ngpu:" not in text or re.search(rb"^gpus: [1-8]$", text, re.MULTILINE)]


@cache
def _documents() -> tuple[str, ...]:
    """Every third: a byte chooses among them."""
    return (*documents("model_specs")[::3], *documents("kvcalc/hardware")[::3], *documents("tests/checks/good"))


def settings_toml(data: bytes) -> None:
    found = read_settings(Path(written("kvcalc.toml", data)))
    selection = Selection(found)
    assert selection.wants
    _ = found.excluded.match_file("model_specs/x.yaml"), found.ignored_for("model_specs/x.yaml")


TARGETS: Mapping[str, Target] = {
    "settings": Target(settings_toml, lambda: SETTINGS, 100,
                       "select ignore exclude against per-file-ignores = [ ] ! ** KV2"),
    "check": Target(checked, _seeds, 8,
                    YAML_WORDS + " #kvcalc: ignore=KV2 ignore-file=KV"),
    "check-edits": edits("check", checked, _documents, 5),
}  # fmt: skip
