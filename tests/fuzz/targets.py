"""What is fuzzed: each target takes any bytes and must end in an answer or in Problems.

`run.py` drives these with a coverage-guided fuzzer; `test_corpus.py` replays past failures and a few seeds in CI.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from import_configs import KNOWN

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.calibration import load_calibration
from kvcalc.checks.engine import CheckReport, Selection, document_findings
from kvcalc.checks.fixing import repaired
from kvcalc.checks.kinds import recognise
from kvcalc.checks.settings import Settings, read_settings
from kvcalc.checks.subject import World
from kvcalc.engines import NAMES, find_engine
from kvcalc.engines.sizing import parse_fraction, parse_settings, size_in_engine
from kvcalc.explanation import explain_model
from kvcalc.footprint import Workload, footprint
from kvcalc.importers.gguf import load_gguf, read_metadata
from kvcalc.importers.hf_config import DENSE_GQA, ImportedSpec, read_document
from kvcalc.importers.load import json_document, spec_of
from kvcalc.plan.lengths import load_trace
from kvcalc.problems import KvcalcError
from kvcalc.reconcile import model_in, reconcile
from kvcalc.render.document import safe
from kvcalc.render.explanations import model_document
from kvcalc.render.findings import FORMATS as FINDINGS
from kvcalc.render.findings import renderer
from kvcalc.render.machine import render_csv, render_json
from kvcalc.render.problems import render_problem
from kvcalc.render.text import render_markdown, render_text
from kvcalc.roofline import roofline
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import load_hardware, shipped_accelerator
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import load_model
from kvcalc.spec.yamlio import load_yaml
from kvcalc.steps import parse_convention
from kvcalc.sweep import parse_axis
from kvcalc.tiers import tiers
from kvcalc.units import (
    parse_byte_rate,
    parse_bytes,
    parse_count,
    parse_duration_ns,
    parse_flop_rate,
    parse_frequency,
    parse_power,
)
from kvcalc.variants import parse_variant
from kvcalc.weights.count import parameter_count
from kvcalc.weights.formats import weight_format
from kvcalc.weights.ledger import weight_bytes, weight_scheme

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once ended in a fault: TARGET-what.bin."""
BF16, MIXED = parse_kv_cache_dtype("bf16"), parse_kv_cache_dtype("int4-g32,value=q8_0")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of strangers' bytes."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    share: int
    """Of the executions of a whole run."""
    words: str = ""
    """What the format is made of: a dictionary for the fuzzer, one word between spaces."""


# --- what is asked of what was read -----------------------------------------------------------------------------


def asked_of_model(spec: ModelSpec, number: int) -> None:
    """One of the questions that a user may ask of a spec."""
    workload = Workload(batch_size=3, seq_len=2000, encoder_len=100, formats=(BF16, MIXED)[number % 2])
    questions: tuple[Callable[[], object], ...] = (
        lambda: render_json("size", footprint(spec.layout(), workload)),
        lambda: shown(model_document(explain_model(spec, workload))),
        lambda: parameter_count(spec),
        lambda: weight_bytes(spec, weight_scheme(spec), mtp=True),
        lambda: tiers(spec, shipped_accelerator("h100-sxm"), batch_size=3, seq_len=2000, formats=BF16),
        lambda: roofline(spec, shipped_accelerator("h100-sxm"), batch_size=3, seq_len=2000, formats=BF16),
        *(
            lambda engine=engine: size_in_engine(
                [spec], find_engine(engine), find_engine(engine).configure(), batch_size=3, seq_len=2000, formats=BF16
            )
            for engine in NAMES
        ),
    )
    questions[number // 2 % len(questions)]()


def shown(document: Any) -> None:
    """In every form; nothing in the text may drive a terminal."""
    for text in (render_text(document, width=60), render_markdown(document), render_csv(document)):
        harmless(text)


def harmless(text: str) -> None:
    """Whatever came in: no control, bidi or private character comes out."""
    assert text == safe(text), "printed raw"


def said(error: KvcalcError) -> None:
    """Problems are there, short, and safe to print."""
    assert error.problems, "no problem is named"
    for problem in error.problems:
        text = render_problem(problem)
        harmless(text)
        assert len(text) < 4000, "an endless message"


# --- edits of sound data: past the parser, into the meaning --------------------------------------------------------

_ODD: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 31, 64, 128, 2**31, 2**40, 2**40 + 1, 2**63, 10**39, -(10**39), 0.5, -0.0, 1e308, "", "x", "0",
    "full", "sliding_attention", "mla", "\x1b]0;x\x07", "\u202eabc", "[red]", "=1+1", "::error::", None, True, False,
    [], {}, [0], [1, 2, 3], ["full_attention"], [None], {"kind": "full"}, {"rope_type": "yarn"}, [[[]]], {"": {"": []}},
)  # fmt: skip


