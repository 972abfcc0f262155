"""The command line: one word per question. Only the asked command's module is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper

import typer

from kvcalc.problems import KvcalcError

OUTPUT_BUFFER = 2**24

HOW_MANY = "How many bytes, against what, why"
HOW_FAST = "How fast they stream"
HOW_MUCH = "How many GPUs, or how much on given GPUs"
TRUST = "May I trust this"
LISTS = "Models, GPUs, formats; other people's files; editors"


@dataclass(frozen=True, slots=True)
class Command:
    """A command `kvcalc NAME`: the function NAME in kvcalc/cli/NAME.py (a trailing _ where NAME is Python's)."""

    name: str
    panel: str

    @property
    def module(self) -> str:
        return f"kvcalc.cli.{self.name}_cmd" if self.name in ("list", "import") else f"kvcalc.cli.{self.name}"

    @property
    def function(self) -> str:
        return f"{self.name}_command" if self.name in ("list", "import") else self.name


COMMANDS = (
    Command("size", HOW_MANY),
    Command("compare", HOW_MANY),
    Command("explain", HOW_MANY),
    Command("tiers", HOW_FAST),
    Command("roofline", HOW_FAST),
    Command("sweep", HOW_FAST),
    Command("plan", HOW_MUCH),
    Command("fit", HOW_MUCH),
    Command("check", TRUST),
    Command("diff", TRUST),
    Command("verify", TRUST),
    Command("reconcile", TRUST),
    Command("list", LISTS),
    Command("import", LISTS),
    Command("schema", LISTS),
)


def build_app(commands: Iterable[Command]) -> typer.Typer:
    """The typer app with these commands."""
    app = typer.Typer(
        name="kvcalc",
        help="Exact KV-cache bytes of language models: how many, how fast they stream, how many GPUs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in commands:
        body = getattr(import_module(command.module), command.function)
        app.command(command.name, rich_help_panel=command.panel, no_args_is_help=False)(body)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from kvcalc import __version__

        typer.echo(f"kvcalc {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def _wanted(arguments: list[str]) -> tuple[Command, ...]:
    """The asked command alone, for speed; all of them for help and completion."""
    named = tuple(command for command in COMMANDS if arguments and command.name == arguments[0])
    return named if named and "_KVCALC_COMPLETE" not in os.environ else COMMANDS


def _open_output() -> None:
    """UTF-8 and plain newlines, whatever the locale: the same bytes everywhere."""
    if sys.stdout is None or sys.stderr is None:
        sys.exit(2)  # closed by the caller: nowhere to answer, or nowhere to say why not
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    with suppress(OSError):  # not a stream of the system's, as in tests
        # Room for a whole answer: it is written at the end, where run() sees a reader that has left or a full disk.
        sys.stdout = open(  # noqa: SIM115 - lives as long as the process
            sys.stdout.fileno(), "w", OUTPUT_BUFFER, "utf-8", "backslashreplace", newline="\n", closefd=False
        )


def _silence() -> None:
    """What is still buffered for standard output goes nowhere, and so fails nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> None:
    """Entry point. Exit codes: 0 fine; 1 findings, does not fit, disagrees; 2 wrong usage or input; 130 interrupted."""
    _open_output()
    try:
        try:
            build_app(_wanted(sys.argv[1:]))()
        finally:
            sys.stdout.flush()
    except KvcalcError as error:
        from kvcalc.render.problems import print_problems

        print_problems(error.problems)
        sys.exit(2)
    except BrokenPipeError:
        # The reader has left (`| head`): nothing to say, and nobody to say it to.
        _silence()
        sys.exit(0)
    except OSError as error:
        _silence()
        print(f"kvcalc: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # A promise: no traceback reaches a user.
        if os.environ.get("KVCALC_DEBUG"):
            raise
        print(f"kvcalc: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  help: this is a fault of kvcalc; run again with KVCALC_DEBUG=1 and report it", file=sys.stderr)
        sys.exit(2)
