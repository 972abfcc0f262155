"""Sweeps: matrices for people, one line per point for machines, written block by block."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from kvcalc.render.document import Cell, Column, Document, Table
from kvcalc.render.machine import SCHEMA_VERSION
from kvcalc.render.progress import progress
from kvcalc.sweep import Block, Plane, SweepReport
from kvcalc.units import format_bytes, format_seconds

SHOWN_COLUMNS = 12
SHOWN_ROWS = 24

POINT_COLUMNS = (
    Column("batch_size"), Column("seq_len", "tokens"), Column("cache_bytes", "B"), Column("cache_read_bytes", "B"),
    Column("weight_read_bytes", "B"), Column("flops", "FLOP"), Column("time_bound", "s"),
    Column("throughput_bound", "tokens/s"), Column("fits"),
)  # fmt: skip
PLANE_COLUMNS = (Column("model"), Column("gpu"), Column("kv_cache_dtype"), Column("ranks"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneForm:
    """One plane in the JSON of a sweep."""

    model: str
    gpu: str | None
    kv_cache_dtype: str
    ranks: str
    """As in `tp8, dp2`; empty for one rank."""
    weight_bytes: int | None
    """Of one rank; None where the spec describes the cache alone."""
    memory_bytes: int | None
    """Of one GPU, times the share that may be used; None without a GPU."""
    calibration: str | None
    columns: tuple[str, ...]
    """Of each point."""
    units: tuple[str, ...]
    points: tuple[tuple[int | float | bool | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepForm:
    """The JSON of a sweep: written as it is calculated, so this class only describes it."""

    assumptions: tuple[str, ...]
    planes: tuple[PlaneForm, ...]


def write_sweep(report: SweepReport, output: str) -> None:
    """To standard output as table, json, csv or markdown."""
    if output == "csv":
        _write_csv(report)
    elif output == "json":
        write_json(report, sys.stdout)
    elif output == "markdown":
        from kvcalc.render.text import render_markdown

        sys.stdout.write(render_markdown(sweep_document(report)))
    else:
        from kvcalc.render.text import print_document

        print_document(sweep_document(report))


def points(plane: Plane) -> Iterator[tuple[Cell, ...]]:
    """One row per point, in the order of POINT_COLUMNS."""
    lengths = plane.lengths.tolist()
    start = 0
    for block in plane.blocks():
        weights = plane.weight_read[start : start + len(block.batches)].tolist()
        start += len(block.batches)
        yield from _block_points(block, lengths, weights)


def _block_points(block: Block, lengths: list[int], weights: list[int]) -> Iterator[tuple[Cell, ...]]:
    for row, batch in enumerate(block.batches.tolist()):
        seconds = block.seconds[row].tolist() if block.seconds is not None else [None] * len(lengths)
        fits = block.fits[row].tolist() if block.fits is not None else [None] * len(lengths)
        columns = (lengths, block.cache_bytes[row].tolist(), block.read_bytes[row].tolist(), block.flops[row].tolist())
        for length, kept, read, flops, time, fit in zip(*columns, seconds, fits, strict=True):
            rate = batch / time if time else None
            yield batch, length, kept, read, weights[row], flops, time, rate, fit


def _write_csv(report: SweepReport) -> None:
    import csv

    from kvcalc.render.machine import bare

    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = (*PLANE_COLUMNS, *POINT_COLUMNS)
    writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in columns])
    with _progress(report) as advance:
        for plane in report.planes:
            head = [bare(value) for value in (plane.model, plane.gpu, plane.kv_cache_dtype, plane.shards)]
            for number, row in enumerate(points(plane), 1):
                writer.writerow([*head, *map(bare, row)])
                advance(number, plane)


def write_json(report: SweepReport, file: TextIO) -> None:
    """`planes: [{..., columns: [...], points: [[...], ...]}]`, a point per line."""
    out = file.write
    head = {"schema_version": SCHEMA_VERSION, "report": "sweep", "assumptions": list(report.assumptions)}
    out(json.dumps(head, ensure_ascii=True)[:-1] + ', "planes": [')
    with _progress(report) as advance:
        for index, plane in enumerate(report.planes):
            out("," if index else "")
            out("\n" + json.dumps(_plane_head(plane), ensure_ascii=True)[:-1] + ', "points": [')
            for number, row in enumerate(points(plane), 1):
                out(("," if number > 1 else "") + "\n" + json.dumps(row, allow_nan=False))
                advance(number, plane)
            out("]}")
    out("]}\n")


def _plane_head(plane: Plane) -> dict[str, Any]:
    return {
        "model": plane.model, "gpu": plane.gpu, "kv_cache_dtype": plane.kv_cache_dtype, "ranks": plane.shards,
        "weight_bytes": plane.weight_bytes, "memory_bytes": plane.memory_bytes, "calibration": plane.calibration,
        "columns": [column.name for column in POINT_COLUMNS],
        "units": [column.unit for column in POINT_COLUMNS],
    }  # fmt: skip


@contextmanager
def _progress(report: SweepReport) -> Iterator[Callable[[int, Plane], None]]:
    """Gives `advance(number of points of this plane, plane)`."""
    before = 0
    with progress("points") as show:

        def advance(number: int, plane: Plane) -> None:
            nonlocal before
            if show is not None and (number % 65536 == 0 or number == plane.points):
                show(before + number, report.points)
            if number == plane.points:
                before += number

        yield advance


def sweep_document(report: SweepReport) -> Document:
    """One matrix per plane: rows are batch sizes, columns lengths."""
    timed = all(plane.gpu for plane in report.planes)
    what = "time bound of a decode step" if timed else "KV cache"
    thinned = any(len(_some(len(p.lengths), SHOWN_COLUMNS)) < len(p.lengths) for p in report.planes) or any(
        len(_some(len(p.batches), SHOWN_ROWS)) < len(p.batches) for p in report.planes
    )
    notes = list(report.assumptions)
    if timed:
        notes.insert(0, "(in brackets: does not fit)")
    if thinned:
        notes.append("not every point is shown: -o csv and -o json give all")
    return Document(
        title=f"{what}: {report.points:,} points",
        tables=tuple(_matrix(plane, timed) for plane in report.planes),
        notes=("\n".join(notes),),
    )


def _some(count: int, most: int) -> list[int]:
    """At most `most` indices, evenly spread, with both ends."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _matrix(plane: Plane, timed: bool) -> Table:
    columns = _some(len(plane.lengths), SHOWN_COLUMNS)
    lengths = plane.lengths.tolist()
    return Table(
        title=plane_title(plane),
        columns=(Column("batch"), *(Column(f"{lengths[index]:,}") for index in columns)),
        rows=tuple(_matrix_row(plane, row, columns, timed) for row in _some(len(plane.batches), SHOWN_ROWS)),
    )


def _matrix_row(plane: Plane, row: int, columns: list[int], timed: bool) -> tuple[Cell, ...]:
    block = plane.block(row, row + 1)
    cells: list[Cell] = [block.batches.tolist()[0]]
    for index in columns:
        if timed and block.seconds is not None:
            text = format_seconds(float(block.seconds[0, index]))
        else:
            text = format_bytes(int(block.cache_bytes[0, index]))
        cells.append(text if block.fits is None or block.fits[0, index] else f"({text})")
    return tuple(cells)


def plane_title(plane: Plane) -> str:
    """`qwen-72b, bf16, on h200, tp8`."""
    parts = [plane.model, plane.kv_cache_dtype]
    parts += [f"on {plane.gpu}"] if plane.gpu else []
    parts += [f"one rank of {plane.shards}"] if plane.shards else []
    return ", ".join(parts)
