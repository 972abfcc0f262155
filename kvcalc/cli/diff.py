"""kvcalc diff"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli.common import Output, OutputOption, emit, parsed_count, warn
from kvcalc.cli.plan_options import Given, asked, takes

if TYPE_CHECKING:
    from kvcalc.diffing import Question, Subject
    from kvcalc.spec.document import Document
    from kvcalc.spec.model import ModelSpec

    Sides = tuple[dict[str, Subject], dict[str, Subject]]

OF_THE_CACHE = ("batch_size", "seq_len", "encoder_len", "kv_cache_dtype")
OF_GPUS = ("gpu", "gpus", "weight_dtype", "engine")
ANY = "any model"
"""In place of the model of a plan that is asked of several."""


@takes((*OF_THE_CACHE, *OF_GPUS), model=False)
def diff(
    given: Given,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="OLD NEW | [PATH]...", help="Specs, models, plans, REV:path; with --rev: paths."),
    ] = None,
    rev: Annotated[
        str | None,
        typer.Option("--rev", metavar="A..B", help="All specs and plans that differ between two git revisions."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="PLAN", help="Workload, GPUs and engine of a plan file; flags override them."),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where any figure differs.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """What a change of a spec does to the bytes: per token, at a batch and length, in GPUs.

    Example: kvcalc diff main:specs/mine.yaml specs/mine.yaml --plan plan.yaml -o markdown
    """
    from kvcalc.diffing import diff as compare
    from kvcalc.render.differences import diff_document

    question = _question(given, plan)
    old, new = _between(rev, paths or [], question) if rev else _pair(paths or [], question, bool(given or plan))
    report = compare(old, new)
    warn(*report.warnings)
    emit("diff", report, diff_document, output)
    if exit_code and report.changes_figures:
        raise typer.Exit(1)


def _question(given: Given, file: str | None) -> Question:
    """What flags and a plan file ask of every model."""
    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.diffing import Question, asked_by
    from kvcalc.problems import usage_error

    if file is not None or "gpu" in given:
        return asked_by(*asked(given if file is not None else {"model": ANY, **given}, file))
    for name in OF_GPUS:
        if name in given:
            raise usage_error(f"--{name.replace('_', '-')} is about GPUs", help="name them: --gpu h200, or --plan FILE")
    return Question(
        batch_size=parsed_count(given.get("batch_size"), "--batch-size") or 1,
        seq_len=parsed_count(given.get("seq_len"), "--seq-len"),
        encoder_len=parsed_count(given.get("encoder_len"), "--encoder-len", minimum=0),
        formats=parse_kv_cache_dtype(given.get("kv_cache_dtype", "bf16")),
    )


def _pair(paths: list[str], question: Question, is_asked: bool) -> Sides:
    """OLD and NEW: two models, or two plans with a model each."""
    from kvcalc.problems import usage_error

    if len(paths) != 2:
        raise usage_error(f"OLD and NEW are needed, got {len(paths)}", help="or --rev main..HEAD")
    old, new = (_subject(path, question) for path in paths)
    if (old.question is question) != (new.question is question):
        raise usage_error("a model cannot be compared with a plan", help="give two models and --plan, or two plans")
    if is_asked and old.question is not question:
        raise usage_error("plans bring their own workload and GPUs", help="leave out --plan and the flags that ask")
    return {"": old}, {"": new}


def _subject(text: str, question: Question) -> Subject:
    """A file, a model, a plan, or a spec or plan at a git revision."""
    from kvcalc.cli.models import find_model
    from kvcalc.revisions import commit_of, read_at, split_revision
    from kvcalc.spec.catalog import SPEC_SUFFIXES
    from kvcalc.spec.document import read_bytes
    from kvcalc.spec.validate import load_model

    parts = split_revision(text)
    if parts is not None:
        commit, path = commit_of(parts[0]), parts[1]
        name, content = read_at(commit, path, text)
        return _read(name, content, path, question, commit) or _model(load_model(name, content)[0], question)
    if text.lower().endswith(SPEC_SUFFIXES):
        found = _read(*read_bytes(text), text, question)
        if found is not None:
            return found
    return _model(find_model(text), question)


def _model(spec: ModelSpec, question: Question) -> Subject:
    from kvcalc.diffing import Subject

    return Subject(name=spec.name, model=spec, question=question)


def _between(rev: str, paths: list[str], question: Question) -> Sides:
    """Every spec and plan that differs between two revisions, models by their names: a file may move.

    What did not hold before is warned of and left out, so that a change that repairs it has its answer.
    """
    from kvcalc.problems import KvcalcError
    from kvcalc.revisions import changed_files, read_at, split_range

    first, last = split_range(rev)
    old: dict[str, Subject] = {}
    new: dict[str, Subject] = {}
    for path, was, is_now in changed_files(first, last, paths):
        for commit, there, side in ((first, was, old), (last, is_now, new)):
            shown = f"{commit[:10]}:{path}"
            try:
                found = _read(*read_at(commit, path, shown), path, question, commit) if there else None
            except KvcalcError as error:
                if side is new:
                    raise
                warn(*(f"{p.place or shown}: {p.message}: not counted" for p in error.problems[:1]))
                continue
            if found is not None:
                side[found.name if found.name not in side else f"{found.name} ({path})"] = found
    return old, new


def _read(name: str, content: bytes, path: str, question: Question, commit: str | None = None) -> Subject | None:
    """A spec or a plan; None where the file is neither (other YAML changes as well).

    Args:
        name: for messages.
        path: where the file lies, from the working directory, now or at `commit`.

    Raises:
        KvcalcError: a spec or plan that does not hold.
    """
    from kvcalc.checks.kinds import recognise, sniff
    from kvcalc.problems import KvcalcError
    from kvcalc.spec.validate import validate_model
    from kvcalc.spec.yamlio import load_yaml

    try:
        document = load_yaml(name, content)
    except KvcalcError:
        if sniff(content) is None:
            return None
        raise
    kind = recognise(document.data)
    if kind is not None and kind.name == "model":
        return _model(validate_model(document), question)
    return _plan(document, path, commit) if kind is not None and kind.name == "plan" else None


def _plan(document: Document, path: str, commit: str | None) -> Subject:
    """A plan and its model, which is read where the plan was; other files that it names, from the working tree."""
    from kvcalc.cli.models import find_model
    from kvcalc.diffing import Subject, asked_by
    from kvcalc.plan.planfile import is_file, placed, plan_of
    from kvcalc.problems import KvcalcError
    from kvcalc.revisions import read_at
    from kvcalc.spec.validate import load_model

    file = plan_of(document, path)
    model = file.spec.model
    try:
        if commit is not None and is_file(model):
            spec = load_model(*read_at(commit, model, f"{commit[:10]}:{model}"))[0]
        else:
            spec = find_model(model)
    except KvcalcError as error:
        raise placed(error, file, ("model",)) from None
    return Subject(name=f"{path}: {spec.name}", model=spec, question=asked_by(file.spec, file))
