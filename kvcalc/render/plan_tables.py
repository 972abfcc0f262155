"""Tables that plans and fits share: columns that say nothing are left out, rows that differ in nothing are one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from kvcalc.formats import ceil_div
from kvcalc.plan.ledger import Group, Ledger
from kvcalc.plan.report import Choice, FitLine, Shortage
from kvcalc.render.document import Cell, Column, Table, many
from kvcalc.units import format_bytes

Item = TypeVar("Item")
Fields = Sequence[tuple[Column, Callable[[Item], Cell]]]
"""A column, and what it says of an item."""

GROUPS: tuple[Group, ...] = ("reserve", "overhead", "weights", "cache")
LAYOUT = Column("layout", flexible=True)
NAMED = 4
"""Terms of a group that are named where only the groups have rows."""


def both(size: int) -> str:
    """`640 GiB (687,194,767,360 B)`."""
    return f"{format_bytes(size)} ({size:,} B)" if size >= 1024 else f"{size:,} B"


def nodes_text(gpus: int, node_size: int) -> str:
    """`2 nodes of 8`, `in 1 node of 8` where others share it."""
    nodes = f"{many(ceil_div(gpus, node_size), 'node')} of {node_size}"
    return f"in {nodes}" if gpus < node_size else nodes


def why(short: Shortage) -> str:
    """Why this many GPUs are not enough, in a sentence."""
    if short.short_bytes and short.layouts:
        return f"{short.label} is {both(short.short_bytes)} short on each GPU, for the {short.breaks}"
    return f"{short.label}: {short.detail}" if short.label else short.detail


def table_of(fields: Fields[Item], items: Iterable[Item], title: str = "") -> Table:
    """A row per item."""
    rows = tuple(tuple(read(item) for _, read in fields) for item in items)
    return Table(columns=tuple(column for column, _ in fields), rows=rows, title=title)


def lean(table: Table, constant: Iterable[str] = ()) -> Table:
    """Without columns in which no row says anything, nor those of `constant` in which all say the same."""
    if not table.rows:
        return table
    kept = []
    for index, column in enumerate(table.columns):
        said = {row[index] for row in table.rows}
        if said - {None, ""} and not (column.name in constant and len(said) == 1):
            kept.append(index)
    columns = tuple(table.columns[i] for i in kept)
    return table._replace(columns=columns, rows=tuple(tuple(row[i] for i in kept) for row in table.rows))


def cut(table: Table, most: int) -> Table:
    """The first rows; the title says how many are left out."""
    rest = len(table.rows) - most
    if rest <= 0:
        return table
    return table._replace(rows=table.rows[:most], title=f"{table.title} ({rest:,} more with --details)")


def merged(table: Table) -> Table:
    """Rows that differ in their layout alone become the first of them, which names the others."""
    place = table.columns.index(LAYOUT)
    groups: dict[tuple[Cell, ...], list[str]] = {}
    for row in table.rows:
        groups.setdefault((*row[:place], *row[place + 1 :]), []).append(str(row[place]))
    rows = [(*rest[:place], _equals(*labels), *rest[place:]) for rest, labels in groups.items()]
    return table._replace(rows=tuple(rows))


def _equals(label: str, *others: str) -> str:
    """`TP8 + DCP8 (also + EP8)`: the simplest, and what others have besides, or their whole names."""
    parts = set(label.split(" + "))
    more = []
    for other in others:
        theirs = other.split(" + ")
        added = [part for part in theirs if part not in parts]
        more.append(f"+ {' + '.join(added)}" if parts <= set(theirs) else other)
    return f"{label} (also {', '.join(more)})" if more else label


Laid = Choice | FitLine
"""What has a layout and a ledger."""

LAYOUT_FIELDS: Fields[Laid] = (
    (Column("tensor_parallel_size"), lambda item: item.layout.tensor),
    (Column("pipeline_parallel_size"), lambda item: item.layout.pipeline),
    (Column("data_parallel_size"), lambda item: item.layout.data),
    (Column("expert_parallel"), lambda item: item.layout.expert_parallel),
    (Column("decode_context_parallel_size"), lambda item: item.layout.decode_context),
)
"""By the engine's flags."""


def _group(name: Group) -> Callable[[Laid], int]:
    return lambda item: item.ledger.group_bytes(name)


_BYTES: Sequence[tuple[str, Callable[[Laid], int]]] = (
    *((name, _group(name)) for name in GROUPS),
    ("free", lambda item: item.ledger.free_bytes),
)
"""Of a ledger: its groups, and what is left."""


def _gib(read: Callable[[Laid], int]) -> Callable[[Laid], float]:
    return lambda item: read(item) / 2**30


BYTES_FIELDS: Fields[Laid] = tuple((Column(name, "B"), read) for name, read in _BYTES)
GIB_FIELDS: Fields[Laid] = tuple((Column(name), _gib(read)) for name, read in _BYTES)
"""For a table whose title says GiB."""


def ledger_table(ledger: Ledger, label: str, *, details: bool) -> Table:
    """One GPU's memory: a row per group that names its terms, or (`details`) a row per term that says whence it is."""
    stage = f", pipeline stage {ledger.stage} (the fullest)" if ledger.stage else ""
    title = f"memory of one GPU: {label}{stage}"
    sums = (("free", ledger.free_bytes), ("total", ledger.gpu_memory_bytes))
    if details:
        columns = (Column("memory"), Column("term"), Column("bytes", "B"), Column(""), Column("from", flexible=True))
        terms = ((term.group, term.name, term.bytes, format_bytes(term.bytes), term.source) for term in ledger.terms)
        left = (("", name, size, format_bytes(size), "") for name, size in sums)
        return Table(title=title, columns=columns, rows=(*terms, *left))
    groups = [(name, ledger.group_bytes(name), _terms(ledger, name)) for name in GROUPS]
    return Table(
        title=title,
        columns=(Column("memory"), Column("bytes", "B"), Column(""), Column("made of", flexible=True)),
        rows=tuple((name, size, format_bytes(size), of) for name, size, of in [*groups, *((*s, "") for s in sums)]),
    )


def _terms(ledger: Ledger, group: Group) -> str:
    """The terms of a group, largest first; where it is one alone, whence it is."""
    every = [term for term in ledger.terms if term.group == group]
    terms = [term for term in every if term.bytes] or every[:1]
    if len(terms) == 1:
        return terms[0].source
    terms.sort(key=lambda term: -term.bytes)
    said = [f"{term.name} {format_bytes(term.bytes)}" for term in terms[:NAMED]]
    rest = sum(term.bytes for term in terms[NAMED:])
    return ", ".join([*said, f"others {format_bytes(rest)}"] if rest else said)


def log_text(engine: str, label: str, lines: Sequence[str]) -> str:
    """What an engine will print when it starts, as it has a rule for it; else nothing."""
    said = (f"  {line}" for line in lines)
    return "\n".join([f"what the log of {engine} will say ({label}):", *said]) if lines else ""
