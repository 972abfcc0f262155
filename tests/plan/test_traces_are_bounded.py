"""Traces of lengths are read line by line, however long, wide or endless."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest

from kvcalc.plan import lengths
from kvcalc.plan.lengths import load_trace
from kvcalc.problems import KvcalcError, Problem


def problem(path: Path | str) -> Problem:
    with pytest.raises(KvcalcError) as caught:
        load_trace(str(path))
    (found,) = caught.value.problems
    return found


def test_a_trace_is_never_held(tmp_path: Path) -> None:
    """100,000 requests of 12 bytes: 256 MiB took 1.5 GiB once."""
    path = tmp_path / "x.csv"
    path.write_text("isl,osl\n" + "1000,100 \n2000,300 \n" * 50_000)
    tracemalloc.start()
    found = load_trace(str(path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < path.stat().st_size / 2
    assert found.requests == 100_000
    assert found.totals.mix == ((1100, 50_000), (2300, 50_000))
    # Held as long as their answers last: 100 and 300 steps.
    assert found.held.mix == ((1100, 5_000_000), (2300, 15_000_000))
    assert found.mean_osl == 200
    # (1,000 x 100 + 1 + ... + 100 + 2,000 x 300 + 1 + ... + 300) / 400
    assert found.mean_decoded == Fraction(100_000 + 5_050 + 600_000 + 45_150, 400)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"isl,osl\n1,2\n\xff,3\n", 3, "not UTF-8"),
        (b"isl,osl\n1,\xed\xa0\x80\n", 2, "not UTF-8"),
        (b"isl,osl\n" + b"1" * (2**20 + 1), 2, "a line of more than 1,048,576 characters"),
        (b"isl,osl\n1,2\n\n5,x\n", 4, "'x' is no number of tokens"),
        (b'isl,osl,note\n1,2,"two\nlines"\n7\n', 4, "a value lacks"),
        (b'{"isl": 1, "osl": 2}\n\n{"isl": 1}\n', 3, "osl lacks"),
        (b"", 1, "no columns of tokens"),
        (b"isl,osl\n" + b"1" * 140_000 + b",2\n", 2, "no CSV: field larger than field limit"),
    ],
)
def test_a_fault_has_its_line(content: bytes, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    found = problem(path)
    assert (found.line, message in found.message) == (line, True), found


def test_bounds_of_size_and_of_different_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("isl,osl\n" + "".join(f"{number},1\n" for number in range(1, 60)))
    assert load_trace(str(path)).requests == 59
    monkeypatch.setattr(lengths, "MAX_LENGTHS", 40)
    assert "more than 40 different lengths" in problem(path).message
    monkeypatch.setattr(lengths, "MAX_BYTES", 200)
    assert "larger than 200 bytes" in problem(path).message


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "a\0b", "none.csv"])
def test_what_is_no_file_of_lines(path: str) -> None:
    assert problem(path).code == "KV904"
