"""Walks the files, asks every rule, and gathers findings: sorted, once each, one file never hiding another's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from kvcalc.checks.kinds import FileKind, recognise, sniff
from kvcalc.checks.rule import Finding, Hit, Rule
from kvcalc.checks.settings import Settings
from kvcalc.checks.source_text import lines_of
from kvcalc.checks.subject import TextFile, World
from kvcalc.checks.suppress import comments
from kvcalc.checks.table import RULES, TEXT_RULES
from kvcalc.checks.walk import Candidate, candidates
from kvcalc.problems import KvcalcError, Problem, Severity, did_you_mean
from kvcalc.spec.document import Document, line_of, read_bytes
from kvcalc.spec.yamlio import load_yaml

MAX_FINDINGS = 200
"""Of one file."""


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
class _Checked:
    """One file's result, before findings of the whole run are added."""

    path: str
    kind: FileKind | None
    findings: list[Finding]
    text: str | None = None
    names: tuple[tuple[str, Problem], ...] = ()
    """(name in lower case, where a clash would be reported)"""


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


def check(
    paths: Sequence[str],
    *,
    settings: Settings | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    world: World | None = None,
    skip_unknown: bool = False,
    stdin_name: str = "<stdin>",
) -> CheckReport:
    """Everything that is wrong with these files and the spec files of these folders.

    Args:
        select, ignore: codes or prefixes, already known to exist.
        skip_unknown: pass over named files that are none of ours.
        stdin_name: what `-` is called in findings.
    """
    settings = settings or Settings()
    selection = Selection(settings, select, ignore)
    world = world or World()
    unsure: list[tuple[Candidate, Problem]] = []
    checked: list[_Checked] = []
    skipped = 0
    for candidate in candidates(paths, settings):
        result = _check_file(candidate, stdin_name, selection, world, skip_unknown)
        if isinstance(result, Problem):
            unsure.append((candidate, result))
        elif result is None:
            skipped += 1
        else:
            checked.append(result)
    # A broken file that shows no sign of its kind is one of ours if it lies among ours.
    homes = {os.path.dirname(result.path) for result in checked if result.kind is not None}
    for candidate, problem in unsure:
        if os.path.dirname(candidate.path) in homes:
            checked.append(_Checked(path=candidate.path, kind=None, findings=[Finding(problem=problem)]))
        else:
            skipped += 1
    findings = [finding for result in checked for finding in result.findings]
    if selection.wants(RULES["KV610"]):
        findings += _clashes(checked, selection)
    kept, suppressed = _suppress(findings, checked, selection)
    return CheckReport(findings=kept, files=len(checked), skipped=skipped, suppressed=suppressed)


def _check_file(
    candidate: Candidate, stdin_name: str, selection: Selection, world: World, skip_unknown: bool
) -> _Checked | Problem | None:
    """The findings of a file; None where it is none of ours; a Problem where that cannot be told."""
    path = candidate.path
    named = candidate.named and not skip_unknown
    content = b""
    try:
        if os.path.isdir(path):
            raise KvcalcError(Problem(code="KV001", message=f"{path} cannot be listed", path=path))
        if candidate.strange:
            message, hint = "a link out of the project is not followed", "name the file itself to have it checked"
            raise KvcalcError(Problem(code="KV001", message=message, path=path, help=hint))
        name, content = read_bytes(path)
        document = load_yaml(stdin_name if path == "-" else name, content)
    except KvcalcError as error:
        problem = error.problems[0]
        if path == "-":
            problem = replace(problem, path=stdin_name)
        kind = sniff(content)
        if kind is None and not named and content:
            return problem
        return _Checked(path=path, kind=kind, findings=[Finding(problem=problem)])
    kind = recognise(document.data)
    if kind is None:
        if not named:
            return None
        return _Checked(path=path, kind=None, findings=[Finding(problem=_unknown(document))])
    return _check_document(path, document, kind, selection, world)


def _unknown(document: Document) -> Problem:
    keys = list(document.data) if isinstance(document.data, dict) else []
    hint = "a model spec has `attention` and `layers`, a hardware spec `memory` and `peak`, a plan `model` and `gpu`"
    if "num_hidden_layers" in keys or "architectures" in keys:
        hint = "this looks like a config.json: `kvcalc import` makes a spec of it"
    return document.problem("KV004", (), "neither a model spec, a hardware spec nor a plan", help=hint)


