"""20,000 hostile inputs to the loader: each ends in a spec or in Problems, with a place, within a second."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from factories import SPEC

from kvcalc.cache_dtypes import BF16
from kvcalc.footprint import Workload, footprint
from kvcalc.problems import KvcalcError, Problem
from kvcalc.render.problems import render_problem
from kvcalc.spec.validate import load_model

CASES = 10_000

SEEDS = [
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
]

FRAGMENTS = [
    "[", "]", "{", "}", ":", ": ", "- ", "? ", "| ", "> ", "&a ", "*a", "!!str ", "!x ", "%YAML 1.2\n", "---\n",
    "...\n", "\n", "\t", " ", "  ", "'", '"', "#", ",", "~", "null", "true", ".nan", ".inf", "-1", "0", "1e999", "0x",
    "0o9", "9" * 5000, "9" * 39, "1.5", "\x00", "\x07", "\u2028", "\ud7ff", "\U0001f600", "\ufeff", "<<: ",
    "kind: full", "count: 1099511627776", "pattern: []", "[" * 50, "{a: " * 50, "\\ud800", "name: x\n", "attention:",
    "layers:",
]  # fmt: skip


def random_bytes(chance: random.Random) -> bytes:
    """Bytes of any kind, or of YAML's own alphabet, or YAML's own words."""
    length = chance.choice((0, 1, 3, 10, 63, 200))
    style = chance.randrange(3)
    if style == 0:
        return chance.randbytes(length)
    if style == 1:
        return bytes(chance.choice(b"[]{}:,-?|>&*!%#'\"\\ \n\tab01.~@`") for _ in range(length))
    return "".join(chance.choice(FRAGMENTS) for _ in range(length // 5 + 1)).encode("utf-8", "surrogatepass")


def mutated_spec(chance: random.Random) -> bytes:
    """A sound spec with a few cuts, repeats, swaps and insertions."""
    text = chance.choice(SEEDS)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        start = chance.randrange(len(text) + 1)
        stop = min(len(text), start + chance.choice((0, 1, 2, 10, 60)))
        match chance.randrange(5):
            case 0:
                text = text[:start] + text[stop:]
            case 1:
                text = text[:stop] + text[start:]
            case 2:
                text = text[:start] + chance.choice(FRAGMENTS) + text[stop:]
            case 3:
                words = text.split(" ")
                one, other = chance.randrange(len(words)), chance.randrange(len(words))
                words[one], words[other] = words[other], words[one]
                text = " ".join(words)
            case _:
                lines = text.split("\n")
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                text = "\n".join(lines)
    content = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + chance.randbytes(3) + content[place:]
    return content


@pytest.mark.parametrize("make", [random_bytes, mutated_spec])
def test_ten_thousand_inputs_end_in_a_spec_or_in_problems(make: Callable[[random.Random], bytes]) -> None:
    chance = random.Random(20261124)
    slowest, accepted = 0.0, 0
    for number in range(CASES):
        content = make(chance)
        start = time.process_time()
        problems: tuple[Problem, ...] | None = None
        try:
            spec, _ = load_model("x.yaml", content)
        except KvcalcError as error:
            problems = error.problems
        if problems is None:
            accepted += 1
            footprint(spec, Workload(batch_size=3, seq_len=2000, formats=BF16))
        else:
            assert problems, (number, content)
            assert all(problem.line and problem.column for problem in problems), (number, content)
            assert all(len(render_problem(problem)) < 2000 for problem in problems), (number, content)
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 1
    if make is mutated_spec:  # else the cases would show nothing of what comes after the parser
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
