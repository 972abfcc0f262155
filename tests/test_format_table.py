"""The table of shipped formats: what a row of each stream costs, as printed. test_formats.py has the sources."""

from __future__ import annotations

import pytest

from kvcalc.cache_dtypes import CACHE_DTYPES, cache_dtype
from kvcalc.formats import Role
from kvcalc.problems import KvcalcError

STREAMS = {
    "K": (Role.KEY, 128), "V": (Role.VALUE, 128), "MLA": (Role.LATENT, 576), "V4": (Role.LATENT, 512),
    "index": (Role.INDEX, 128), "odd": (Role.LATENT, 544),
}  # fmt: skip
EVERY = tuple(STREAMS)
INDEX = "width * 8 + ceil(width / 128) * 32"
KEYS = "floor(rows / 128) * 128"
"""KIVI's rows of K that are codes; of V all but the newest 128."""
VALUES = "max(rows - 128, 0)"


def whole(size: int) -> dict[str, str]:
    """Whole bytes, in every stream."""
    return dict.fromkeys(EVERY, f"rows * heads * width * {size}")


def row(bits: str, *streams: str) -> dict[str, str]:
    """Bits of one head's row, in some streams (default: every)."""
    return dict.fromkeys(streams or EVERY, f"ceil(rows * heads * ({bits}) / 8)")


def kivi(bits: int) -> dict[str, str]:
    return {
        "K": f"ceil(({KEYS} * heads * width * {bits} + {KEYS} / 32 * heads * width * 32"
        f" + (rows - {KEYS}) * heads * width * 16) / 8)",
        "V": f"ceil(({VALUES} * heads * width * {bits} + {VALUES} * heads * ceil(width / 32) * 32"
        f" + (rows - {VALUES}) * heads * width * 16) / 8)",
    }


TABLE: dict[str, dict[str, str]] = {
    "fp32": whole(4),
    "bf16": whole(2),
    "fp16": whole(2),
    "fp8": whole(1),
    **{
        name: row(f"width * {bits} + 1 * 32") | row(f"width * {bits} + 1 * 64", "MLA", "V4", "odd")
        for name, bits in (("fp8_per_token_head", 8), ("int8_per_token_head", 8), ("int4_per_token_head", 4))
    },
    "kivi2": kivi(2),
    "kivi4": kivi(4),
    **{
        name: row(f"width * {bits} + ceil(width / 32) * {scales}")
        for name, bits, scales in (
            ("q8_0", 8, 16), ("q5_1", 5, 32), ("q5_0", 5, 16), ("q4_1", 4, 32), ("q4_0", 4, 16), ("iq4_nl", 4, 16),
            ("mxfp8", 8, 8), ("mxfp4", 4, 8), ("ultraquant_4bit", 4, 8),
        )
    },
    "nvfp4": row("width * 4 + ceil(width / 16) * 8"),
    "fp8_ds_mla": row("512 * 8 + ceil(512 / 128) * 32 + 64 * 16", "MLA")
    | row("448 * 8 + ceil(448 / 64) * 8 + 64 * 16 + 8", "V4")
    | row(INDEX, "index"),
    "turboquant_k8v4": {"K": "rows * heads * width * 1"} | row("width * 4 + 1 * 32", "V"),
    "turboquant_4bit_nc": row("width * 4 + 1 * 16", "K") | row("width * 4 + 1 * 32", "V"),
    "turboquant_k3v4_nc": row("width * 3 + 1 * 16", "K") | row("width * 4 + 1 * 32", "V"),
    "turboquant_3bit_nc": row("width * 3 + 1 * 16", "K") | row("width * 3 + 1 * 32", "V"),
    "octave_k3v4": row("width * 4 + ceil(width / 64) * 16", "K") | row("width * 4 + 1 * 16", "V"),
    "octave_k3v3": row("width * 4 + ceil(width / 64) * 16", "K") | row("width * 3 + 1 * 16", "V"),
    "octave_k3v3_compact": row("width * 3 + 1 * 16", "K", "V"),
    "nvfp4_ds_mla": row("512 * 4 + ceil(512 / 16) * 8 + 64 * 8", "MLA")
    | row("512 * 4 + ceil(512 / 16) * 8", "V4")
    | row(INDEX, "index"),
    "mxfp8_ds_mla": row("width * 8 + ceil(width / 32) * 8", "V4") | row(INDEX, "index"),
    "lmdeploy_int8": row("width * 8 + 1 * 32", "K", "V"),
    "lmdeploy_int4": row("width * 4 + 1 * 32", "K", "V"),
    "lmdeploy_turbo_quant": row("width * 4 + 1 * 32", "K") | row("width * 2 + 1 * 16", "V"),
    # names that carry figures
    "int5": row("width * 5"),
    "int4-g48-zp": row("width * 4 + ceil(width / 48) * 32"),
    "octave_k3v4-r64": row("64 * 4 + ceil(64 / 64) * 16 + 64 * 3 + ceil(64 / 64) * 16", "K")
    | row("width * 4 + 1 * 16", "V"),
    "octave_k3v3-r128": row("128 * 4 + ceil(128 / 64) * 16", "K") | row("width * 3 + 1 * 16", "V"),
    "kivi3-g32-r128": kivi(3),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_stream_costs_this_and_others_are_refused(name: str) -> None:
    found = {}
    for stream, (role, width) in STREAMS.items():
        try:
            found[stream] = cache_dtype(name).format(role, width).formula(width)
        except KvcalcError:
            continue
    assert found == TABLE[name]


def test_the_table_has_every_shipped_format() -> None:
    assert set(CACHE_DTYPES) <= set(TABLE)
