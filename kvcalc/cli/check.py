"""kvcalc check"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcalc.cli.common import warn

if TYPE_CHECKING:
    from kvcalc.checks.engine import CheckReport


class FindingsFormat(StrEnum):
    """The forms of kvcalc.render.findings."""

    FULL = "full"
    CONCISE = "concise"
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"
    GITLAB = "gitlab"


SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Where a GitHub job's step may append Markdown."""


def check(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH|-]...", help="Files and folders; default: this folder.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="CODES", help="Only these: KV201, KV3, ALL.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is safe, then check.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what --fix would change, and change nothing.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FILE|DIR", help="config.json to compare geometry with.")
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Compare with the config.json on the Hugging Face hub (network).")
    ] = False,
    output_format: Annotated[
        FindingsFormat, typer.Option("--output-format", "--output", "-o", help="How to print findings.")
    ] = FindingsFormat.FULL,
    output_file: Annotated[
        str | None, typer.Option("--output-file", metavar="FILE", help="Write the findings there.")
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Pass over named files that are no specs.")
    ] = False,
    stdin_filename: Annotated[
        str, typer.Option("--stdin-filename", metavar="FILE", help="What to call standard input.")
    ] = "<stdin>",
    force_exclude: Annotated[
        bool, typer.Option("--force-exclude", help="Pass over named files that `exclude` covers.")
    ] = False,
    config: Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings to use.")] = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="Ignore all settings files.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever was found.")] = False,
) -> None:
    """Lint model and hardware specs: figures, sources, drift, byte budgets.

    Exit 1 where anything beyond a remark was found. `kvcalc explain KV201` explains a code.

    Example: kvcalc check model_specs --output-format github
    """
    from kvcalc.checks.engine import check as run_checks
    from kvcalc.checks.settings import merged, settings_for
    from kvcalc.checks.subject import World
    from kvcalc.checks.table import parse_codes
    from kvcalc.checks.walk import refuse_missing
    from kvcalc.render.progress import progress

    paths = paths or ["."]
    for path in paths:
        refuse_missing(path, "PATH")
    if against is not None:
        refuse_missing(against, "--against")
    chosen, ignored = parse_codes(merged(select or ())), parse_codes(merged(ignore or ()))
    settings = settings_for(config, isolated=isolated)
    if force_exclude:
        settings = replace(settings, force_exclude=True)
    world = World(against=against or settings.against, hub=hub)
    if fix or diff:
        made = _repair(paths, diff, settings=settings, select=chosen, ignore=ignored, world=world)
        if diff:
            raise typer.Exit(1 if made and not exit_zero else 0)
    with progress("files") as advance:
        report = run_checks(
            paths, settings=settings, select=chosen, ignore=ignored, world=world, skip_unknown=skip_unknown,
            stdin_name=stdin_filename, advance=advance,
        )  # fmt: skip
    if not report.files and not skip_unknown:
        warn(f"nothing was checked: no model spec, hardware spec or plan in {', '.join(paths)[:200]}")
    _show(report, output_format.value, output_file)
    if report.failed and not exit_zero:
        raise typer.Exit(1)


def _repair(paths: list[str], diff: bool, **choice: Any) -> int:
    """Files that repairs change: written, or (with `diff`) shown. What cannot be written is said; the others go on."""
    from kvcalc.checks.fixing import changes, write
    from kvcalc.problems import KvcalcError, usage_error
    from kvcalc.render.document import safe
    from kvcalc.render.problems import print_problems, print_remark

    if "-" in paths:
        raise usage_error("standard input cannot be repaired", help="name the file")
    made = 0
    for change in changes(paths, **choice):
        made += 1
        if diff:
            # A patch for a file or a pipe must stay as it is.
            sys.stdout.write(safe(change.diff) if sys.stdout.isatty() else change.diff)
            continue
        try:
            write(change)
        except KvcalcError as error:
            print_problems(error.problems)
        else:
            print_remark(f"{change.path}: {change.fixes} repaired")
    return made


def _show(report: CheckReport, form: str, file: str | None) -> None:
    from kvcalc.render.findings import renderer

    text = renderer(form)(report)
    if file is None:
        sys.stdout.write(text)
    else:
        from kvcalc.files import write_whole
        from kvcalc.render.findings.text import verdict

        write_whole(file, text.encode("utf-8", "backslashreplace"))
        print(verdict(report), file=sys.stderr)
    summary = os.environ.get(SUMMARY_VARIABLE)
    if summary:
        try:
            with open(summary, "a", encoding="utf-8", errors="backslashreplace") as out:
                out.write(renderer("markdown")(report) + "\n")
        except OSError as error:
            print(f"warning: {SUMMARY_VARIABLE}: {error.strerror or error}", file=sys.stderr)
