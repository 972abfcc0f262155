"""docs/reference/formats.md: every storage format with its exact bytes and the source of its layout."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.cache_dtypes import ALIASES, CACHE_DTYPES, PARAMETRIC
from kvcalc.explanation import explain_format
from kvcalc.formats import CacheDtype, Format
from kvcalc_docs.markdown import anchor, code, page, table

WIDTH = 128
INTRODUCTION = f"""How kept rows become bytes (`--kv-cache-dtype`), with every byte of metadata: scales, zero points,
full-precision tails. Bits are summed over one stream of one layer of one sequence and rounded up to a byte once.
`kvcalc explain FORMAT` prints the same; `key=q8_0,value=q4_0` gives each stream its own.

*Bits per element* holds for one head's row of {WIDTH} elements (or the row that the format is made for), metadata
included, in the long run: a format with a full-precision tail takes more at first."""


def formats_page() -> str:
    """The page, whole."""
    rows = [
        (f"[{code(dtype.name)}](#{anchor(dtype.name)})", dtype.summary, _bits(dtype)) for dtype in CACHE_DTYPES.values()
    ]
    patterns = [(code(name), summary) for name, summary in PARAMETRIC.items()]
    names = [(code(alias), code(name)) for alias, name in ALIASES.items()]
    return page(
        "Storage formats", INTRODUCTION, table(("format", "stored as", "bits per element"), rows),
        "## Names that carry figures", table(("pattern", "stored as"), patterns),
        "## Other names", table(("name", "is"), names), *(_format(dtype) for dtype in CACHE_DTYPES.values()),
    )  # fmt: skip


def _format(dtype: CacheDtype) -> str:
    told = explain_format(dtype)
    parts = [f"## {dtype.name}", f"{told.summary}."]
    for layout in told.layouts:
        where = "" if layout.applies_to == "every stream" else f"*{layout.applies_to}*: {layout.summary}\n\n"
        parts.append(f"{where}```text\nbytes = {layout.formula}\n```\n\nSource: {layout.source}.")
    return "\n\n".join(parts)


def _bits(dtype: CacheDtype) -> str:
    pairs = [(role.value, width, stored) for role, width, stored in dtype.variants]
    pairs += [("", None, dtype.default)] if dtype.default else []
    said = dict.fromkeys(
        f"{role} {float(_bits_per_element(stored, width or WIDTH)):.4g}".strip() for role, width, stored in pairs
    )
    return ", ".join(said)


def _bits_per_element(stored: Format, width: int) -> Fraction:
    """Bits that one more row adds in the long run, per element."""
    start, step = stored.saturation, stored.period(1, width)
    return Fraction(stored.bits(start + step, 1, width) - stored.bits(start, 1, width), step * width)
