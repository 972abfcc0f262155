"""KV4xx: where a spec and the model's own config.json part: resolved layers are compared, never text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import ModelFile
from kvcalc.problems import KvcalcError, Problem, Severity
from kvcalc.spec.document import Loc
from kvcalc.spec.model import ModelSpec, layer_groups, write_out
from kvcalc.streams import Stream


@dataclass(frozen=True, slots=True)
class Pinned:
    """The model as its config.json describes it."""

    name: str
    """Of the file, for messages."""
    spec: ModelSpec


def config_of(file: ModelFile) -> Pinned | None:
    """The config.json to compare with; None where nothing was asked for.

    Raises:
        KvcalcError: none was found, or it cannot be read.
    """
    world, spec = file.world, file.spec
    if world.hub and spec.hub_id:
        from kvcalc.importers.hub import fetch_config

        commit = _commit(spec)
        at = f" at {commit[:10]}" if commit else ""
        return _read(str(fetch_config(spec.hub_id, commit or "main")), f"{spec.hub_id}'s config.json{at}")
    if world.against is None:
        return None
    path = _find(Path(world.against), spec)
    if path is None:
        hint = "as ORG__NAME.json, ORG/NAME/config.json or NAME.json, by the spec's hub_id, aliases or name"
        raise KvcalcError(Problem(code="KV405", message=f"no config.json of this model in {world.against}", help=hint))
    return _read(str(path), path.name if path == Path(world.against) else path.relative_to(world.against).as_posix())


def _commit(spec: ModelSpec) -> str | None:
    """The commit that pins the config; None where `revision` is a date: what was read then cannot be asked for."""
    return spec.revision if spec.revision and re.fullmatch("[0-9a-f]{40}", spec.revision) else None


_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""No other name is looked for: `../x`, `/x` and `*` would lead out of the folder."""


def _find(against: Path, spec: ModelSpec) -> Path | None:
    """The file itself, or the config of this model in a folder of configs."""
    if not against.is_dir():
        return against
    if (against / "config.json").is_file():
        return against / "config.json"
    for hub_id in filter(_HUB_ID.fullmatch, (spec.hub_id or "", *spec.aliases, spec.name)):
        stem = hub_id.rpartition("/")[2]
        flat = hub_id.replace("/", "__")
        for relative in (
            f"{flat}.json", f"{flat}.partial.json", f"{hub_id}/config.json", f"{flat}/config.json", f"{stem}.json",
            f"{stem}/config.json",
        ):  # fmt: skip
            path = against / relative
            if path.is_file():
                return path
        cached = sorted(against.glob(f"models--{hub_id.replace('/', '--')}/snapshots/*/config.json"))  # a hub cache
        for path in (*(path for path in cached if path.parent.name == _commit(spec)), *cached):
            return path
    return None


@lru_cache(maxsize=8)
def _read(path: str, shown: str) -> Pinned:
    from kvcalc.importers.load import load_config, spec_of

    return Pinned(shown, spec_of(load_config(path)))


def _known(file: ModelFile) -> Pinned | KvcalcError | None:
    """The config, or why there is none: asked for once, though several rules need it."""
    if "config" not in file.memo:
        try:
            file.memo["config"] = config_of(file)
        except KvcalcError as error:
            file.memo["config"] = error
    found: Pinned | KvcalcError | None = file.memo["config"]
    return found


def _pinned(file: ModelFile) -> Pinned | None:
    found = _known(file)
    return None if isinstance(found, KvcalcError) else found  # KV405 speaks of what cannot be read


def layer_count(file: ModelFile) -> Iterator[Hit]:
    """Another number of layers."""
    pinned = _pinned(file)
    if pinned is None:
        return
    ours, theirs = len(write_out(file.spec.layers)), len(write_out(pinned.spec.layers))
    if ours != theirs:
        message = f"{ours:,} layers, but {pinned.name} has {theirs:,}"
        yield Hit(loc=("layers",), key=True, message=message)


def cached_rows(file: ModelFile) -> Iterator[Hit]:
    """Layers that keep something else."""
    pinned = _pinned(file)
    if pinned is None:
        return
    ours, theirs = _layers(file.spec), _layers(pinned.spec)
    reported: set[tuple[Any, ...]] = set()
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        if mine[1] == other[1] or (mine, other) in reported:
            continue
        reported.add((mine, other))
        layers = [i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair == (mine, other)]
        where = f"layer {index}" if len(layers) == 1 else f"{len(layers):,} layers (the first is {index})"
        message = f"{where}: {_said(mine[1])}, but {pinned.name} says {_said(other[1])}"
        place = _differing_key(file, mine[0], pinned.spec, other[0])
        yield Hit(loc=place, message=message, key=len(place) == 2)


_LayerRows = tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]


