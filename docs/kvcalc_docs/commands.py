"""docs/reference/commands.md: every command with every argument and flag, from the app itself."""

from __future__ import annotations

from importlib import import_module
from itertools import groupby
from typing import Any

import typer

from kvcalc.cli.app import COMMANDS, Command
from kvcalc_docs.markdown import anchor, code, page, table

INTRODUCTION = """Every command answers `--help` with the same. What the words mean everywhere:

- **MODEL**: a shipped name ([models](models.md)), a spec file, a `config.json`, its folder, a `.gguf`, `-` for standard
  input, or with `--hub` an `org/name` of the hub.
- **Counts** read as vLLM reads them: `32k` = 32,000 and `32K` = 32,768. Sizes: GB = 10^9 B, GiB = 2^30 B.
- **Exit codes**: 0 fine, or it fits; 1 findings, does not fit, disagrees; 2 wrong usage or input; 130 interrupted
  ([of each command](exit-codes.md)).
- Answers go to standard output, remarks to standard error. `NO_COLOR` and `FORCE_COLOR` are honoured."""


def commands_page() -> str:
    """The page, whole."""
    overview = [
        (panel, " ".join(f"[{code(c.name)}](#{anchor('kvcalc ' + c.name)})" for c in listed))
        for panel, listed in groupby(COMMANDS, key=lambda command: command.panel)
    ]
    blocks = [table(("question", "commands"), overview)]
    blocks += [_command(loaded(command)) for command in COMMANDS]
    return page("Commands", INTRODUCTION, *blocks)


def loaded(command: Command) -> Any:
    """The command with its arguments and flags, as click knows them."""
    alone = typer.Typer(add_completion=False)
    alone.command(command.name)(getattr(import_module(command.module), command.function))
    return typer.main.get_command(alone)


def _command(command: Any) -> str:
    text = " ".join(command.help.split("\n")) if "\n\n" not in command.help else command.help
    parts = [f"## kvcalc {command.name}"]
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Example: "):
            parts.append(f"```sh\n{' '.join(paragraph.removeprefix('Example: ').split())}\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    if arguments:
        rows = [(code(p.metavar or p.name.upper()), _default(p), p.help) for p in arguments]
        parts.append(table(("argument", "default", "meaning"), rows))
    options = [p for p in command.params if p.param_type_name == "option"]
    panels = dict.fromkeys(getattr(p, "rich_help_panel", None) for p in options)
    for panel in sorted(panels, key=lambda name: name is not None):
        if panel:
            parts.append(f"**{panel}**")
        rows = [(_names(p), _default(p), p.help) for p in options if getattr(p, "rich_help_panel", None) == panel]
        parts.append(table(("flag", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _names(option: Any) -> str:
    """`--seq-len`, `-s` TOKENS."""
    names = " ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    choices = getattr(option.type, "choices", None)
    value = "|".join(getattr(c, "value", str(c)) for c in choices) if choices else option.metavar or ""
    return f"{names} {value}" + (" (may be repeated)" if option.multiple else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    if value in (None, False, (), [], ""):
        return ""
    return "yes" if value is True else str(value)
