"""Damaged specs: every one ends in findings of the file, never in a fault of ours; repairs keep them readable."""

from __future__ import annotations

import random
from pathlib import Path

from checks.spec_text import HERE, checked, found

from kvcalc.checks.fixing import repaired
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


def test_damaged_files_end_in_findings_and_repairs_keep_them_readable(tmp_path: Path) -> None:
    chance = random.Random(8)
    selection, world = Selection(Settings(), ("KV",)), World()
    order = Selection(Settings(), ("KV604", "KV605"))
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
        repairs += change.fixes > 0
        load_yaml("x.yaml", change.after.encode())  # what could be read still can
        again = repaired("x.yaml", change.after.encode(), selection, world)
        assert again.after == change.after  # nothing is left to repair
    assert repairs > 60
    report = checked(*sorted(tmp_path.glob("*.yaml")), select=("KV",))
    assert [row for row in found(report) if row[1] == "KV006"] == []
    assert len({name for name, _, _ in found(report)}) > 1000
