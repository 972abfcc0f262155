"""Walks the files, asks every rule, and gathers findings: sorted, once each, one file never hiding another's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from kvcalc.checks.kinds import FileKind, recognise, sniff
from kvcalc.checks.rule import Finding, Hit, Rule
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings
from kvcalc.checks.subject import TextFile, World
from kvcalc.checks.suppress import Remarks
from kvcalc.checks.table import RULES, TEXT_RULES
from kvcalc.checks.walk import Candidate, candidates
from kvcalc.problems import KvcalcError, Problem, Severity
from kvcalc.spec.document import Document, line_of, read_bytes
from kvcalc.spec.validate import missing_key
from kvcalc.spec.yamlio import load_yaml

MAX_FINDINGS = 200
"""Of one file."""
MAX_IN_FULL = 20_000
"""Of a run: beyond it each file shows its first finding alone, and how many there are."""
MAX_NAMES = 100
"""Of one file: those beyond are not held against other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The answer of `kvcalc check`."""

    findings: tuple[Finding, ...]
    files: int
    """Checked, by content: model specs, hardware specs, plans."""
    skipped: int
    """YAML files that are none of ours."""
    suppressed: int
    """Findings that a comment in the file silenced."""

    @property
    def failed(self) -> bool:
        """Whether anything beyond a remark was found."""
        return any(finding.problem.severity is not Severity.INFO for finding in self.findings)


@dataclass(slots=True, kw_only=True)
class _Run:
    """What holds for every file of a run, and the names that its files have taken so far."""

    selection: Selection
    world: World
    skip_unknown: bool = False
    stdin_name: str = "<stdin>"
    taken: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind of file, name in lower case) -> the first file that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """One file's result."""

    path: str
    kind: FileKind | None
    findings: tuple[Finding, ...]
    silenced: int = 0