def _layers(spec: ModelSpec) -> list[_LayerRows]:
    """Of each layer: the names of its entries, and its streams."""
    found: dict[int, _LayerRows] = {}
    for group in layer_groups(spec):
        streams = tuple(_row(stream) for kind in group.attention for stream in kind.streams())
        found.update(dict.fromkeys(group.indices, (group.names, streams)))
    return [found[index] for index in sorted(found)]


def _row(stream: Stream) -> tuple[Any, ...]:
    return (stream.role.value, stream.heads, stream.width, stream.extent.formula, stream.dtype)


def _said(rows: tuple[tuple[Any, ...], ...]) -> str:
    return (
        ", ".join(f"{role} {heads} x {width} x {extent} rows" for role, heads, width, extent, _ in rows) or "no cache"
    )


def _differing_key(file: ModelFile, ours: tuple[str, ...], other: ModelSpec, theirs: tuple[str, ...]) -> Loc:
    """The first figure that differs, or the entry, or the layers."""
    for name, twin in zip(ours, theirs, strict=False):
        mine, its = file.spec.attention[name], other.attention[twin]
        if type(mine) is not type(its):
            return ("attention", name, "kind")
        for f in fields(mine):
            place = ("attention", name, f.name)
            if getattr(mine, f.name) != getattr(its, f.name) and place in file.document.marks:
                return place
    return ("attention", ours[0]) if ours else ("layers",)


def context(file: ModelFile) -> Iterator[Hit]:
    """Another context length."""
    pinned = _pinned(file)
    if pinned is None:
        return
    ours, theirs = file.spec.max_position_embeddings, pinned.spec.max_position_embeddings
    if ours is not None and theirs is not None and ours != theirs:
        message = f"a context of {ours:,} tokens, but {pinned.name} says {theirs:,}"
        yield Hit(loc=("max_position_embeddings",), message=message)


def weights(file: ModelFile) -> Iterator[Hit]:
    """Other dimensions of the weights."""
    pinned = _pinned(file)
    if pinned is None:
        return
    for key in ("hidden_size", "vocab_size", "tie_word_embeddings"):
        ours, theirs = getattr(file.spec, key), getattr(pinned.spec, key)
        if ours is not None and theirs is not None and ours != theirs:
            yield Hit(loc=(key,), message=f"{key} is {_shown(ours)}, but {pinned.name} says {_shown(theirs)}")
    reported: set[tuple[str, str]] = set()
    for mine, other in zip(write_out(file.spec.layers), write_out(pinned.spec.layers), strict=False):
        for name, twin in zip(mine.ffn, other.ffn, strict=False):
            if (name, twin) in reported:
                continue
            reported.add((name, twin))
            yield from _ffn_drift(file, name, pinned, twin)


def _ffn_drift(file: ModelFile, name: str, pinned: Pinned, twin: str) -> Iterator[Hit]:
    ours, theirs = (file.spec.ffn or {})[name], (pinned.spec.ffn or {})[twin]
    if type(ours) is not type(theirs):
        yield Hit(loc=("ffn", name, "kind"), message=f"{name}: {pinned.name} says {theirs.kind}")
        return
    if ours.tensors(1) == theirs.tensors(1):
        return  # the same weights, said in another way
    for f in fields(ours):
        mine, its = getattr(ours, f.name), getattr(theirs, f.name)
        if mine != its:
            message = f"{f.name} is {_shown(mine)}, but {pinned.name} says {_shown(its)}"
            yield Hit(loc=("ffn", name, f.name), message=message)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def no_config(file: ModelFile) -> Iterator[Hit]:
    """Nothing to compare with."""
    found = _known(file)
    if isinstance(found, KvcalcError):
        problem = found.problems[0]
        where = f"{problem.place}: " if problem.path else ""
        yield Hit(loc=(), message=f"{where}{problem.message}", help=problem.help)


RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV401",
        name="layer-count-drift",
        summary="another number of layers than the model's config.json",
        why="With `--against` (or `--hub`) a spec is compared with the config as our importer reads it: layer"
        " by layer, so that a pattern written another way is no difference, and a layer more is one.",
        check=layer_count,
    ),
    Rule(
        code="KV402",
        name="cache-drift",
        summary="layers that keep something else than the model's config.json says",
        why="Heads, widths or the rows that are kept differ. The config is what the engine will load.",
        check=cached_rows,
    ),
    Rule(
        code="KV403",
        name="context-drift",
        summary="another context length than the model's config.json",
        why="Lengths beyond it are answered with a warning, and `size` without a length uses it.",
        severity=Severity.WARNING,
        check=context,
    ),
    Rule(
        code="KV404",
        name="weight-drift",
        summary="other weight dimensions than the model's config.json",
        why="They cost no cache, but plans put weights and cache into the same memory.",
        check=weights,
    ),
    Rule(
        code="KV405",
        name="no-config",
        summary="no config.json to compare with, or one that cannot be read",
        why="`--against` or `--hub` was given, so a spec that could not be compared is reported rather than "
        "passed over.",
        severity=Severity.WARNING,
        check=no_config,
    ),
)
