"""What users write on the command line: its small languages, and whole commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from itertools import pairwise
from typing import Any

from command_line import kvcalc
from fuzz.oracle import harmless, parsed, said, table_shown
from fuzz.questions import small
from fuzz.scratch import folder
from fuzz.seeds import LOGS
from fuzz.target import ROOT, Target

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.checks.settings import merged
from kvcalc.checks.table import parse_codes
from kvcalc.engines import NAMES, find_engine
from kvcalc.engines.sizing import parse_fraction, parse_settings
from kvcalc.footprint import Workload, footprint
from kvcalc.problems import KvcalcError
from kvcalc.steps import parse_convention
from kvcalc.sweep import parse_axis
from kvcalc.units import (
    MAX_COUNT,
    format_bytes,
    parse_byte_rate,
    parse_bytes,
    parse_count,
    parse_decimal,
    parse_duration_ns,
    parse_flop_rate,
    parse_frequency,
    parse_power,
)
from kvcalc.variants import parse_variant
from kvcalc.weights.formats import weight_format


def _count(text: str) -> None:
    value = parse_count(text)
    assert 1 <= value <= MAX_COUNT
    assert parse_count(str(value)) == value


def _bytes(text: str) -> None:
    value = parse_bytes(text)
    assert value >= 0
    assert parse_bytes(f"{value} B") == value
    harmless(format_bytes(value))


def _formats(text: str) -> None:
    chosen = parse_kv_cache_dtype(text)
    assert parse_kv_cache_dtype(chosen.name) == chosen, f"{chosen.name} is read as another choice"
    footprint(small().layout(), Workload(batch_size=1, seq_len=63, formats=chosen))


def _variant(text: str) -> None:
    changed = parse_variant(text)
    chosen = changed.formats or parse_kv_cache_dtype("bf16")
    footprint(changed.spec(small()).layout(), Workload(batch_size=1, seq_len=63, formats=chosen))


def _axis(text: str) -> None:
    values = parse_axis(text, "--seq-len")
    assert len(values) >= 1
    assert 1 <= min(values) <= max(values) <= MAX_COUNT


READERS: tuple[Callable[[str], Any], ...] = (
    _count, _bytes, _formats, _variant, _axis, parse_byte_rate, parse_flop_rate, parse_frequency, parse_power,
    parse_duration_ns, parse_decimal, parse_convention, find_engine, weight_format,
    lambda text: parse_fraction(text, "--share"), lambda text: parse_codes(merged([text])),
    *(lambda text, name=name: parse_settings(find_engine(name), [text]) for name in NAMES),
)  # fmt: skip


def words(data: bytes) -> bool:
    """Every small language takes the same text, or says why not; whether any took it."""
    text, taken = data.decode("utf-8", "surrogateescape"), False
    for read in READERS:
        try:
            read(text)
            taken = True
        except KvcalcError as error:
            said(error)
    return taken


COMMANDS = frozenset(
    {"size", "compare", "explain", "tiers", "roofline", "list", "check", "diff", "reconcile", "fit", "import", "plan",
     "schema"}
)  # fmt: skip
"""`sweep` prints as much as is asked for, and `verify` needs a GPU."""
NOT_HERE = ("--plot", "--output-file", "--fix", "--hub", "--against", "--config", "--install", "/", "~", "..")
"""No file is written, nothing outside the folder read, and no network asked, by a fuzzer."""
MAX_WORDS, MAX_WORD = 12, 300


def command_line(data: bytes) -> bool:
    """The whole command: a word on each line, then what it finds at standard input."""
    given, _, stdin = data.partition(b"\0")
    arguments = [os.fsdecode(word)[:MAX_WORD] for word in given.split(b"\n")[:MAX_WORDS]]
    if arguments[0] not in COMMANDS or any(part in word for word in arguments for part in NOT_HERE):
        return False
    with chdir(folder()):
        ran = kvcalc(*arguments, stdin=stdin)
    assert ran.code in (0, 1, 2), ran
    for text in (ran.out, ran.err):
        assert "Traceback" not in text, text[-3000:]
        assert "internal error" not in text, text[-3000:]
        harmless(text)
    if ran.code == 0 and "-h" not in arguments and "--help" not in arguments:
        _read_back(arguments, ran.out)
    return ran.code == 0


def _read_back(arguments: list[str], out: str) -> None:
    """What a machine asked for, it can read."""
    wanted = [after for word, after in pairwise(arguments) if word in ("-o", "--output")]
    if wanted[-1:] == ["json"] and "-q" not in arguments and "--quiet" not in arguments:
        parsed(out)
    elif wanted[-1:] == ["csv"] and "-q" not in arguments and "--quiet" not in arguments:
        table_shown(out)


_TEXTS = (
    b"32K", b"25.6k", b"3.35 TB/s", b"989.4 TFLOP/s", b"1.41 GHz", b"700 W", b"50ms", b"fp8_ds_mla,state=bf16",
    b"key=q8_0,value=q4_0", b"gqa:8@kv:fp8", b"mla:512+64", b"window:4096", b"1:256:*2", b"1K:8K:+1K,7",
    b"vllm@0.13.0", b"n_ctx=32K", b"kv_unified=true", b"0.92", b"int4-g32", b"grouped,mla-absorbed", b"KV2,KV301",
)  # fmt: skip
_SPEC = (ROOT / "tests/checks/good/plain.yaml").read_bytes()
_PLAN = (ROOT / "tests/checks/good/plan.yaml").read_bytes()
_LINES = (
    b"size\nqwen-72b\n-b\n8\n-s\n32K", b"size\ngemma-3-27b\n--engine\nvllm\n-tp\n2\n--gpu-memory\n80GiB",
    b"compare\nqwen-72b\n--as\ngqa:8,mqa,mla:512+64\n-o\njson", b"explain\nKV201", b"explain\nmla\n-o\nmarkdown",
    b"tiers\nqwen-72b\n--gpu\nh200\n--storage\n7GB/s", b"roofline\ndeepseek-v3\n--gpu\nh100-sxm\n-b\n64",
    b"list\ngpus\n-o\ncsv", b"fit\nqwen-7b\n--gpu\nh200\n--gpus\n1", b"check\nno-such-file\n--select\nKV2",
    b"size\ngpt-oss-120b\n--engine\nllama.cpp\n--set\nn_ctx=32K\n-q", b"diff\na:b\nc", b"import\nx.gguf",
    b"size\n-\n-s\n1K\n-o\ncsv\0" + _SPEC, b"check\n-\n-o\ngithub\0" + _SPEC, b"explain\n-\0" + _SPEC,
    b"plan\n-f\n-\n-o\njson\0" + _PLAN, b"check\n-\n-o\nsarif\0" + _PLAN, b"schema\nplan",
    b"reconcile\n-\n--model\ngemma-3-27b\0" + LOGS[0], b'import\n-\0{"model_type": "llama"}',
)  # fmt: skip

TARGETS: Mapping[str, Target] = {
    "words": Target(words, lambda: _TEXTS, 100, "K M GiB TB/s ms : * + , @ = . key value gqa mla window kv: vllm fp8"),
    "command-line": Target(command_line, lambda: _LINES, 5, "--engine -s -b -o --gpu --as -tp --set json csv - -f"),
}
