"""Sizes, rates and counts are read exactly, and printed with their unit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc import units
from kvcalc.problems import KvcalcError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("8192", 8192), ("32k", 32_000), ("32K", 32_768), ("1m", 10**6), ("1M", 2**20),
        ("25.6k", 25_600), ("1.5K", 1536), (" 63 ", 63), ("2 K", 2048), ("1G", 2**30), ("1t", 10**12),
        (str(2**60), 2**60),
    ],
)  # fmt: skip
def test_counts_are_read_as_vllm_reads_them(text: str, value: int) -> None:
    assert units.parse_count(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "-32K", "1e3", "10^30", "1" + "0" * 30, str(2**60 + 1), "1.5", "0.0001k", "32Ki", "1,000", "1_000",
     "٣", "x", "8 8", "NaN", "inf", "9" * 5000, "1\n2", "0x10"],
)  # fmt: skip
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(KvcalcError) as caught:
        units.parse_count(text, "--seq-len")
    (problem,) = caught.value.problems
    assert "--seq-len" in problem.message
    assert len(problem.message) < 200


def test_zero_counts_where_it_is_allowed() -> None:
    assert units.parse_count("0", minimum=0) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80 GB", 80 * 10**9), ("80 GiB", 80 * 2**30), ("81559 MiB", 81559 * 2**20), ("656 B", 656),
        ("1.5TB", 1_500_000_000_000), ("0.5 KiB", 512), ("1kB", 1000), ("1 KB", 1000), ("3 PiB", 3 * 2**50),
    ],
)  # fmt: skip
def test_gb_is_never_gib(text: str, value: int) -> None:
    assert units.parse_bytes(text) == value


@pytest.mark.parametrize("text", ["80", "80 gb", "80 Gb", "80 GIB", "0.3 B", "1.0001 kiB", "-1 GB", "GB", "80 GB/s"])
def test_a_size_without_a_sound_unit_is_refused(text: str) -> None:
    with pytest.raises(KvcalcError):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "parse", "near"),
    [
        # 79.18 x 2^30 = 85,018,877,624.32
        ("79.18GiB", units.parse_bytes, "85018877624B or 85018877625B"),
        ("0.5 ns", units.parse_duration_ns, "0ns or 1ns"),
        ("1.5 FLOP/s", units.parse_flop_rate, "1FLOP/s or 2FLOP/s"),
    ],
)
def test_what_is_no_whole_number_names_its_neighbours(text: str, parse: Callable[[str], int], near: str) -> None:
    with pytest.raises(KvcalcError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.help == f"write it as {near}"
    for neighbour in near.split(" or "):
        assert parse(neighbour) >= 0


def test_rates_frequencies_powers_and_durations() -> None:
    assert units.parse_byte_rate("3.35 TB/s") == 3_350_000_000_000
    assert units.parse_flop_rate("989.4 TFLOP/s") == 989_400_000_000_000
    assert units.parse_flop_rate("1979 TOP/s") == 1_979 * 10**12
    assert units.parse_frequency("1.41 GHz") == 1_410_000_000
    assert units.parse_power("700 W") == 700
    assert units.parse_duration_ns("50ms") == 50_000_000
    assert units.parse_duration_ns("1.5 us") == 1_500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1,023 B"), (1024, "1 KiB"), (2_621_440, "2.5 MiB"),
        (Fraction(1, 3), "0.333333 B"), (687_194_767_360, "640 GiB"), (11_173_625_856, "10.41 GiB"),
        (10**6, "976.6 KiB"), (2**50, "1 PiB"), (2**60, "1,024 PiB"),
    ],
)  # fmt: skip
def test_bytes_are_printed_in_binary_units(value: int | Fraction, text: str) -> None:
    assert units.format_bytes(value) == text


def test_rates_and_seconds_are_printed_with_decimal_prefixes() -> None:
    assert units.format_rate(3_350_000_000_000, "B/s") == "3.35 TB/s"
    assert units.format_rate(999, "B/s") == "999 B/s"
    assert units.format_seconds(0.0123) == "12.3 ms"
    assert units.format_seconds(2e-9) == "2 ns"
    assert units.format_seconds(90) == "90 s"


@given(st.integers(1, 2**60))
def test_every_count_comes_back(value: int) -> None:
    assert units.parse_count(str(value)) == value


@given(st.integers(0, 10**15), st.sampled_from(sorted(units.BYTE_UNITS)))
def test_every_size_comes_back(value: int, unit: str) -> None:
    assert units.parse_bytes(f"{value} {unit}") == value * units.BYTE_UNITS[unit]


@given(st.text(max_size=50))
def test_any_text_ends_in_a_number_or_a_problem(text: str) -> None:
    for parse in (units.parse_count, units.parse_bytes, units.parse_duration_ns, units.parse_flop_rate):
        with suppress(KvcalcError):
            assert isinstance(parse(text), int)
