"""docs/reference/models.md: every shipped model with what a token and a sequence cost."""

from __future__ import annotations

from kvcalc.cache_dtypes import BF16
from kvcalc.footprint import footprint, workload_for
from kvcalc.render.footprints import growth_text
from kvcalc.spec.catalog import shipped, shipped_model
from kvcalc.spec.model import ModelSpec, layer_groups
from kvcalc.units import format_bytes
from kvcalc_docs.markdown import code, page, table

TOKENS = 32_768
INTRODUCTION = f"""One sequence's logical cache in bf16 (recurrent states in the format that the model fixes):
*fixed + slope x tokens*, from the length on where every window has filled. The last columns are one sequence of
{TOKENS:,} tokens, or of the model's context where that is shorter, and on what the spec rests: `config` is the model's
own verbatim `config.json`; every other word says that a part was read elsewhere. `kvcalc explain MODEL` names each
source."""


def models_page() -> str:
    """The page, whole."""
    rows = [_row(shipped_model(name)) for name in sorted(shipped())]
    head = ("model", "layers", "context", "one sequence of S tokens", f"at {TOKENS:,}", "rests on")
    return page("Models", INTRODUCTION, table(head, rows, right=[2, 4]))


def _row(spec: ModelSpec) -> tuple[object, ...]:
    layers = "; ".join(f"{group.count} x {group.label}" for group in layer_groups(spec) if group.attention)
    tokens = min(TOKENS, spec.max_position_embeddings or TOKENS)
    work, _ = workload_for(spec, batch_size=1, seq_len=tokens, formats=BF16)
    counted = footprint(spec, work)
    size = format_bytes(counted.logical_bytes) + ("" if tokens == TOKENS else f" ({tokens:,})")
    kinds = ", ".join(dict.fromkeys(source.kind for source in spec.sources))
    return code(spec.name), layers, spec.max_position_embeddings, growth_text(counted.growth), size, kinds
