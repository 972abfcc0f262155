"""docs/reference/kinds.md: every attention kind with its streams, formulas, fields and sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from kvcalc.attention import KINDS, Attention
from kvcalc.cache_dtypes import BF16
from kvcalc.explanation import explain_kind
from kvcalc.formats import Role
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc_docs.markdown import code, fields_table, page, paragraphs, table

WELL_KNOWN = ("qwen-72b", "gemma-3-27b", "deepseek-v3", "deepseek-v3.2", "qwen3-next-80b-a3b", "llama-4-scout-17b-16e")
"""Models that examples are taken from where they have the kind."""

INTRODUCTION = """How K and V are produced and kept. A kind declares *streams*: rows of `heads x width` elements,
how many rows are kept of a sequence of S tokens (and E encoder tokens), and what tensor parallelism does to them.
Quantisation is no kind: any stream can be stored in any [format](formats.md) that fits its rows.
`kvcalc explain KIND` prints the text, `kvcalc explain MODEL` the formulas with a model's numbers put in.

MHA, MQA and GQA are one kind, `full`: they differ in the number of KV heads."""


def kinds_page() -> str:
    """The page, whole."""
    overview = [(f"[{code(name)}](#{name})", kind.summary, len(_users(name))) for name, kind in KINDS.items()]
    blocks = [table(("kind", "keeps", "shipped models with it"), overview, right=[2])]
    return page("Attention kinds", INTRODUCTION, *blocks, *(_kind(name) for name in KINDS))


def _kind(name: str) -> str:
    told = explain_kind(name)
    model, entry, example = min(_users(name), key=lambda user: user[0] not in WELL_KNOWN)
    spec = shipped_model(model)
    resolved = example.resolve(spec.attention)
    title = f"In {code(model)}, the attention entry {code(entry)} ({resolved.label}) keeps, of each sequence and layer:"
    streams = table(
        (
            "stream",
            "rows kept",
            "heads x width",
            "elements a row",
            "under tensor parallelism",
            "the model's own format",
        ),
        [
            (s.name, code(s.extent.formula), f"{s.heads:,} x {s.width:,}", s.heads * s.width, s.sharding.value, s.dtype)
            for s in resolved.streams()
        ],
        right=[3],
    )
    models = ", ".join(dict.fromkeys(code(user) for user, _, _ in _users(name)))
    return "\n\n".join([
        f"## {name}",
        paragraphs(told.text),
        f"Source: {told.source}.",
        *([title, streams, _bytes_of(resolved)] if resolved.streams() else []),
        "Fields of a spec:",
        fields_table(KINDS[name], without=["kind"], unsaid="as in `config.json`"),
        f"Shipped models: {models}.",
    ])  # fmt: skip


def _bytes_of(kind: Attention) -> str:
    """The formulas of bytes that the code runs, in the formats that bf16 gives to the kind's streams."""
    stored = [(s.name, s.format(BF16), s.width) for s in kind.streams() if s.role is not Role.BUFFER]
    lines = [f"{name} bytes ({form.name}) = {form.formula(width)}" for name, form, width in stored]
    return "```text\n" + "\n".join(lines) + "\n```"


@cache
def _users(name: str) -> tuple[tuple[str, str, Attention], ...]:
    """(model, entry, kind) of every shipped model with this kind."""
    return tuple(_search(name))


def _search(name: str) -> Iterator[tuple[str, str, Attention]]:
    for model in shipped():
        for entry, kind in shipped_model(model).attention.items():
            if type(kind) is KINDS[name]:
                yield model, entry, kind
