"""20,000 hostile inputs to the loader: each ends in a spec or in Problems, with a place, within a second."""

from __future__ import annotations

import random
import time

import pytest
from factories import SPEC
from fuzz.damage import YAML_PIECES, damaged, noise
from fuzz.oracle import said

from kvcalc.cache_dtypes import BF16
from kvcalc.footprint import Workload, footprint
from kvcalc.problems import KvcalcError, Problem
from kvcalc.render.problems import render_problem
from kvcalc.spec.validate import load_model

CASES = 10_000
SEEDS = [
    text.encode()
    for text in (
        SPEC,
        SPEC + "sources:\n  - {source: paper, kind: paper}\nexpect:\n  - {quantity: kv_bytes, value: 3, source: s}\n",
        """\
name: other
attention:
  a: {kind: mla, num_attention_heads: 12, kv_lora_rank: 160, qk_rope_head_dim: 32, qk_nope_head_dim: 96, v_head_dim: 80}
  b: {kind: shared, reads: a, num_attention_heads: 12}
  c: {kind: mamba2, mamba_num_heads: 10, mamba_head_dim: 70, ssm_state_size: 18, n_groups: 5, conv_kernel: 4}
ffn: {dense: {kind: dense, intermediate_size: 63}}
layers:
  - {count: 3, attention: [a, c], ffn: dense}
  - {attention: b}
""",
    )
]


def _problems(content: bytes) -> tuple[Problem, ...]:
    """None where it was read, and counted."""
    try:
        spec, _ = load_model("x.yaml", content)
        footprint(spec, Workload(batch_size=3, seq_len=2000, formats=BF16))
    except KvcalcError as error:
        said(error)
        return error.problems
    return ()


@pytest.mark.parametrize("make", ["noise", "damage"])
def test_ten_thousand_inputs_end_in_a_spec_or_in_problems(make: str) -> None:
    chance, slowest, accepted = random.Random(20261124), 0.0, 0
    for _ in range(CASES):
        noisy = make == "noise"
        content = noise(chance, YAML_PIECES) if noisy else damaged(chance, chance.choice(SEEDS), YAML_PIECES)
        start = time.process_time()
        problems = _problems(content)
        assert all(problem.line and problem.column for problem in problems), content
        accepted += not problems
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 1
    if make == "damage":  # else the cases would show nothing of what comes after the parser
        assert CASES // 20 < accepted < CASES


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 5_000_000, b"{a: " * 250_000, b"- " * 500_000, b"? " * 500_000, b": " * 500_000, b'"' * 999_999,
        b"#" * 1_000_000, b"\n" * 1_000_000, b"\t" * 1_000_000, b"a" * 5_000_000, b"\xff" * 1_000_000,
        b"\0" * 1_000_000, b"a: |\n" + b" x\n" * 300_000, b"&a " * 300_000, b"*a " * 300_000, b"!" * 1_000_000,
        b"a: &a [*a]", b"a: &a {b: *a}", b"--- \n" * 200_000, b"%" * 1_000_000, b"'" + b"x" * 1_000_000,
        b"".join(b" " * n + b"a:\n" for n in range(1300)), b"9" * 1_000_000, b"{? 1: " * 100_000,
        b"a: !!binary " + b"A" * 900_000, b"{" + b"a: 1, " * 100_000, b"[" + b"1, " * 300_000 + b"]",
        b'"' + b"\\u0041" * 160_000 + b'"', "\u2028".encode() * 300_000, b"a: >\n" + b"\n" * 900_000,
    ],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_large_hostile_files_are_refused_within_a_second(content: bytes) -> None:
    start = time.process_time()
    with pytest.raises(KvcalcError) as caught:
        load_model("x.yaml", content)
    assert time.process_time() - start < 1
    assert all(len(render_problem(problem)) < 1500 for problem in caught.value.problems)
