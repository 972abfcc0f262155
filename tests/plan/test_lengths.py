"""Lengths: percentiles, buckets, and traces of every published form; what is wrong with one stands at its line."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.plan import lengths as module
from kvcalc.plan.lengths import BUCKETS, Lengths, Trace, load_trace
from kvcalc.problems import KvcalcError, Problem

COUNTS = st.dictionaries(st.integers(1, 5000), st.integers(1, 50), min_size=1, max_size=30)


# --- lengths


def test_one_length():
    one = Lengths.of(70)
    assert (one.mix, one.longest, one.count, one.mean) == (((70, 1),), 70, 1, 70)


@given(COUNTS, st.integers(0, 100))
def test_percentiles_are_of_the_sorted_list(counts, percent):
    """Nearest rank: the ceil(p x n / 100)-th of the sorted sequences, the first at least."""
    every = sorted(length for length, number in counts.items() for _ in range(number))
    found = Lengths.counted(counts)
    assert found.percentile(Fraction(percent)) == every[max(1, ceil(Fraction(percent * len(every), 100))) - 1]
    assert (found.longest, found.count, found.mean) == (every[-1], len(every), Fraction(sum(every), len(every)))
    assert list(found.mix) == sorted(counts.items())


@given(COUNTS, st.integers(1, 20))
def test_rounding_up_never_takes_anything_away(counts, most):
    found = Lengths.counted(counts)
    rounded = found.rounded_up(most)
    assert len(rounded.mix) <= most
    assert (rounded.count, rounded.longest) == (found.count, found.longest)
    for percent in (0, 1, 50, 99, 100):
        here, there = found.percentile(Fraction(percent)), rounded.percentile(Fraction(percent))
        assert here <= there < here + max(1, ceil(found.longest / most))


def test_buckets_of_a_trace():
    assert Lengths.of(70).rounded_up() == Lengths.of(70)
    every = Lengths.counted(dict.fromkeys(range(1, 1001), 1))
    assert len(every.rounded_up().mix) == ceil(1000 / ceil(1000 / BUCKETS)) == 125
    assert Lengths(((1, 1), (9, 1))).rounded_up(2).mix == ((5, 1), (9, 1))
    for few in (Lengths.of(0), Lengths(((1, 5), (2, 1), (128, 1)))):
        assert few.rounded_up() == few


RANKS = [(0, 10), (25, 10), (26, 20), (50, 20), (51, 30), (75, 30), (76, 70), (100, 70)]


@pytest.mark.parametrize(("percent", "length"), RANKS)
def test_a_percentile_is_the_first_that_so_many_do_not_exceed(percent, length):
    """Of 10, 20, 30 and 70 each is a quarter."""
    assert Lengths(((10, 1), (20, 1), (30, 1), (70, 1))).percentile(Fraction(percent)) == length


# --- traces


def load(folder: Path, content: str | bytes, name: str = "trace.csv") -> Trace:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_trace(str(file))


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
MOONCAKE = '{"timestamp": 0, "input_length": %d, "output_length": %d, "hash_ids": [1, 2]}'
PUBLISHED = {
    "Azure LLM inference 2023": f"{AZURE}\n2023-11-16 18:01:51,374,44\n2023-11-16,396,109\n",
    "Azure LLM inference 2024": f"{AZURE}\r\n2024-05-10 00:00:00.009930+00:00,374,44\r\nx,396,109",
    "BurstGPT": f"{BURST}\n5,ChatGPT,374,44,418,c\n9,GPT-4,396,109,505,c\n",
    "Vidur": "num_prefill_tokens,num_decode_tokens,pd_ratio\n374.0,44.0,8.5\n396,109,3.6\n",
    "Mooncake": f"{MOONCAKE % (374, 44)}\n{MOONCAKE % (396, 109)}\n",
    "our own": "isl,osl\n374,44\n396,109\n",
    "byte order mark, quotes, spaces": '\ufeff"Prompt Tokens","completion-tokens"\n" 374 ","44"\n\n396,109\n',
}


@pytest.mark.parametrize("content", PUBLISHED.values(), ids=PUBLISHED)
def test_published_traces(tmp_path, content):
    """Two requests of 374 + 44 and 396 + 109 tokens.

    At one time a request is seen as often as its answer has tokens, and holds its prompt and what has been decoded:
    44 steps of 374 + 22.5 tokens on average, 109 of 396 + 55.
    """
    found = load(tmp_path, content)
    assert (found.requests, found.totals.mix) == (2, ((418, 1), (505, 1)))
    assert found.held.mix == ((418, 44), (505, 109))
    assert found.prompts == Lengths(((374, 1), (396, 1)))
    assert (found.isl, found.osl, found.mean_osl) == (385, 76, Fraction(153, 2))
    decoded = sum(374 + n for n in range(1, 45)) + sum(396 + n for n in range(1, 110))
    assert found.mean_decoded == Fraction(decoded, 153)
    assert found.bucketed == found.held.rounded_up()


def test_totals_alone(tmp_path):
    found = load(tmp_path, "id,seq_len\na,100\nb,300\nc,100\n")
    assert (found.totals.mix, found.held, found.prompts) == (((100, 2), (300, 1)), found.totals, None)
    assert (found.isl, found.osl, found.mean_osl, found.mean_decoded) == (None, None, None, Fraction(500, 3))


def test_prompts_and_answers_are_preferred_to_totals(tmp_path):
    assert load(tmp_path, "total_tokens,isl,osl\n9,1,2\n").totals == Lengths.of(3)


def test_nothing_counts_as_one_token(tmp_path):
    """An empty request is held as one token, and answered for one step."""
    found = load(tmp_path, "isl,osl\n0,0\n")
    assert (found.totals, found.held, found.prompts) == (Lengths.of(1), Lengths.of(1), Lengths.of(0))
    assert (found.isl, found.osl, found.mean_decoded) == (1, 1, 1)


def test_the_first_of_several_names_of_a_column_counts(tmp_path):
    assert load(tmp_path, "ContextTokens,isl,osl\n9,1,2\n").totals == Lengths.of(3)


# --- what is wrong


def problem(folder: Path, content: str | bytes, name: str = "trace.csv") -> Problem:
    with pytest.raises(KvcalcError) as caught:
        load(folder, content, name)
    found = caught.value.problems[0]
    assert found.code == "KV904"
    assert found.path == str(folder / name)
    return found


WRONG = [
    ("isl,osl\n1,2\n3,x\n", "trace: 'x' is no number of tokens", 3, 3),
    ("isl,osl\n1,2\n-3,4\n", "trace: '-3' is no number of tokens", 3, 1),
    ("isl,osl\n1,2.5\n", "trace: '2.5' is no number of tokens", 2, 3),
    ("isl,osl\n1,nan\n", "trace: 'nan' is no number of tokens", 2, 3),
    ("isl,osl\n1,٣\n", "trace: '٣' is no number of tokens", 2, 3),
    ("isl,osl\n1,99999999999999999999\n", "trace: '99999999999999999999' is no number of tokens", 2, 3),
    ("isl,osl\n1,9999999999999999999\n", "trace: '9999999999999999999' is no number of tokens", 2, 3),
    (f"isl,osl\n1,{2**60 + 1}\n", "trace: '1152921504606846977' is no number of tokens", 2, 3),
    (f"isl,osl\n1,{1:020}\n", "trace: '00000000000000000001' is no number of tokens", 2, 3),
    (f"isl,osl\n{'x' * 41},1\n", f"trace: '{'x' * 40}' is no number of tokens", 2, 1),
    ("isl,osl,id\n1,,b\n", "trace: '' is no number of tokens", 2, 3),
    ('id,isl,osl\n"a"",b",x,1\n', "trace: 'x' is no number of tokens", 2, 9),
    ("id,isl,osl\nabc,1\n", "trace: a value lacks", 2, 5),
    ('id,isl,osl\n"a,b",1,oops\n', "trace: 'oops' is no number of tokens", 2, 9),
    ("isl,osl\n1\n", "trace: a value lacks", 2, 1),
    ("isl,osl\n1,\n", "trace: '' is no number of tokens", 2, 3),
    ("isl,osl\n", "trace: no requests below the heading", 1, None),
    ("", "trace: no columns of tokens", 1, None),
    ("a,b\n1,2\n", "trace: no columns of tokens", 1, None),
    ("isl,b\n1,2\n", "trace: no columns of tokens", 1, None),
    ('{"isl": 1, "osl": 2}\n{"isl": 1, "osl": "2"}\n', "trace: osl: '2' is no number of tokens", 2, 12),
    ('{"isl": 1, "osl": 2}\n{"isl": true, "osl": 2}\n', "trace: isl: 'True' is no number of tokens", 2, 2),
    (f'{{"isl": 1, "osl": "{"y" * 41}"}}\n', f"trace: osl: '{'y' * 40}' is no number of tokens", 1, 12),
    ('{"isl": 1, "osl": 2}\n{"osl": 2}\n', "trace: isl lacks", 2, 1),
    ('{"isl": 1, "osl": 2}\n\n[1]\n', "trace: no JSON object", 3, 1),
    ('{"isl": 1, "osl": 2}\n{"isl": 1,\n', "trace: no JSON object", 2, 11),
    ('{"a": 1}\n', "trace: no columns of tokens", 1, None),
    (b"isl,osl\n1,2\n\xff,3\n", "trace: not UTF-8", 3, None),
]


@pytest.mark.parametrize(("content", "message", "line", "column"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_what_is_wrong_stands_at_its_line(tmp_path, content, message, line, column):
    found = problem(tmp_path, content)
    assert (found.message, found.line, found.column) == (message, line, column)


def test_help_of_traces(tmp_path):
    assert problem(tmp_path, "isl,osl\n1,x\n").help == "write whole numbers, as in 1536"
    found = problem(tmp_path, "when,who\n1,2\n").help or ""
    assert found == "columns: isl and osl (or ContextTokens and GeneratedTokens), or seq_len; found: when, who"
    assert (problem(tmp_path, "\n1,2\n").help or "").endswith("found: none")
    many = problem(tmp_path, f"{'h' * 31},,3,4,5,6,7,8,9\n").help or ""
    assert many.endswith(f"found: {'h' * 30}, 3, 4, 5, 6, 7, 8")  # of eight, one has no name


def test_a_message_is_no_longer_than_300_letters(tmp_path):
    key = f"i{'_' * 400}sl"
    found = problem(tmp_path, json.dumps({key: "x", "osl": 1}))
    assert found.message == f"trace: {key}"[:300]


def test_the_largest_count_is_a_number_of_tokens(tmp_path):
    assert load(tmp_path, f"seq_len\n{2**60}\n").totals == Lengths.of(2**60)
    assert load(tmp_path, f"seq_len\n{7:019}\n").totals == Lengths.of(7)


def test_a_quote_that_does_not_end_is_no_csv(tmp_path):
    found = problem(tmp_path, 'isl,osl\n"1,2\n')
    assert found.message.startswith("trace: no CSV: ")
    assert found.line is not None


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(KvcalcError) as caught:
        load_trace(str(tmp_path / "none.csv"))
    assert caught.value.problems[0].message == "trace: cannot be read: No such file or directory"
    with pytest.raises(KvcalcError) as caught:
        load_trace("a\0b")
    assert "cannot be read" in caught.value.problems[0].message


def test_deep_json_is_no_object(tmp_path):
    assert problem(tmp_path, '{"isl": 1, "osl": ' + "[" * 100_000).message == "trace: no JSON object"


BOUNDS = [
    ("MAX_LINE", 9, "isl,osl\n12345,78\n", None),
    ("MAX_LINE", 8, "isl,osl\n12345,78\n", ("a line of more than 8 characters", 2)),
    ("MAX_LINE", 7, "isl,osl\n1,2\n", ("a line of more than 7 characters", 1)),
    ("MAX_BYTES", 16, "isl,osl\n1,2\n3,4\n", None),
    ("MAX_BYTES", 15, "isl,osl\n1,2\n3,4\n", ("larger than 15 bytes", 3)),
    ("MAX_BYTES", 7, "isl,osl\n1,2\n3,4\n", ("larger than 7 bytes", 1)),
    ("MAX_LENGTHS", 2, "isl,osl\n1,1\n2,1\n1,1\n", None),
    ("MAX_LENGTHS", 1, "isl,osl\n1,1\n2,1\n", ("more than 1 different lengths", 1)),
    ("MAX_LENGTHS", 2, "isl,osl\n1,3\n2,2\n1,3\n", None),
    ("MAX_LENGTHS", 1, "isl,osl\n1,3\n2,2\n3,1\n", ("more than 1 different lengths", 1)),
]


@pytest.mark.parametrize(("name", "most", "content", "said"), BOUNDS, ids=[str(i) for i in range(len(BOUNDS))])
def test_bounds_of_hostile_traces(tmp_path, monkeypatch, name, most, content, said):
    """A line without end, too many bytes, too many totals or prompts: as many as are allowed, and one more."""
    monkeypatch.setattr(module, name, most)
    if said is None:
        load(tmp_path, content)
    else:
        found = problem(tmp_path, content)
        assert (found.message, found.line) == (f"trace: {said[0]}", said[1])


def test_bounds_are_far_above_any_published_trace(tmp_path):
    """256 MiB in lines of 1 MiB, and half a million lengths; of 128 each is allocated, of 129 every other."""
    assert load(tmp_path, '{"isl": 1, "osl": 2}'.ljust(2**20)).requests == 1
    assert (module.MAX_BYTES, module.MAX_LINE, module.MAX_LENGTHS) == (268_435_456, 1_048_576, 524_288)
    for most, kept in ((128, 128), (129, 65)):
        assert len(Lengths.counted(dict.fromkeys(range(1, most + 1), 1)).rounded_up().mix) == kept


@given(st.binary(max_size=300))
def test_any_bytes_are_a_trace_or_a_problem(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(content)
    try:
        found = load_trace(str(file)).requests
    except KvcalcError as error:
        found = len(error.problems)
    assert found > 0


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 999)), min_size=1, max_size=40), st.booleans())
def test_csv_and_json_lines_say_the_same(tmp_path_factory, rows, blank):
    folder = tmp_path_factory.getbasetemp()
    text = "isl,osl\n" + "".join(f"{isl},{osl}\n" for isl, osl in rows)
    lines = "".join(json.dumps({"isl": isl, "osl": osl}) + "\n" * (1 + blank) for isl, osl in rows)
    one, other = load(folder, text, "a.csv"), load(folder, lines, "a.jsonl")
    assert one == replace(other, path=one.path)
    assert one.totals.count == len(rows)
    assert one.held.count == sum(max(1, osl) for _, osl in rows)
