"""docs/reference/engines.md: every engine with its version, settings, share of the memory and overheads."""

from __future__ import annotations

from kvcalc.engines import all_engines
from kvcalc.engines.base import Engine, Parallel
from kvcalc.units import format_bytes
from kvcalc_docs.markdown import anchor, code, fields_table, page, table

GPU_BYTES = 80 * 2**30
INTRODUCTION = """What `--engine NAME[@VERSION]` follows. The rules themselves, what was checked against what, and
what is not modelled: [what engines allocate](../engines.md). A setting is given by its flag where it has one
(`--block-size`, `--max-model-len`, ...) and by `--set NAME=VALUE` otherwise."""


def engines_page() -> str:
    """The page, whole."""
    rows = [
        (f"[{code(engine.name)}](#{anchor(engine.name)})", engine.version, engine.summary, engine.source)
        for engine in all_engines()
    ]
    return page(
        "Engines", INTRODUCTION, table(("engine", "version", "allocates", "source"), rows),
        "## Sharding", f"Every engine is given how ranks share the model:\n\n{fields_table(Parallel)}",
        *(_engine(engine) for engine in all_engines()),
    )  # fmt: skip


def _engine(engine: Engine) -> str:
    said = " ".join((engine.settings.__doc__ or "").split())
    intro = f"{engine.summary[0].upper()}{engine.summary[1:]}. Source: {engine.source}."
    if said and not said.startswith("Settings("):
        intro += f" {said}"
    parts = [f"## {engine.name}", intro, fields_table(engine.settings, without=["version", "parallel"])]
    if engine.budget is not None:
        parts.append(_budget(engine))
    elif engine.capacity is None:
        parts.append("Its cache is as large as the context that it is started with: there is no budget to divide.")
    else:
        parts.append("It has no rule for its share of a GPU's memory: give the cache's bytes outright.")
    return "\n\n".join(parts)


def _budget(engine: Engine) -> str:
    assert engine.budget is not None
    budget = engine.budget(engine.configure(), gpu_memory_bytes=GPU_BYTES, weights_bytes=0)
    rows = [
        (code(o.name), format_bytes(o.bytes), f"{format_bytes(o.low_bytes)} to {format_bytes(o.high_bytes)}", o.source)
        for o in budget.overheads
        if o.name != "weights"
    ]
    share = f"Fraction on a GPU of {format_bytes(GPU_BYTES)}: {float(budget.fraction):g} of {budget.fraction_of}."
    intro = f"{share} Overheads beside the weights (`--overhead NAME=SIZE` sets one):"
    return f"{intro}\n\n{table(('overhead', 'assumed', 'seen', 'source'), rows)}"
