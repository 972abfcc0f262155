"""Figures in start-up logs of vLLM, SGLang and llama.cpp.

Logs come from anywhere: the text is bounded, every pattern is linear, nothing in it is executed, and numbers of
more than 18 digits are not numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO

from kvcalc.problems import KvcalcError, Problem

MAX_BYTES = 64 * 2**20
MAX_LINES = 500_000
MAX_LINE = 100_000
MAX_FACTS = 20_000

_INT = r"(\d{1,3}(?:,\d{3}){1,5}|\d{1,18})"
_DECIMAL = r"(\d{1,12}(?:\.\d{1,20})?)"


def read_log(path: str) -> tuple[str, bytes]:
    """(name, content up to one byte beyond MAX_BYTES) of a log, or of standard input as `-`.

    Raises:
        KvcalcError: not readable (KV001).
    """
    if path == "-":
        return "<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with open(path, "rb") as handle:
            return path, handle.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no file name"
        raise KvcalcError(Problem(code="KV001", message=f"{path[:200]} cannot be read: {reason}", path=path[:200]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure as it stands in the log."""

    engine: str
    name: str
    text: str
    line: int

    @property
    def integer(self) -> int:
        return int(self.text.replace(",", ""))

    @property
    def decimal(self) -> Decimal:
        return Decimal(self.text)

    @property
    def digits(self) -> int:
        """Digits behind the point: they bound the accuracy."""
        return len(self.text.partition(".")[2])


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A line's mark (searched first, as plain text), and the figures in it by group."""

    engine: str
    mark: str
    names: tuple[str, ...]
    regex: re.Pattern[str]


def _pattern(engine: str, mark: str, names: str, regex: str) -> _Pattern:
    return _Pattern(engine, mark, tuple(names.split()), re.compile(regex, re.ASCII))


VLLM, SGLANG, LLAMACPP = "vllm", "sglang", "llama.cpp"

