"""The command line: one word per question. Only the asked command's module is imported."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NamedTuple, TextIO, cast, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from kvcalc.problems import KvcalcError

OUTPUT_BUFFER = 2**24

HOW_MANY = "How many bytes, against what, why"
HOW_FAST = "How fast they stream"
HOW_MUCH = "How many GPUs, or how much on given GPUs"
TRUST = "May I trust this"
LISTS = "Models, GPUs, formats; other people's files; editors"


class Command(NamedTuple):
    """A command `kvcalc NAME`: the function NAME in kvcalc/cli/NAME.py (NAME_command where NAME is Python's)."""

    name: str
    panel: str
    summary: str
    """Its docstring's first sentence: help and completion of the commands' names then import none of them."""

    @property
    def module(self) -> str:
        return f"kvcalc.cli.{self.name}_cmd" if self.name in ("list", "import") else f"kvcalc.cli.{self.name}"

    @property
    def function(self) -> str:
        return f"{self.name}_command" if self.name in ("list", "import") else self.name

    def body(self) -> Callable[..., None]:
        """The function itself; imports its module."""
        body: Callable[..., None] = getattr(import_module(self.module), self.function)
        return body


COMMANDS = (
    Command("size", HOW_MANY, "How many bytes of cache: exact, per layer group and in all."),
    Command("compare", HOW_MANY,
            "Models side by side, or one model as if it had other heads, a latent, a window or another format."),
    Command("explain", HOW_MANY, "Why: the formula, the numbers put in, and the source."),
    Command("tiers", HOW_FAST,
            "SRAM, caches, memory, links, DRAM: what each holds of the cache and how fast a step reads from it."),
    Command("roofline", HOW_FAST,
            "Memory or arithmetic: what each part of a step moves and computes, and which of the two binds it."),
    Command("sweep", HOW_FAST,
            "The whole plane of batch sizes and lengths: cache, traffic, time bounds, and where it stops fitting."),
    Command("plan", HOW_MUCH, "The fewest GPUs for a batch, a length and a speed; exit 1 where none are enough."),
    Command("fit", HOW_MUCH,
            "How much given GPUs hold: largest batch, longest context, tokens of cache; exit 1 where nothing fits."),
    Command("check", TRUST, "Lint model and hardware specs: figures, sources, drift, byte budgets."),
    Command("diff", TRUST,
            "What a change of a spec does to the bytes: per token, at a batch and length, in GPUs."),
    Command("verify", TRUST, "Prove the numbers on this machine: allocate, decode, time."),
    Command("reconcile", TRUST,
            "Does a server's log agree with the prediction? If not, which setting would explain it?"),
    Command("list", LISTS, "What is shipped: models, GPUs, attention kinds, storage formats, engines."),
    Command("import", LISTS, "Other people's files: a config.json, a GGUF file or a hub id as a spec."),
    Command("schema", LISTS,
            "The JSON Schema (draft-07) of a kind of file, or of a report, for editors and other tools."),
)  # fmt: skip

SETTINGS: Mapping[str, Any] = {"help_option_names": ["-h", "--help"]}


class Unloaded(TyperCommand):
    """A command by its name and summary. Its module is imported when it is called, or its own help is asked for."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name, help=command.summary, rich_help_panel=command.panel)
        self.command = command

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return load(self.command).make_context(*arguments, **options)


class Commands(TyperGroup):
    """Every command of the table, none of them imported."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for command in COMMANDS:
            self.add_command(Unloaded(command))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def load(command: Command) -> TyperCommand:
    """A command with its options."""
    app = typer.Typer(add_completion=False, context_settings=dict(SETTINGS))
    body = command.body()
    # Typer reads the annotations three times; those that are text would be compiled, and make new options, each time.
    body.__annotations__ = get_type_hints(body, include_extras=True)
    if "_KVCALC_COMPLETE" in os.environ:
        from kvcalc.cli.completion import attach

        attach(body)
    app.command(command.name, rich_help_panel=command.panel)(body)
    return cast("TyperCommand", get_command(app))


def build_app() -> typer.Typer:
    """The typer app of all commands."""
    app = typer.Typer(
        name="kvcalc",
        cls=Commands,
        help="Exact KV-cache bytes of language models: how many, how fast they stream, how many GPUs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=dict(SETTINGS),
    )
    app.callback()(_root)
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


class _Talk(TextIOWrapper):
    """Standard error. Where nobody listens any more, what is said is dropped: the answer does not depend on it."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            _silence(self)
            return len(text)


def _open_output() -> None:
    """UTF-8 and plain newlines, whatever the locale: the same bytes everywhere."""
    if sys.stdout is None or sys.stderr is None:
        sys.exit(2)  # closed by the caller: nowhere to answer, or nowhere to say why not
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    with suppress(OSError):  # not streams of the system's, as in tests
        # Room for a whole answer: it is written at the end, where run() sees a reader that has left or a full disk.
        answer, talk = (
            open(stream.fileno(), "wb", size, closefd=False)  # noqa: SIM115 - live as long as the process
            for stream, size in ((sys.stdout, OUTPUT_BUFFER), (sys.stderr, -1))
        )
        sys.stdout = TextIOWrapper(answer, "utf-8", "backslashreplace", newline="\n")
        sys.stderr = _Talk(talk, "utf-8", "backslashreplace", newline="\n", line_buffering=True)


def _silence(stream: TextIO) -> None:
    """What is still buffered for a stream goes nowhere, and so fails nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(*lines: str) -> None:
    """On standard error; what a line quotes cannot drive a terminal."""
    from kvcalc.render.document import safe

    print("\n".join(safe(line) for line in lines), file=sys.stderr)


def run() -> None:
    """Entry point. Exit codes: 0 fine; 1 findings, does not fit, disagrees; 2 wrong usage or input; 130 interrupted."""
    _open_output()
    try:
        try:
            build_app()()
        finally:
            sys.stdout.flush()
    except KvcalcError as error:
        from kvcalc.render.problems import render_problem

        _say(*map(render_problem, error.problems))
        sys.exit(2)
    except KeyboardInterrupt:  # outside the app, which has its own answer: while printing, or a second one
        _silence(sys.stdout)
        sys.exit(130)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # as below, in the midst of an answer: typer makes it 1
            sys.exit(0)
        raise
    except BrokenPipeError as error:
        # The reader has left (`| head`): nothing to say, and nobody to say it to.
        _silence(sys.stdout)
        sys.exit(error.__context__.code if isinstance(error.__context__, SystemExit) else 0)
    except OSError as error:
        _silence(sys.stdout)
        _say(f"kvcalc: {error.filename or 'standard output'}: {error.strerror or error}")
        sys.exit(2)
    except Exception as error:  # A promise: no traceback reaches a user.
        if os.environ.get("KVCALC_DEBUG"):
            raise
        if isinstance(error, ModuleNotFoundError) and not (error.name or "kvcalc").startswith("kvcalc"):
            _say(f"kvcalc: {error.name} is not installed", "  help: `pip install kvcalc` brings all that it needs")
            sys.exit(2)
        _say(
            f"kvcalc: internal error: {type(error).__name__}: {error}",
            "  help: this is a fault of kvcalc; run again with KVCALC_DEBUG=1 and report it",
        )
        sys.exit(2)