def check(
    paths: Sequence[str],
    *,
    settings: Settings | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    world: World | None = None,
    skip_unknown: bool = False,
    stdin_name: str = "<stdin>",
    advance: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Everything that is wrong with these files and the spec files of these folders.

    Args:
        select, ignore: codes or prefixes, already known to exist.
        skip_unknown: pass over named files that are none of ours.
        stdin_name: what `-` is called in findings, and where it is taken to lie.
        advance: told before each file how many are done, and how many there are.
    """
    settings = settings or Settings()
    run = _Run(
        selection=Selection(settings, select, ignore), world=world or World(), skip_unknown=skip_unknown,
        stdin_name=stdin_name,
    )  # fmt: skip
    unsure: list[Problem] = []
    checked: list[_Checked] = []
    skipped = shown = 0
    every = tuple(candidates(paths, settings))
    for number, candidate in enumerate(every):
        if advance is not None:
            advance(number, len(every))
        result = _check_file(candidate, run, MAX_FINDINGS if shown < MAX_IN_FULL else 1)
        if isinstance(result, Problem):
            unsure.append(result)
        elif result is None:
            skipped += 1
        else:
            checked.append(result)
            shown += len(result.findings)
    # A broken file that shows no sign of its kind is one of ours if it lies among ours.
    homes = {os.path.dirname(result.path) for result in checked if result.kind is not None}
    strangers = [_broken(problem) for problem in unsure if os.path.dirname(problem.path or "") in homes]
    checked += strangers
    return CheckReport(
        findings=_in_order(finding for result in checked for finding in result.findings),
        files=len(checked),
        skipped=skipped + len(unsure) - len(strangers),
        suppressed=sum(result.silenced for result in checked),
    )


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted, and once each."""
    return tuple(sorted({finding.order: finding for finding in findings}.values(), key=lambda finding: finding.order))


def _broken(problem: Problem, kind: FileKind | None = None) -> _Checked:
    """A file of which nothing but this can be said."""
    return _Checked(path=problem.path or "", kind=kind, findings=(Finding(problem=problem),))


def _check_file(candidate: Candidate, run: _Run, limit: int) -> _Checked | Problem | None:
    """The findings of a file; None where it is none of ours; a Problem where that cannot be told."""
    path = run.stdin_name if candidate.path == "-" else candidate.path
    named = candidate.named and not run.skip_unknown
    content = b""
    try:
        content = _content(candidate)
        document = load_yaml(path, content)
    except KvcalcError as error:
        problem = replace(error.problems[0], path=path)
        kind = sniff(content)
        return problem if kind is None and not named and content else _broken(problem, kind)
    kind = recognise(document.data)
    if kind is None:
        return _broken(_unknown(document)) if named else None
    return _check_document(document, kind, run, limit)


def _content(candidate: Candidate) -> bytes:
    """The bytes of a file.

    Raises:
        KvcalcError: they cannot be had (KV001).
    """
    path = candidate.path
    if os.path.isdir(path):
        raise KvcalcError(Problem(code="KV001", message=f"{path} cannot be listed", path=path))
    if candidate.strange:
        message, hint = "a link out of the project is not followed", "name the file itself to have it checked"
        raise KvcalcError(Problem(code="KV001", message=message, path=path, help=hint))
    return read_bytes(path)[1]


def _unknown(document: Document) -> Problem:
    keys = list(document.data) if isinstance(document.data, dict) else []
    hint = "a model spec has `attention` and `layers`, a hardware spec `memory` and `peak`, a plan `model` and `gpu`"
    if "num_hidden_layers" in keys or "architectures" in keys:
        hint = "this looks like a config.json: `kvcalc import` makes a spec of it"
    return document.problem("KV004", (), "neither a model spec, a hardware spec nor a plan", help=hint)


def document_findings(document: Document, kind: FileKind, selection: Selection, world: World) -> tuple[Finding, ...]:
    """What is wrong with one document, comments heeded."""
    return _check_document(document, kind, _Run(selection=selection, world=world), MAX_FINDINGS).findings


def _check_document(document: Document, kind: FileKind, run: _Run, limit: int) -> _Checked:
    path, selection = document.path, run.selection
    remarks = Remarks(document.text, path, selection)
    file = TextFile(document=document, kind=kind.name, keys=kind.keys, schema=kind.schema)
    found = remarks.heeded(
        finding for rule in TEXT_RULES if selection.wants(rule, path) for finding in _asked(rule, file, document)
    )
    subject, problems = kind.load(document, run.world)
    faults = [Finding(problem=problem) for problem in problems if not selection.silences(RULES[problem.code], path)]
    found += remarks.heeded(_not_yet_said(faults, found))
    if subject is not None:
        found += remarks.heeded(
            finding
            for rule in kind.rules
            if rule.check is not None and selection.wants(rule, path)
            for finding in _asked(rule, subject, document)
        )
        found += remarks.heeded(_clashes(kind, subject, document, run))
    found += remarks.idle()
    return _Checked(
        path=path, kind=kind, findings=_bounded(_in_order(found), document, limit), silenced=remarks.silenced
    )


def _not_yet_said(faults: Sequence[Finding], better: Sequence[Finding]) -> Iterator[Finding]:
    """Without what a text rule has said of the same place: it says it better, and can repair it."""
    places = {(finding.problem.line, finding.problem.column) for finding in better}
    present = {finding.present for finding in better}
    for fault in faults:
        place = (fault.problem.line, fault.problem.column)
        if place not in places and (*place, fault.problem.message) not in present:
            yield fault


def _bounded(findings: tuple[Finding, ...], document: Document, limit: int) -> tuple[Finding, ...]:
    rest = len(findings) - limit
    if rest <= 0:
        return findings
    more = document.problem("KV005", (), f"{rest:,} more findings in this file are not shown")
    return (*findings[:limit], Finding(problem=more))


def _asked(rule: Rule[Any], subject: Any, document: Document) -> Iterator[Finding]:
    """What a rule finds; a rule that breaks on a file must not hide what the others find."""
    assert rule.check is not None
    try:
        yield from [_finding(rule, hit, document) for hit in rule.check(subject)]
    except Exception as error:
        message = f"{rule.code} could not be checked: {type(error).__name__}: {str(error)[:200]}"
        yield Finding(problem=document.problem("KV006", (), message, help="this is a fault of kvcalc: report it"))


def _finding(rule: Rule[Any], hit: Hit, document: Document) -> Finding:
    problem = document.problem(rule.code, hit.loc, hit.message, help=hit.help, key=hit.key)
    if hit.mark is not None:
        snippet = line_of(document.text, hit.mark.line)
        problem = replace(problem, line=hit.mark.line, column=hit.mark.column, snippet=snippet)
    present = None
    if hit.stands_for is not None:
        lacking = document.problem("KV011", hit.loc[:-1], missing_key(hit.stands_for))
        present = (lacking.line or 0, lacking.column or 0, lacking.message)
    return Finding(problem=replace(problem, severity=rule.severity), fix=hit.fix, present=present)


def _clashes(kind: FileKind, subject: Any, document: Document, run: _Run) -> Iterator[Finding]:
    """Names that an earlier file of the same kind has as well."""
    rule = RULES["KV610"]
    for loc, name in islice(kind.names(subject), MAX_NAMES):
        other = run.taken.setdefault((kind.name, name.lower()), document.path)
        if other != document.path and run.selection.wants(rule, document.path):
            hit = Hit(loc=loc, message=f"{name!r} is also a name of {other}", help="one file per model")
            yield _finding(rule, hit, document)
