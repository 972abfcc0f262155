"""kvcalc diff"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli.common import (
    BatchOption,
    DtypeOption,
    EncoderLenOption,
    Output,
    OutputOption,
    SeqLenOption,
    emit,
    parsed_count,
    warn,
)

if TYPE_CHECKING:
    from kvcalc.spec.model import ModelSpec

    Sides = tuple[dict[str, ModelSpec], dict[str, ModelSpec]]


def diff(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="OLD NEW | [PATH]...", help="Files, models, REV:path; with --rev: paths."),
    ] = None,
    rev: Annotated[
        str | None, typer.Option("--rev", metavar="A..B", help="All specs that differ between two git revisions.")
    ] = None,
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="GPU", help="Show how many of these are needed.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where any figure differs.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """What a change of a spec does to the bytes: per token, at a batch and length, in GPUs.

    Example: kvcalc diff main:specs/mine.yaml specs/mine.yaml -b 8 -s 32K --gpu h200 -o markdown
    """
    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.diffing import diff as compare
    from kvcalc.render.differences import diff_document

    old, new = _between(rev, paths or []) if rev else _pair(paths or [])
    report = compare(
        old,
        new,
        batch_size=parsed_count(batch_size, "--batch-size") or 1,
        seq_len=parsed_count(seq_len, "--seq-len"),
        encoder_len=parsed_count(encoder_len, "--encoder-len", minimum=0),
        formats=parse_kv_cache_dtype(kv_cache_dtype),
        gpu=gpu,
    )
    warn(*report.warnings)
    emit("diff", report, diff_document, output)
    if exit_code and report.changes_bytes:
        raise typer.Exit(1)


def _pair(paths: list[str]) -> Sides:
    """OLD and NEW as one model each."""
    from kvcalc.problems import usage_error

    if len(paths) != 2:
        raise usage_error(f"OLD and NEW are needed, got {len(paths)}", help="or --rev main..HEAD")
    return {"": _model(paths[0])}, {"": _model(paths[1])}


def _model(text: str) -> ModelSpec:
    """A file, a model, or a file at a git revision."""
    from kvcalc.cli.models import find_model
    from kvcalc.revisions import commit_of, read_at, split_revision
    from kvcalc.spec.validate import load_model

    parts = split_revision(text)
    if parts is None:
        return find_model(text)
    return load_model(*read_at(commit_of(parts[0]), parts[1], text))[0]


def _between(rev: str, paths: list[str]) -> Sides:
    """Every model spec that differs between two revisions, by the model's name: a file may move."""
    from kvcalc.revisions import changed_files, read_at, split_range

    first, last = split_range(rev)
    old: dict[str, ModelSpec] = {}
    new: dict[str, ModelSpec] = {}
    for path, was, is_now in changed_files(first, last, paths):
        for commit, there, side in ((first, was, old), (last, is_now, new)):
            spec = _spec(*read_at(commit, path, f"{commit[:10]}:{path}")) if there else None
            if spec is not None:
                side[spec.name if spec.name not in side else f"{spec.name} ({path})"] = spec
    return old, new


def _spec(name: str, content: bytes) -> ModelSpec | None:
    """The model spec, or None where the file is none (other YAML changes as well).

    Raises:
        KvcalcError: a model spec that does not hold.
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
    return validate_model(document) if kind is not None and kind.name == "model" else None
