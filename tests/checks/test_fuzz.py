"""Damaged specs: every one ends in findings of the file, never in a fault of ours; repairs keep them readable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from checks.spec_text import HERE, checked, found

from kvcalc.checks.fixing import repaired
from kvcalc.checks.hygiene import FOREIGN_KEYS
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings
from kvcalc.checks.subject import World
from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import shipped
from kvcalc.spec.hardware_catalog import shipped_hardware
from kvcalc.spec.yamlio import load_yaml

WORDS = [
    b"0", b"-1", b"1099511627776", b"1e308", b"null", b"true", b"[]", b"{}", b'""', b"32K", b"'8'", b"\t", b"\n", b" ",
    b":", b"#", b"- ",
    b"# kvcalc: ignore=KV2\n", b"budget: {fits_on: {gpu: h200}}\n", b"\xff", b"\x00", b"&a ", b"*a", b"? ",
    b"n_heads", b"window: 4K", b"n_ctx: '8'", b"1.5k", b"'32,768'",
    b"name", b"kind: full", b"kind: mla", b"kv_cache_dtype: int4-g32", b"seq_len: 1",
    b"\xe2\x80\xa8", b"\r", b"|\n",
]  # fmt: skip


def damaged(chance: random.Random) -> bytes:
    """A shipped or bad file with a few pieces cut out, doubled, or put in."""
    sources = [*shipped().values(), *shipped_hardware().values(), *sorted((HERE / "bad").glob("*.yaml"))]
    content = bytearray(chance.choice(sources).read_bytes())
    for _ in range(chance.randint(1, 6)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.randint(0, 30))
        content[start:end] = chance.choice(
            [b"", bytes(content[start:end]) * 2, chance.choice(WORDS), chance.choice(WORDS)]
        )
    return bytes(content)


def parts(data: object, key: object = None) -> Iterator[tuple[object, object]]:
    """(key or index, value) of every scalar and (key, None) of every collection, as they stand."""
    if isinstance(data, dict | list):
        yield key, None
        for inner, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from parts(value, inner)
    else:
        yield key, data


def written_out(text: str) -> int:
    """`32K` and its like: K = 1,024 and k = 1,000, as the docs say."""
    powers = {"k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2, "g": 1000**3, "G": 1024**3, "t": 1000**4, "T": 1024**4}
    factor = powers.get(text[-1], 1)
    number = Fraction(text.rstrip("kKmMgGtT").replace("_", "").replace(",", "")) * factor
    assert number.denominator == 1
    return number.numerator


def same_meaning(before: object, after: object) -> None:
    """What a repair may change: another project's key into ours, an integer's spelling, the form of the name."""
    for (key, value), (new_key, new_value) in zip(parts(before), parts(after), strict=True):
        assert key == new_key or any(table.get(str(key)) == new_key for table, _ in FOREIGN_KEYS.values())
        if value != new_value and new_key != "name":
            assert isinstance(value, str)
            assert new_value == written_out(value)


def test_damaged_files_end_in_findings_and_repairs_keep_them_readable(tmp_path: Path) -> None:
    chance = random.Random(8)
    selection, world = Selection(Settings(), ("KV",)), World()
    order = Selection(Settings(), ("KV604", "KV605"))
    in_place = Selection(Settings(), ("KV601", "KV602", "KV603"))
    repairs = 0
    for index in range(1500):
        content = damaged(chance)
        (tmp_path / f"{index:04}.yaml").write_bytes(content)
        try:
            change = repaired("x.yaml", content, selection, world)
        except KvcalcError:
            continue
        moved = repaired("x.yaml", content, order, world)
        assert load_yaml("x.yaml", moved.after.encode()).data == load_yaml("x.yaml", content).data
        spelt = repaired("x.yaml", content, in_place, world)
        same_meaning(load_yaml("x.yaml", content).data, load_yaml("x.yaml", spelt.after.encode()).data)
        repairs += change.fixes > 0
        load_yaml("x.yaml", change.after.encode())  # what could be read still can
        again = repaired("x.yaml", change.after.encode(), selection, world)
        assert again.after == change.after  # nothing is left to repair
    assert repairs > 60
    report = checked(*sorted(tmp_path.glob("*.yaml")), select=("KV",))
    assert [row for row in found(report) if row[1] == "KV006"] == []
    assert len({name for name, _, _ in found(report)}) > 1000
