"""docs/reference/hardware.md: every accelerator, and on what its figures rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from kvcalc.spec.figures import Evidence, Measurement, Sourced, figures
from kvcalc.spec.hardware import HardwareSpec, Level
from kvcalc.spec.hardware_catalog import list_hardware
from kvcalc.units import format_bytes, format_rate
from kvcalc_docs.markdown import code, page, table

INTRODUCTION = """`kvcalc explain GPU` prints each figure with its source. Peaks are dense; the ridge is the 16-bit peak
over the memory's bandwidth. *Memory* is what plans divide: as a program can allocate it where that is known, else as
the driver or the vendor prints it. A bandwidth in *italics* is theory (units x bytes per clock x clock); measured ones
have a table of their own below. A cell is empty where no source was found.

Kinds of source, best first: `datasheet` (the vendor's product page or data sheet), `whitepaper`, `vendor-docs` (its
documentation or repositories), `driver` (printed on a machine), `paper`, `secondary` (one third party), `memory` (a
lead: nobody looked it up). Where published figures disagree: [disagreements](../disagreements.md)."""

ARITHMETIC = (
    "gpu", "name", "memory", "as given by", "bandwidth", "16 bit [FLOP/s]", "fp8 [FLOP/s]", "int8 [OP/s]",
    "ridge [FLOP/B]",
)  # fmt: skip
AROUND = (
    "gpu", "SRAM", "SRAM reads", "L2", "L2 reads", "links", "one direction", "domain", "host link", "one direction",
    "TDP",
)  # fmt: skip


def hardware_page() -> str:
    """The page, whole."""
    specs = sorted(list_hardware(), key=lambda spec: (spec.vendor, spec.architecture, spec.name))
    kinds = get_args(Evidence)
    return page(
        "Accelerators", INTRODUCTION,
        "## Memory and arithmetic",
        table(ARITHMETIC, [_arithmetic(spec) for spec in specs], right=[2, 4, 5, 6, 7, 8]),
        "## On the chip and between chips",
        table(AROUND, [_around(spec) for spec in specs], right=[1, 2, 3, 4, 6, 7, 9, 10]),
        "## Kinds of source",
        table(
            ("gpu", *kinds, "also called"), [_evidence(spec, kinds) for spec in specs], right=range(1, len(kinds) + 1)
        ),
        "## Measured",
        table(("gpu", "what", "measured", "how", "machine", "date"), list(_measured(specs)), right=[2]),
    )  # fmt: skip


def _rate(value: int | None, unit: str) -> str:
    return "" if value is None else format_rate(value, unit)


def _arithmetic(spec: HardwareSpec) -> tuple[object, ...]:
    memory, rate = spec.memory, spec.memory.rate
    half = spec.peak_ops_per_s("bf16") or spec.peak_ops_per_s("fp16")
    bandwidth = "" if rate is None else format_rate(rate.bytes_per_s, "B/s")
    return (
        code(spec.name), spec.full_name + (" (announced)" if spec.announced else ""), format_bytes(memory.plan_bytes),
        memory.plan_basis, f"*{bandwidth}*" if rate and rate.basis == "theory" else bandwidth,
        _rate(half, "FLOP/s"), _rate(spec.peak_ops_per_s("fp8"), "FLOP/s"), _rate(spec.peak_ops_per_s("int8"), "OP/s"),
        f"{half / rate.bytes_per_s:,.1f}" if half and rate else "",
    )  # fmt: skip


def _level(level: Level | None) -> tuple[str, str]:
    if level is None:
        return "", ""
    size = "" if level.total_bytes is None else format_bytes(level.total_bytes)
    rate = level.rate
    reads = "" if rate is None else format_rate(rate.bytes_per_s, "B/s")
    return size, f"*{reads}*" if rate and rate.basis == "theory" else reads


def _around(spec: HardwareSpec) -> tuple[object, ...]:
    up, host = spec.scale_up, spec.host_link
    return (
        code(spec.name), *_level(spec.sram), *_level(spec.l2),
        up.name if up else "", _rate(up.per_direction.exact, "B/s") if up else "", up.domain_size.exact if up else "",
        host.name if host else "", _rate(host.per_direction.exact, "B/s") if host else "",
        spec.tdp.value if spec.tdp else "",
    )  # fmt: skip


def _evidence(spec: HardwareSpec, kinds: Iterable[str]) -> tuple[object, ...]:
    counted = Counter(figure.kind for _, figure in figures(spec) if isinstance(figure, Sourced))
    return (code(spec.name), *(counted[kind] or "" for kind in kinds), " ".join(code(name) for name in spec.aliases))


def _measured(specs: Iterable[HardwareSpec]) -> Iterable[tuple[object, ...]]:
    for spec in specs:
        for place, figure in figures(spec):
            if isinstance(figure, Measurement):
                where = str(place[0]).replace("_", " ")
                yield code(spec.name), where, figure.value, figure.what, figure.machine, figure.date