def _check_document(path: str, document: Document, kind: FileKind, selection: Selection, world: World) -> _Checked:
    file = TextFile(document=document, kind=kind.name, keys=kind.keys, schema=kind.schema)
    found: list[Finding] = []
    for rule in TEXT_RULES:
        if selection.wants(rule, path):
            found += _asked(rule, file, document)
    subject, problems = kind.load(document, world)
    better = {(finding.problem.line, finding.problem.column) for finding in found}
    for problem in problems:
        # A text rule that speaks of the same place says it better, and can repair it.
        if (problem.line, problem.column) not in better and not selection.silences(RULES[problem.code], path):
            found.append(Finding(problem=problem))
    names: tuple[tuple[str, Problem], ...] = ()
    if subject is not None:
        for rule in kind.rules:
            if rule.check is not None and selection.wants(rule, path):
                found += _asked(rule, subject, document)
        names = tuple((name.lower(), document.problem("KV610", loc, name)) for loc, name in kind.names(subject))
    unique = sorted({finding.order: finding for finding in found}.values(), key=lambda finding: finding.order)
    if len(unique) > MAX_FINDINGS:
        rest = len(unique) - MAX_FINDINGS
        more = document.problem("KV005", (), f"{rest:,} more findings in this file are not shown")
        unique = [*unique[:MAX_FINDINGS], Finding(problem=more)]
    return _Checked(path=path, kind=kind, findings=unique, text=document.text, names=names)


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
    return Finding(problem=replace(problem, severity=rule.severity), fix=hit.fix)


def _clashes(checked: Sequence[_Checked], selection: Selection) -> Iterator[Finding]:
    """Names that another file of the same kind has as well."""
    first: dict[tuple[str, str], str] = {}
    for result in sorted(checked, key=lambda result: result.path):
        for name, problem in result.names:
            kind = result.kind.name if result.kind else ""
            other = first.setdefault((kind, name), result.path)
            if other != result.path and selection.wants(RULES["KV610"], result.path):
                message = f"{problem.message!r} is also a name of {other}"
                yield Finding(problem=replace(problem, message=message, help="one file per model"))


def _suppress(
    findings: Sequence[Finding], checked: Sequence[_Checked], selection: Selection
) -> tuple[tuple[Finding, ...], int]:
    """(findings that no comment silences, and what is wrong with comments; how many were silenced)."""
    by_path: dict[str, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.problem.path or "", []).append(finding)
    texts = {_shown_path(result): result.text for result in checked}
    kept: list[Finding] = []
    silenced = 0
    for path, found in by_path.items():
        remaining, count = _suppressed(path, found, texts.pop(path, None), selection)
        kept += remaining
        silenced += count
    for path, text in texts.items():
        kept += _suppressed(path, [], text, selection)[0]
    return tuple(sorted(kept, key=lambda finding: finding.order)), silenced


def _shown_path(result: _Checked) -> str:
    return next((f.problem.path for f in result.findings if f.problem.path), result.path)


def _suppressed(
    path: str, findings: Sequence[Finding], text: str | None, selection: Selection
) -> tuple[list[Finding], int]:
    remarks = comments(text) if text is not None and "kvcalc" in text else []
    if text is None or not remarks:
        return list(findings), 0
    kept: list[Finding] = []
    for finding in findings:
        problem = finding.problem
        hits = [remark for remark in remarks if remark.covers(problem.code, problem.line or 0)]
        if hits and RULES[problem.code].suppressible:
            for remark in hits:
                remark.used = True
        else:
            kept.append(finding)
    silenced = len(findings) - len(kept)
    for remark in remarks:
        known = any(code.startswith(remark.code) for code in RULES)
        code = "KV611" if known else "KV612"
        if remark.used or not selection.wants(RULES[code], path):
            continue
        if known and not _could_run(remark.code, selection, path):
            continue  # its rules were not asked this time
        message = f"{remark.code} silences nothing here" if known else f"no rule has the code {remark.code}"
        hint = "remove it" if known else did_you_mean(remark.code.lower(), [code.lower() for code in RULES])
        lines = lines_of(text)
        kept.append(
            Finding(
                problem=Problem(
                    code=code, severity=RULES[code].severity, message=message, path=path, line=remark.mark.line,
                    column=remark.mark.column, help=hint, snippet=lines[remark.mark.line - 1].rstrip("\r\n")[:200],
                )
            )
        )  # fmt: skip
    return kept, silenced


def _could_run(code: str, selection: Selection, path: str) -> bool:
    return any(known.startswith(code) and selection.wants(rule, path) for known, rule in RULES.items())


def document_findings(
    path: str, document: Document, kind: FileKind, selection: Selection, world: World
) -> list[Finding]:
    """What is wrong with one document, comments heeded."""
    checked = _check_document(path, document, kind, selection, world)
    return _suppressed(path, checked.findings, document.text, selection)[0]
