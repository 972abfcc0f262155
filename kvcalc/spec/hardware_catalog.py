"""Shipped accelerators by name, alias or path. Offline; a query on a shipped one needs no pydantic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from os.path import exists
from pathlib import Path

from kvcalc.problems import KvcalcError, Problem, did_you_mean
from kvcalc.spec.build import build
from kvcalc.spec.catalog import looks_like_path
from kvcalc.spec.compiled import plain_data
from kvcalc.spec.document import Document, read_bytes
from kvcalc.spec.hardware import HardwareSpec, contradictions

_ALIASES = re.compile(r"^aliases: \[(.*)\]$", re.MULTILINE)


@cache
def hardware_folder() -> Path:
    """Where the shipped accelerators lie: inside the package."""
    return Path(__file__).resolve().parents[1] / "hardware"


@cache
def shipped_hardware() -> Mapping[str, Path]:
    """Catalogue name -> file."""
    return {path.stem: path for path in sorted(hardware_folder().glob("*.yaml"))}


@cache
def hardware_aliases() -> Mapping[str, str]:
    """Alias -> catalogue name; read without parsing, as shipped files keep their aliases on one line."""
    found: dict[str, str] = {}
    for name, path in shipped_hardware().items():
        line = _ALIASES.search(path.read_text(encoding="utf-8"))
        found |= {alias.strip(' "'): name for alias in (line.group(1).split(",") if line else ())}
    return found


@cache
def shipped_accelerator(name: str) -> HardwareSpec:
    """A shipped accelerator by its catalogue name."""
    return build(HardwareSpec, plain_data(shipped_hardware()[name]))


def list_hardware() -> tuple[HardwareSpec, ...]:
    """Every shipped accelerator, by name."""
    return tuple(shipped_accelerator(name) for name in shipped_hardware())


def load_hardware(name: str, content: bytes) -> tuple[HardwareSpec, Document]:
    """An accelerator from a stranger's bytes.

    Raises:
        KvcalcError: every Problem found, with line and column (KV101: units, or figures that contradict each other).
    """
    from kvcalc.spec.validate import validate
    from kvcalc.spec.yamlio import load_yaml

    document = load_yaml(name, content)
    spec = validate(HardwareSpec, document)
    faults = [document.problem("KV101", loc, message, help=hint) for loc, message, hint in contradictions(spec)]
    if faults:
        raise KvcalcError(*faults)
    return spec, document


def _key(gpu: str) -> str:
    return re.sub(r"[\s_]+", "-", gpu.strip().lower())


def shipped_name(gpu: str) -> str | None:
    """The catalogue name of a shipped accelerator by its name or alias, or None."""
    key = _key(gpu)
    return key if key in shipped_hardware() else hardware_aliases().get(key)


def find_hardware(gpu: str) -> HardwareSpec:
    """GPU as a user writes it: a catalogue name, an alias, a YAML path or `-`.

    Spaces and underscores count as hyphens, so `RTX 4090` and `rtx_4090` are `rtx-4090`.

    Raises:
        KvcalcError: unknown name, or a file that does not hold.
    """
    name = shipped_name(gpu)
    if name is not None:
        return shipped_accelerator(name)
    if looks_like_path(gpu) or exists(gpu):
        return load_hardware(*read_bytes(gpu))[0]
    near = did_you_mean(_key(gpu), [*shipped_hardware(), *hardware_aliases()])
    hint = near or "see `kvcalc list gpus`, or describe yours in a YAML file and give its path"
    raise KvcalcError(Problem(code="KV902", message=f"unknown GPU {gpu[:100]!r}", help=hint))
