"""A user's own GPU: found by path, and every mistake answered with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.hardware import NOT_MEASURED, HardwareSpec
from kvcalc.spec.hardware_catalog import find_hardware, load_hardware
from kvcalc.spec.validate import adapter

MINE = """\
name: my-gpu
full_name: My GPU
vendor: me
architecture: mine
memory:
  technology: HBM9
  vendor: {value: 100 GB, kind: user, source: the sticker}
  driver: {value: 95000 MiB, kind: driver, source: my driver}
  bandwidth: {value: 2.5 TB/s, kind: user, source: the sticker}
sram:
  unit: core
  units: {value: 10, kind: user, source: the sticker}
  per_unit: {value: 63 KiB, kind: user, source: the sticker}
  bytes_per_clock: {value: 100, kind: user, source: the sticker}
  clock: {value: 1.5 GHz, kind: user, source: the sticker}
peak:
  bf16: {value: 123.4 TFLOP/s, kind: user, source: the sticker}
"""


def faults(text: str) -> tuple[Problem, ...]:
    with pytest.raises(KvcalcError) as caught:
        load_hardware("mine.yaml", text.encode())
    return caught.value.problems


def test_path_of_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    spec = find_hardware(str(path))
    assert spec.memory.plan_bytes == 95000 * 2**20
    assert spec.memory.plan_basis == "driver"
    assert spec.memory.rate is not None
    assert (spec.memory.rate.basis, spec.memory.rate.bytes_per_s) == ("published", 2_500_000_000_000)
    assert spec.sram is not None
    assert spec.sram.total_bytes == 10 * 63 * 1024
    assert spec.sram.rate is not None
    assert (spec.sram.rate.basis, spec.sram.rate.bytes_per_s) == ("theory", 10 * 100 * 1_500_000_000)
    assert spec.sram.theory == "10 core x 100 B/clk x 1.5 GHz"
    assert spec.peak_ops_per_s("bf16") == 123_400_000_000_000
    assert spec.peak_ops_per_s("fp8") is None


def test_vendor_figure_is_the_last_resort() -> None:
    text = MINE.replace("  driver: {value: 95000 MiB, kind: driver, source: my driver}\n", "")
    spec, _ = load_hardware("mine.yaml", text.encode())
    assert (spec.memory.plan_basis, spec.memory.plan_bytes) == ("vendor", 100 * 10**9)


def test_efficiency_is_one_unless_given() -> None:
    spec, _ = load_hardware("mine.yaml", MINE.encode())
    assert spec.efficiency_of("memory_bandwidth") is NOT_MEASURED
    given = MINE + "efficiency:\n  memory_bandwidth: {value: 0.83, source: my stream test}\n"
    spec, _ = load_hardware("mine.yaml", given.encode())
    assert spec.efficiency_of("memory_bandwidth").value == 0.83
    assert spec.efficiency_of("compute").value == 1.0


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "part"),
    [
        ("2.5 TB/s", "2.5 TB", 9, 22, "is not a bandwidth"),
        ("100 GB,", "100 gb,", 7, 19, "is not a size"),
        ("1.5 GHz", "0 GHz", 15, 18, "more than 0"),
        ("95000 MiB", "95367.5 B", 8, 19, "not a whole number of bytes"),
        ("95000 MiB", "110000 MiB", 8, 11, "more than the vendor's"),
        ("value: 10,", "value: 0,", 12, 18, "at least 1"),
        ("kind: driver", "kind: rumour", 8, 36, "one of"),
        ("  unit: core\n", "", 11, 10, "must say of what"),
        ("bf16:", "bf61:", 17, 9, "bf61: must be one of"),
        (", source: my driver", "", 8, 11, "missing key 'source'"),
        ("technology", "tecnology", 6, 3, "unknown key 'tecnology'"),
    ],
)
def test_mistakes_are_answered_with_their_place(old: str, new: str, line: int, column: int, part: str) -> None:
    assert old in MINE
    problems = faults(MINE.replace(old, new, 1))
    places = [(p.line, p.column) for p in problems if part in p.message]
    assert places == [(line, column)], problems


def test_theory_is_no_kind_of_published_figure() -> None:
    (problem,) = faults(MINE.replace("value: 2.5 TB/s, kind: user", "value: 2.5 TB/s, kind: theory"))
    assert "'datasheet'" in problem.message


def test_more_for_a_program_than_the_device_has() -> None:
    text = MINE.replace("  bandwidth:", "  application: {value: 95001 MiB, kind: driver, source: x}\n  bandwidth:", 1)
    (problem,) = faults(text)
    assert "more than the device's" in problem.message
    assert problem.line == 9


def test_quotes_are_read_too() -> None:
    text = MINE.replace("sram:\n", "sram:\n  quoted:\n    - {source: a blog, bandwidth: fast}\n", 1)
    (problem,) = faults(text)
    assert "is not a bandwidth" in problem.message
    assert problem.line == 12


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("H100", "h100-sxm"),
        ("a100_80gb", "a100-80gb"),
        ("RTX 4090", "rtx-4090"),
        (" h200 ", "h200"),
        ("4090", "rtx-4090"),
    ],
)
def test_names_as_people_write_them(word: str, name: str) -> None:
    assert find_hardware(word).name == name


def test_unknown_name_gets_a_hint() -> None:
    with pytest.raises(KvcalcError) as caught:
        find_hardware("h10O-sxm")
    (problem,) = caught.value.problems
    assert problem.code == "KV902"
    assert "h100-sxm" in (problem.help or "")
    with pytest.raises(KvcalcError) as caught:
        find_hardware("zzzzzzzz")
    assert "list gpus" in (caught.value.problems[0].help or "")


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe", b"name: x", b"memory: {a: &b 1}", b"a" * 2**20])
def test_any_bytes_end_in_problems(content: bytes) -> None:
    with pytest.raises(KvcalcError):
        load_hardware("mine.yaml", content)


@given(st.integers(0, len(MINE)), st.integers(0, 12), st.text(max_size=8))
def test_any_damage_ends_in_a_spec_or_in_problems(start: int, length: int, patch: str) -> None:
    damaged = (MINE[:start] + patch + MINE[start + length :]).encode("utf-8", "surrogatepass")
    problems: tuple[Problem, ...] = ()
    try:
        load_hardware("mine.yaml", damaged)
    except KvcalcError as error:
        problems = error.problems
    assert all(problem.line and problem.column for problem in problems)


def test_schema_names_units_and_forbids_the_unknown() -> None:
    schema = adapter(HardwareSpec).json_schema()
    assert schema["additionalProperties"] is False
    value = schema["$defs"]["ByteRate"]["properties"]["value"]
    assert value["examples"] == ["3.35 TB/s"]
    assert re.fullmatch(value["pattern"], "1555 GB/s")
    assert not re.fullmatch(value["pattern"], "1555 GB")
    assert json.dumps(schema).count("additionalProperties") >= 10