_PATTERNS = (
    _pattern(VLLM, "LLM engine (v", "version", r"LLM engine \(v(\d{1,4}(?:\.\d{1,4}){1,3})"),
    _pattern(VLLM, "API server version", "version", r"API server version:? v?(\d{1,4}(?:\.\d{1,4}){1,3})"),
    _pattern(VLLM, "LLM engine (v", "model", r"model='([^']{1,200})'"),
    _pattern(VLLM, "LLM engine (v", "max_model_len", r"max_seq_len=(\d{1,12})\b"),
    _pattern(VLLM, "tensor_parallel_size", "tensor", r"tensor_parallel_size'?[=:] ?(\d{1,6})\b"),
    _pattern(VLLM, "pipeline_parallel_size", "pipeline", r"pipeline_parallel_size'?[=:] ?(\d{1,6})\b"),
    _pattern(VLLM, "decode_context_parallel_size", "decode_context",
             r"decode_context_parallel_size'?[=:] ?(\d{1,6})\b"),
    _pattern(VLLM, "kv_cache_dtype", "dtype", r"kv_cache_dtype'?[=:] ?'?([a-z0-9_]{2,40})"),
    _pattern(VLLM, "max_num_batched_tokens", "max_num_batched_tokens",
             r"max_num_batched_tokens'?[=:] ?(\d{1,12})\b"),
    _pattern(VLLM, "disable_hybrid_kv_cache_manager", "hybrid_off",
             r"disable_hybrid_kv_cache_manager'?[=:] ?(True)"),
    _pattern(VLLM, "Hybrid KV cache manager is disabled", "hybrid_off", r"Hybrid KV cache manager is (disabled)"),
    _pattern(VLLM, "kv cache block size to", "block_size", r"kv cache block size to (\d{1,6})\b"),
    _pattern(VLLM, "attention block size to", "hybrid_block", r"attention block size to (\d{1,9}) tokens"),
    _pattern(VLLM, "Padding mamba page size", "state_padding", r"mamba page size by (\d{1,6}\.\d{1,6})%"),
    _pattern(VLLM, "padding layers", "padding_layers", r"Add (\d{1,6}) padding layers"),
    _pattern(VLLM, "Available KV cache memory", "gib", rf"Available KV cache memory: {_DECIMAL} ?GiB"),
    _pattern(VLLM, "reserved for KV Cache is", "gib", rf"reserved for KV Cache is {_DECIMAL} ?GiB"),
    _pattern(VLLM, "kv_cache_size=", "gib", rf"kv_cache_size={_DECIMAL} ?GiB"),
    _pattern(VLLM, "GPU blocks:", "blocks", rf"GPU blocks: {_INT}"),
    _pattern(VLLM, "num_gpu_blocks is", "blocks", rf"num_gpu_blocks is:? {_INT}"),
    _pattern(VLLM, "KV cache size:", "tokens", rf"KV cache size: {_INT} tokens"),
    _pattern(VLLM, "Maximum concurrency for", "request concurrency",
             rf"Maximum concurrency for {_INT} tokens per request: (\d{{1,12}}\.\d{{1,6}})x"),
    _pattern(SGLANG, "server_args=", "model", r"model_path='([^']{1,200})'"),
    _pattern(SGLANG, "server_args=", "tensor", r"\btp_size=(\d{1,6})\b"),
    _pattern(SGLANG, "server_args=", "data", r"\bdp_size=(\d{1,6})\b"),
    _pattern(SGLANG, "server_args=", "dp_attention", r"enable_dp_attention=(True)"),
    _pattern(SGLANG, "server_args=", "pipeline", r"\bpp_size=(\d{1,6})\b"),
    _pattern(SGLANG, "server_args=", "dtype", r"kv_cache_dtype='([a-z0-9_]{2,40})'"),
    _pattern(SGLANG, "server_args=", "block_size", r"\bpage_size=(\d{1,6})\b"),
    _pattern(SGLANG, "KV Cache is allocated", "tokens", rf"#tokens: {_INT}"),
    _pattern(SGLANG, "KV Cache is allocated", "kv_gib", rf"\bKV size: {_DECIMAL} ?GB"),
    _pattern(SGLANG, "KV Cache is allocated", "key_gib", rf"\bK size: {_DECIMAL} ?GB"),
    _pattern(SGLANG, "KV Cache is allocated", "value_gib", rf"\bV size: {_DECIMAL} ?GB"),
    _pattern(SGLANG, "SWAKVPool", "pool_gib window_tokens full_tokens",
             rf"mem usage: {_DECIMAL} ?GB, swa size: {_INT}, full size: {_INT}"),
    _pattern(SGLANG, "Mamba Cache is allocated", "states", rf"max_mamba_cache_size: {_INT}"),
    _pattern(SGLANG, "Mamba Cache is allocated", "conv_gib", rf"\bconv_state size: {_DECIMAL} ?GB"),
    _pattern(SGLANG, "Mamba Cache is allocated", "ssm_gib", rf"\bssm_state size: {_DECIMAL} ?GB"),
    _pattern(SGLANG, "max_total_num_tokens=", "max_tokens", rf"max_total_num_tokens={_INT}"),
    _pattern(SGLANG, "context_len=", "max_model_len", r"context_len=(\d{1,12})\b"),
    _pattern(LLAMACPP, "n_ctx ", "n_ctx", r"\bn_ctx +=? *(\d{1,12})\b"),
    _pattern(LLAMACPP, "n_seq_max", "n_seq_max", r"\bn_seq_max +=? *(\d{1,6})\b"),
    _pattern(LLAMACPP, "n_ubatch", "n_ubatch", r"\bn_ubatch +=? *(\d{1,9})\b"),
    _pattern(LLAMACPP, "n_batch", "n_batch", r"\bn_batch +=? *(\d{1,9})\b"),
    _pattern(LLAMACPP, "kv_unified", "kv_unified", r"\bkv_unified +=? *(true|false)\b"),
    _pattern(LLAMACPP, "llama_kv_cache", "size cells layers key_type key value_type value",
             rf"size = *{_DECIMAL} MiB \( *(\d{{1,12}}) cells, *(\d{{1,5}}) layers,[^)]{{0,40}}\),"
             rf" K \(([a-z0-9_]{{2,12}})\): *{_DECIMAL} MiB, V \(([a-z0-9_]{{2,12}})\): *{_DECIMAL} MiB"),
    _pattern(LLAMACPP, "KV self size", "self_size", rf"KV self size *= *{_DECIMAL} MiB"),
    _pattern(LLAMACPP, "KV self size", "key_type self_key", rf"\bK \(([a-z0-9_]{{2,12}})\): *{_DECIMAL} MiB"),
    _pattern(LLAMACPP, "KV self size", "value_type self_value", rf"\bV \(([a-z0-9_]{{2,12}})\): *{_DECIMAL} MiB"),
    _pattern(LLAMACPP, "KV self size", "key_type", r"c\^KV \(([a-z0-9_]{2,12})\)"),
    _pattern(LLAMACPP, "llama_memory_recurrent", "state_size sequences",
             rf"size = *{_DECIMAL} MiB \( *(\d{{1,6}}) cells"),
)  # fmt: skip
"""What is looked for. Several figures of one line carry its number, so that they can be read together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """All figures that were found, in their order."""

    facts: tuple[Fact, ...]
    cut: bool = False
    """The log was longer than what is read."""
    counts: dict[str, int] = field(default_factory=dict)
    """Figures that speak for each engine."""

    @property
    def engine(self) -> str | None:
        """Whose log it most likely is."""
        return max(self.counts, key=lambda name: self.counts[name], default=None)

    def all(self, engine: str, name: str) -> tuple[Fact, ...]:
        """Every such figure of an engine, in the order of the lines."""
        return tuple(f for f in self.facts if f.engine == engine and f.name == name)

    def first(self, engine: str, name: str) -> Fact | None:
        """The earliest, as for settings that a server prints once."""
        return next((f for f in self.facts if f.engine == engine and f.name == name), None)

    def last(self, engine: str, name: str) -> Fact | None:
        """The latest, as for figures that are printed again after a retry."""
        return next((f for f in reversed(self.facts) if f.engine == engine and f.name == name), None)


_SPEAKING = frozenset({"gib", "tokens", "blocks", "concurrency", "kv_gib", "key_gib", "pool_gib", "states", "size",
                       "self_size", "state_size", "max_tokens"})  # fmt: skip


def parse_log(data: bytes) -> Log:
    """The figures of a log; bytes that are no text become replacement characters."""
    facts: list[Fact] = []
    number = 0
    for number, line in enumerate(BytesIO(data[:MAX_BYTES]), start=1):
        facts += _facts(line[:MAX_LINE].decode("utf-8", errors="replace"), number)
        if len(facts) >= MAX_FACTS or number >= MAX_LINES:
            break
    counts: dict[str, int] = {}
    for fact in facts:
        if fact.name in _SPEAKING:
            counts[fact.engine] = counts.get(fact.engine, 0) + 1
    return Log(
        facts=tuple(facts), cut=len(data) > MAX_BYTES or len(facts) >= MAX_FACTS or number >= MAX_LINES, counts=counts
    )


def _facts(line: str, number: int) -> Iterator[Fact]:
    for pattern in _PATTERNS:
        if pattern.mark in line and (match := pattern.regex.search(line)):
            for name, text in zip(pattern.names, match.groups(), strict=True):
                yield Fact(engine=pattern.engine, name=name, text=text, line=number)
