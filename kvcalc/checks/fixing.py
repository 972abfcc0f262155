"""`--fix`: repairs applied to files, each written whole or not at all."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvcalc.checks.engine import document_findings
from kvcalc.checks.kinds import recognise
from kvcalc.checks.repairs import apply
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings
from kvcalc.checks.subject import World
from kvcalc.checks.walk import candidates
from kvcalc.problems import KvcalcError
from kvcalc.spec.document import read_bytes
from kvcalc.spec.yamlio import load_yaml

MAX_ROUNDS = 10
"""A repair may make room for another (a key renamed, then put in order)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What `--fix` makes of one file."""

    path: str
    before: str
    after: str
    fixes: int

    @property
    def diff(self) -> str:
        """A unified diff, empty where nothing changes."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        lines = difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}")
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def changes(
    paths: Sequence[str],
    *,
    settings: Settings | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    world: World | None = None,
) -> Iterator[Change]:
    """The files among `paths` that repairs change. Files that cannot be read are left to `check`."""
    settings = settings or Settings()
    selection = Selection(settings, select, ignore)
    world = world or World()
    for candidate in candidates(paths, settings):
        if candidate.path == "-" or candidate.strange:
            continue
        try:
            name, content = read_bytes(candidate.path)
            change = repaired(name, content, selection, world)
        except KvcalcError:
            continue
        if change.fixes:
            yield change


def repaired(path: str, content: bytes, selection: Selection, world: World) -> Change:
    """A file's text with every safe repair, in as many rounds as it takes.

    Raises:
        KvcalcError: the file cannot be read as YAML at all.
    """
    document, selection = load_yaml(path, content), selection.repairs()
    before, text, total = document.text, document.text, 0
    for _ in range(MAX_ROUNDS):
        kind = recognise(document.data)
        if kind is None:
            break
        fixes = [f.fix for f in document_findings(document, kind, selection, world) if f.fix is not None]
        after, applied = apply(text, fixes)
        if not applied or after == text:
            break
        try:
            document = load_yaml(path, after.encode("utf-8"))
        except KvcalcError:
            break  # a repair that breaks a file is none
        text, total = after, total + applied
    return Change(path=path, before=before, after=text, fixes=total)


def write(change: Change) -> None:
    """Replace the file, byte order mark and permissions kept.

    Raises:
        KvcalcError: not writable.
    """
    from kvcalc.files import write_whole

    _, content = read_bytes(change.path)
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    write_whole(change.path, mark + change.after.encode("utf-8"))
