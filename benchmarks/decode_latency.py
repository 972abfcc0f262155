"""Measured decode-attention kernels against kvcalc's bounds.

    python benchmarks/decode_latency.py decode_latency.csv

The file: one line per measurement with the columns gpu, kind (mha: heads-kv_heads-width; mla: heads-rank-rope),
geom, dtype, kv_dtype, batch, kv_len, latency_us. InferSim (github.com/alibaba/InferSim, bench_data) publishes such
tables for H20 and H800. Printed per GPU and kernel: how many measurements, whether any is faster than the bound,
and measured / bound: over all, and over those whose bound is at least 100 us (a launch and its tail are a few tens).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from kvcalc.attention import AttentionKind
from kvcalc.attention.full import Full
from kvcalc.attention.mla import Mla
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Workload
from kvcalc.roofline import Point, ceilings, point
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.spec.model import LayerEntry, ModelSpec
from kvcalc.traffic import traffic

GPUS = {"h800": "h800-sxm", "h20": "h20"}
FILLING_S = 100e-6
"""From this bound on a kernel streams for long enough that launch and tail matter little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement beside its bound."""

    gpu: str
    kernel: str
    batch_size: int
    seq_len: int
    seconds: float
    bound: Point

    @property
    def ratio(self) -> float:
        return self.seconds / self.bound.seconds

    @property
    def fills(self) -> bool:
        return self.bound.seconds >= FILLING_S


def _kind(name: str, geometry: str) -> AttentionKind:
    first, second, third = (int(part) for part in geometry.split("-"))
    if name == "mla":
        return Mla(
            num_attention_heads=first, kv_lora_rank=second, qk_rope_head_dim=third, qk_nope_head_dim=128, v_head_dim=128
        )
    return Full(num_attention_heads=first, num_key_value_heads=second, head_dim=third)


def bound(gpu: str, kind: AttentionKind, batch_size: int, seq_len: int, dtype: str, kv_dtype: str) -> Point:
    """One layer's decode attention: bytes against bandwidth, FLOPs against the peak of `dtype`."""
    spec = ModelSpec(name="kernel", attention={"layer": kind}, layers=(LayerEntry(attention="layer"),))
    formats = parse_kv_cache_dtype(kv_dtype)
    counted = traffic(spec, Workload(batch_size=batch_size, seq_len=seq_len, formats=formats))
    limits = ceilings(find_hardware(GPUS.get(gpu, gpu)))
    return point(kind.label, "attention", counted.bytes, counted.attention_flops, limits, dtype)


def read(rows: Iterable[dict[str, str]]) -> Iterator[Measured]:
    for row in rows:
        batch, length = int(row["batch"]), int(row["kv_len"])
        kind = _kind(row["kind"], row["geom"])
        yield Measured(
            gpu=row["gpu"],
            kernel=f"{kind.label}, {row['kv_dtype']}",
            batch_size=batch,
            seq_len=length,
            seconds=float(row["latency_us"]) * 1e-6,
            bound=bound(row["gpu"], kind, batch, length, row["dtype"], row["kv_dtype"]),
        )


def main(path: str) -> int:
    """Print the table; 1 if a measurement beats its bound."""
    with open(path, encoding="utf-8", newline="") as handle:
        found = list(read(csv.DictReader(handle)))
    groups = dict.fromkeys((each.gpu, each.kernel) for each in found)
    print("| GPU | kernel | bound by | intensity / ridge [FLOP/B] | measured | faster than the bound |"
          " median measured / bound | of those >= 100 us |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for gpu, kernel in groups:
        mine = [each for each in found if (each.gpu, each.kernel) == (gpu, kernel)]
        filling = [each for each in mine if each.fills]
        limit = filling[-1].bound if filling else mine[-1].bound
        below = sum(each.ratio < 1 for each in mine)
        print(
            f"| {gpu} | {kernel} | {limit.bound_by} | {limit.intensity:.4g} / {limit.ridge:.4g} |"
            f" {len(mine)} | {below} |"
            f" {median(each.ratio for each in mine):.2f} |"
            f" {median(each.ratio for each in filling):.2f} ({len(filling)}) |"
        )
    return int(any(each.ratio < 1 for each in found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
