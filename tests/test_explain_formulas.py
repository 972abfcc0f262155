"""Each formula that `explain` prints is what the code computes, also with its numbers put in."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction

import pytest
from factories import FACTORIES, compressed, full, model, shared, sliding

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.explanation import ModelExplanation, explain_kind, explain_model
from kvcalc.footprint import Workload
from kvcalc.spec.catalog import find_model, shipped

NAMES = {"ceil": math.ceil, "floor": math.floor, "min": min, "max": max, "__builtins__": {}}


def evaluate(formula: str, **values: int) -> Fraction:
    """A printed formula in exact arithmetic; digits may be grouped as in 32,768."""
    bare = re.sub(r"(?<=\d),(?=\d{3})", "", formula)
    exact = re.sub(r"(?<![\w.])(\d+)", r"Fraction(\1)", bare)
    return Fraction(eval(exact, {**NAMES, "Fraction": Fraction}, {k: Fraction(v) for k, v in values.items()}))


def check(told: ModelExplanation) -> None:
    """Every step's formula, and the same with numbers, gives the step's value; the steps give the total."""
    counted = told.footprint
    for group, explained in zip(counted.groups, told.groups, strict=True):
        assert len(explained.steps) == 2 * len(group.streams)
        for stream, rows, size in zip(group.streams, explained.steps[::2], explained.steps[1::2], strict=True):
            assert evaluate(rows.formula, S=counted.seq_len, E=counted.encoder_len) == rows.value == stream.rows
            assert evaluate(rows.with_numbers) == rows.value
            values = {"rows": stream.rows, "heads": stream.heads, "width": stream.width}
            assert evaluate(size.formula, **values) == size.value == stream.bytes
            assert evaluate(size.with_numbers) == size.value
            assert (rows.unit, size.unit) == ("rows", "B")
    assert evaluate(told.total.with_numbers) == told.total.value == counted.logical_bytes


DTYPES = [
    "bf16",
    "fp32",
    "fp8_per_token_head",
    "int3",
    "int4-g32-zp",
    "nvfp4",
    "key=kivi2,value=kivi4",
    "k=q8_0,v=q4_0",
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FACTORIES)
def test_formulas_of_every_kind(name: str, dtype: str) -> None:
    chance = random.Random(f"{name} {dtype}")
    spec = model((2, full()), (3, FACTORIES[name]()), (1, sliding()))
    for _ in range(20):
        workload = Workload(
            batch_size=chance.randint(1, 1000), seq_len=chance.randint(1, 10**6), encoder_len=chance.randint(0, 3000),
            formats=parse_kv_cache_dtype(dtype),
        )  # fmt: skip
        check(explain_model(spec, workload))


@pytest.mark.parametrize("name", shipped())
def test_formulas_of_every_shipped_model(name: str) -> None:
    chance = random.Random(name)
    workload = Workload(batch_size=63, seq_len=chance.randint(1, 200_000), encoder_len=chance.randint(0, 3000))
    check(explain_model(find_model(name), workload))


def test_the_total_names_every_group_that_keeps_something() -> None:
    told = explain_model(
        model((5, sliding()), (2, compressed()), (3, shared())), Workload(batch_size=8, seq_len=2000)
    ).total
    # 5 windows of 100 rows, 2 of 100 and 500 strides
    assert told.with_numbers == f"8 * ({100 * 3 * 192 * 2:,} * 5 + {600 * 160 * 2:,} * 2)"


def test_fractions_of_the_formula_language_are_exact() -> None:
    assert evaluate("ceil(rows * 3 / 8)", rows=3) == 2
    assert evaluate("min(131,072, 1024)") == 1024
    assert evaluate("floor(1,000 / 128) * 128 / 32") == 28


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_explained(name: str) -> None:
    told = explain_kind(name)
    assert told.summary
    assert told.source
    assert len(told.text.splitlines()) >= 2 or name == "shared"