def _places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from _places(value, (*place, key))


def edited(data: bytes, seeds: Sequence[Any]) -> Any:
    """A sound document with the edits that the bytes spell: which seed, then (place, what to do, with what) each."""
    document = json.loads(json.dumps(seeds[data[0] % len(seeds)])) if data else {}
    for start in range(1, min(len(data), 33) - 3, 4):
        where, fine, how, what = data[start : start + 4]
        places = [place for place in _places(document) if place]
        if not places:
            break
        place = places[(where << 8 | fine) % len(places)]
        parent = document
        for key in place[:-1]:
            parent = parent[key]
        change = json.loads(
            json.dumps(_ODD[what % len(_ODD)] if how & 1 else _at(document, places[what % len(places)]))
        )
        if how & 6 == 0:
            del parent[place[-1]]
        elif how & 6 == 2 and isinstance(parent, dict):
            parent[f"{place[-1]}_x" if how & 8 else str(places[what % len(places)][-1])] = change
        elif how & 6 == 2:
            parent.insert(place[-1], change)
        else:
            parent[place[-1]] = change
    return document


def _at(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        data = data[key]
    return data


def spellings(count: int) -> list[bytes]:
    """Seeds for edits: each document as it is, and with one edit."""
    return [bytes([index, *b"\x00\x05\x05\x01"]) for index in range(min(count, 256))] + [bytes([0])]


# --- the targets ---------------------------------------------------------------------------------------------------


@cache
def _yaml_seeds(folder: str) -> tuple[bytes, ...]:
    files = sorted((ROOT / folder).glob("*.yaml"))
    return tuple(text for text in (path.read_bytes() for path in files) if len(text) < 4000)


@cache
def _documents(folder: str) -> tuple[Any, ...]:
    return tuple(load_yaml("seed", text).data for text in _yaml_seeds(folder))


def _dumped(document: Any) -> bytes:
    """JSON is YAML; a number too large for a spec's float is written as it is."""
    return json.dumps(document).encode()


def model_yaml(data: bytes) -> None:
    spec, _ = load_model("x.yaml", data)
    asked_of_model(spec, zlib.crc32(data))


def model_edits(data: bytes) -> None:
    model_yaml(_dumped(edited(data, _documents("model_specs"))))


def hardware_yaml(data: bytes) -> None:
    _asked_of_hardware(load_hardware("x.yaml", data)[0])


def hardware_edits(data: bytes) -> None:
    hardware_yaml(_dumped(edited(data, _documents("kvcalc/hardware"))))


@cache
def _small() -> ModelSpec:
    from factories import SPEC

    return load_model("x.yaml", SPEC.encode())[0]


def _asked_of_hardware(spec: HardwareSpec) -> None:
    from kvcalc.accelerators import explain_accelerator
    from kvcalc.render.accelerators import accelerator_document

    shown(accelerator_document(explain_accelerator(spec)))
    roofline(_small(), spec, batch_size=3, seq_len=2000, formats=BF16)
    tiers(_small(), spec, batch_size=3, seq_len=2000, formats=BF16)


def _asked_of_import(found: ImportedSpec, data: bytes) -> None:
    for line in (*found.assumed, *found.defaults, *found.notes):
        assert len(line) < 2000, "an endless remark"
    asked_of_model(spec_of(found), zlib.crc32(data))


def config_json(data: bytes) -> None:
    document = json_document("config.json", data)
    _asked_of_import(read_document(document, assume=(None, DENSE_GQA)[zlib.crc32(data) % 2], name="x"), data)


def config_edits(data: bytes) -> None:
    config_json(_dumped(edited(data, [known.config for known in KNOWN.values()])))


def gguf_header(data: bytes) -> None:
    _asked_of_import(load_gguf(_written("x.gguf", data)), data)


def gguf_edits(data: bytes) -> None:
    _asked_of_import(read_metadata(edited(data, _GGUF), "x.gguf"), data)


def log(data: bytes) -> None:
    model_in(data)
    report = reconcile(data, _small(), name="x.log")
    render_json("reconcile", report)


def trace(data: bytes) -> None:
    found = load_trace(_written("x.csv", data))
    assert found.bucketed.mean >= found.totals.mean
    found.percentile(found.mean_isl)


def calibration(data: bytes) -> None:
    found = load_calibration(_written("x.json", data))
    assert found.bytes_per_s > 0


def settings_toml(data: bytes) -> None:
    found = read_settings(Path(_written("kvcalc.toml", data)))
    _ = found.excluded, found.ignored_for("model_specs/x.yaml")


def checked(data: bytes) -> None:
    """Every rule on the document, its repairs, and the findings in one of the forms."""
    document = load_yaml("x.yaml", data)
    kind = recognise(document.data)
    if kind is None:
        return
    settings = Settings()
    selection, world = Selection(settings, ("KV",)), World()
    found = document_findings("x.yaml", document, kind, selection, world)
    broken = [finding.problem.message for finding in found if finding.problem.code == "KV006"]
    assert not broken, broken
    form = [*FINDINGS][zlib.crc32(data) % len(FINDINGS)]
    renderer(form)(CheckReport(findings=tuple(found), files=1, skipped=0, suppressed=0))
    after = repaired("x.yaml", data, selection, world).after.encode()
    assert repaired("x.yaml", after, selection, world).after.encode() == after, "a repair is not final"


def checked_edits(data: bytes) -> None:
    folder = ("model_specs", "kvcalc/hardware")[data[-1] % 2] if data else "model_specs"
    checked(_dumped(edited(data, _documents(folder))))


def words(data: bytes) -> None:
    """Every small language of the command line."""
    text = data.decode("utf-8", "surrogateescape")
    for read in _READERS:
        with suppress(KvcalcError):
            read(text)


_READERS: tuple[Callable[[str], object], ...] = (
    parse_count, parse_bytes, parse_byte_rate, parse_flop_rate, parse_frequency, parse_power, parse_duration_ns,
    parse_kv_cache_dtype, lambda text: parse_variant(text).spec(_small()), parse_convention, find_engine, weight_format,
    lambda text: parse_axis(text, "--seq-len"), lambda text: parse_fraction(text, "--share"),
    *(lambda text, name=name: parse_settings(find_engine(name), [text]) for name in NAMES),
)  # fmt: skip


def command_line(data: bytes) -> None:
    """The whole command with the words of the input, in this process: exit 0, 1 or 2, and nothing raw."""
    from command_line import kvcalc

    arguments = [os.fsdecode(word)[:300] for word in data.replace(b"\0", b"").split(b"\n")[:12]]
    allowed = {"size", "compare", "explain", "tiers", "roofline", "list", "check", "diff", "reconcile", "fit", "import"}
    if not arguments or arguments[0] not in allowed or any(word.startswith(_WRITES) for word in arguments):
        return
    ran = kvcalc(*arguments)
    assert ran.code in (0, 1, 2), ran
    for text in (ran.out, ran.err):
        assert "Traceback" not in text, text[-3000:]
        assert "internal error" not in text, text[-3000:]
        harmless(text)


_WRITES = ("--plot", "--output-file", "--fix", "--hub", "--against", "/", "~", "..", "-o=", "--config", "--calib")
"""No file is written and no network asked by a fuzzer."""


def _written(name: str, data: bytes) -> str:
    path = os.path.join(_scratch(), name)
    with open(path, "wb") as out:
        out.write(data)
    return path


@cache
def _scratch() -> str:
    return tempfile.mkdtemp(prefix="kvcalc-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


_GGUF: tuple[dict[str, Any], ...] = tuple(
    {
        "general.architecture": arch, "general.name": "x", "tokenizer.ggml.tokens": None,
        **{f"{arch}.{key}": value for key, value in {
            "block_count": 12, "context_length": 8192, "embedding_length": 512, "attention.head_count": 8,
            "attention.head_count_kv": 2, "attention.key_length": 64, "attention.value_length": 64, **more}.items()},
    }
    for arch, more in (
        ("llama", {"vocab_size": 1000}),
        ("gemma3", {"attention.sliding_window": 1024}),
        ("gpt-oss", {"attention.sliding_window": 128, "attention.sliding_window_pattern": [True, False] * 6}),
        ("deepseek2", {"attention.kv_lora_rank": 96, "attention.q_lora_rank": 64, "rope.dimension_count": 32,
                       "attention.key_length_mla": 96, "attention.value_length_mla": 64}),
        ("jamba", {"attention.head_count_kv": [0, 2] * 6, "ssm.conv_kernel": 4, "ssm.inner_size": 1024,
                   "ssm.state_size": 16, "ssm.time_step_rank": 32}),
        ("qwen3next", {"full_attention_interval": 4, "ssm.conv_kernel": 4, "ssm.inner_size": 256,
                       "ssm.state_size": 64, "ssm.time_step_rank": 4, "ssm.group_count": 2}),
        ("lfm2", {"attention.head_count_kv": [0, 2] * 6, "shortconv.l_cache": 3}),
        ("mamba2", {"ssm.conv_kernel": 4, "ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.time_step_rank": 16,
                    "ssm.group_count": 2}),
    )
)  # fmt: skip


@cache
def _gguf_seeds() -> tuple[bytes, ...]:
    """Header bytes by the format's own description: u32 and i32 scalars, strings, arrays."""
    import struct

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    def value(found: Any) -> bytes:
        if isinstance(found, str):
            return struct.pack("<I", 8) + text(found)
        if isinstance(found, list):
            return struct.pack("<IIQ", 9, 5, len(found)) + b"".join(struct.pack("<i", int(item)) for item in found)
        if found is None:
            return struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c")
        return struct.pack("<II", 4, found)

    return tuple(
        b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(text(key) + value(keys[key]) for key in keys)
        for keys in _GGUF
    )


@cache
def _log_seeds() -> tuple[bytes, ...]:
    """Lines in each engine's wording."""
    return (
        b"INFO Initializing a V1 LLM engine (v0.13.0) with config: model='google/gemma-3-27b-it', max_seq_len=4096,"
        b" tensor_parallel_size=1, kv_cache_dtype=auto\nAdd 8 padding layers, may waste\n"
        b"Available KV cache memory: 1.86 GiB\nGPU KV cache size: 205,696 tokens\n"
        b"Maximum concurrency for 4,096 tokens per request: 50.05x\n",
        b"# GPU blocks: 27896, # CPU blocks: 2048\nMaximum concurrency for 131072 tokens per request: 3.41x\n",
        b"server_args=ServerArgs(model_path='x', tp_size=4, dp_size=2, page_size=64, kv_cache_dtype='fp8_e4m3')\n"
        b"KV Cache is allocated. #tokens: 19644, K size: 0.05 GB, V size: 0.05 GB\nmax_total_num_tokens=19644,"
        b" context_len=4096\nSWAKVPool mem usage: 1.00 GB, swa size: 100, full size: 200\n",
        b"llama_context: n_ctx = 16896\nllama_context: n_seq_max = 2\nllama_context: n_ubatch = 512\n"
        b"kv_unified    = false\nllama_kv_cache: size = 18.00 MiB (   768 cells,  12 layers,  1/1 seqs),"
        b" K (f16):    9.00 MiB, V (f16):    9.00 MiB\n",
        b"n_ctx      = 16896\nKV self size  = 2244.00 MiB, K (q8_0): 1122.00 MiB, V (q8_0): 1122.00 MiB\n",
    )


_TRACES = (
    b"isl,osl\n100,20\n2000,300\n",
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
    b"\xef\xbb\xbfseq_len\n1\n\n1152921504606846976\n",
    b'"isl","osl"\r\n"1","2"\r\n',
)
_REPORTS = (
    b'{"machine": {"device": "x", "driver": "1", "date": "2026"}, "ceilings": {"read_bytes_per_s": 4e12,'
    b' "gemm_flops_per_s": {"bf16": 7e14}}}',
)
_TOMLS = (
    b'select = ["KV2"]\nignore = ["KV301"]\nexclude = ["tests/", "*.bak"]\nagainst = "configs"\n'
    b'[per-file-ignores]\n"model_specs/*.yaml" = ["KV302"]\n',
)
_TEXTS = (
    b"32K", b"25.6k", b"3.35 TB/s", b"989.4 TFLOP/s", b"1.41 GHz", b"700 W", b"50ms", b"fp8_ds_mla,state=bf16",
    b"key=q8_0,value=q4_0", b"gqa:8@kv:fp8", b"mla:512+64", b"window:4096", b"1:256:*2", b"1K:8K:+1K,7",
    b"vllm@0.13.0", b"n_ctx=32K", b"kv_unified=true", b"0.92", b"int4-g32", b"grouped,mla-absorbed",
)  # fmt: skip
_LINES = (
    b"size\nqwen-72b\n-b\n8\n-s\n32K", b"size\ngemma-3-27b\n--engine\nvllm\n-tp\n2\n--gpu-memory\n80GiB",
    b"compare\nqwen-72b\n--as\ngqa:8,mqa,mla:512+64\n-o\njson", b"explain\nKV201", b"explain\nmla\n-o\nmarkdown",
    b"tiers\nqwen-72b\n--gpu\nh200\n--storage\n7GB/s", b"roofline\ndeepseek-v3\n--gpu\nh100-sxm\n-b\n64",
    b"list\ngpus\n-o\ncsv", b"fit\nqwen-7b\n--gpu\nh200\n--gpus\n1", b"check\nno-such-file\n--select\nKV2",
    b"size\ngpt-oss-120b\n--engine\nllama.cpp\n--set\nn_ctx=32K\n-q", b"diff\na:b\nc..d", b"import\nx.gguf",
)  # fmt: skip
_YAML_WORDS = (
    "name: attention: layers: pattern: count: kind: full sliding mla shared reads: mamba2 cross compressed "
    "num_attention_heads: num_key_value_heads: head_dim: sliding_window: kv_lora_rank: ffn: dense moe sources: expect: "
    "quantity: value: source: budget: 1099511627776 -1 0 null true [] {} &a *a !!str --- \\x00"
)
_JSON_WORDS = (
    '"model_type" "llama" "num_hidden_layers" "hidden_size" "num_attention_heads" "num_key_value_heads" "head_dim" '
    '"sliding_window" "layer_types" "full_attention" "text_config" "rope_scaling" null true false [] {} -1 0 1e999'
)

TARGETS: Mapping[str, Target] = {
    "model-yaml": Target(model_yaml, lambda: (*_yaml_seeds("model_specs"), *_yaml_seeds("tests/checks/bad")), 8,
                         _YAML_WORDS),
    "model-edits": Target(model_edits, lambda: spellings(len(_documents("model_specs"))), 10),
    "hardware-yaml": Target(hardware_yaml, lambda: _yaml_seeds("kvcalc/hardware"), 4, _YAML_WORDS),
    "hardware-edits": Target(hardware_edits, lambda: spellings(len(_documents("kvcalc/hardware"))), 4),
    "config-json": Target(config_json, lambda: [_dumped(known.config) for known in KNOWN.values()], 6, _JSON_WORDS),
    "config-edits": Target(config_edits, lambda: spellings(len(KNOWN)), 14),
    "gguf-header": Target(gguf_header, _gguf_seeds, 8),
    "gguf-edits": Target(gguf_edits, lambda: spellings(len(_GGUF)), 8),
    "log": Target(log, _log_seeds, 2, "KV GiB tokens: blocks: tp_size= page_size= n_ctx cells layers size MiB K V 0 9"),
    "trace": Target(trace, lambda: _TRACES, 12, "isl osl seq_len , \\x0d\\x0a \\x22 0 1152921504606846976"),
    "calibration": Target(calibration, lambda: _REPORTS, 4, '"machine" "ceilings" "gemm_flops_per_s" 1e999 NaN'),
    "settings": Target(settings_toml, lambda: _TOMLS, 4, "select ignore exclude against per-file-ignores = [ ] ! **"),
    "check": Target(checked, lambda: (*_yaml_seeds("tests/checks/bad"), *_yaml_seeds("tests/checks/good")), 4,
                    _YAML_WORDS + " #kvcalc: ignore=KV2 expect:"),
    "check-edits": Target(checked_edits, lambda: spellings(len(_documents("model_specs"))), 4),
    "words": Target(words, lambda: _TEXTS, 7, "K M GiB TB/s ms : * + , @ = . key value gqa mla window kv: vllm fp8"),
    "command-line": Target(command_line, lambda: _LINES, 1, "--engine -s -b -o --gpu --as -tp --set json csv"),
}  # fmt: skip


def attempt(name: str, data: bytes) -> None:
    """One execution: Problems are an answer, and are read out."""
    try:
        TARGETS[name].run(data)
    except KvcalcError as error:
        said(error)


__all__ = ["CORPUS", "TARGETS", "Target", "attempt"]
