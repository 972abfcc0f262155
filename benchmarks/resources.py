"""Memory and processor time of whole `kvcalc` processes: of queries, and of the largest inputs that mean harm.

    python benchmarks/resources.py [--only WORD]

Prints two Markdown tables (docs/reliability.md shows the latest) and exits 1 where a query took more than 200 MB or an
input more than 1 GiB, ended otherwise than it should, or showed a traceback. Linux; up to 400 MB of /tmp.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

QUERY_BYTES, INPUT_BYTES = 200 * 10**6, 2**30
MIB = 2**20

QUERIES = (
    "--help",
    "size qwen-72b -b 8 -s 32K",
    "size gemma-3-27b --engine vllm -b 32 -s 128K -tp 2",
    "compare qwen-72b --as mha,gqa:8,mqa,mla:512+64,window:4096,kv:fp8,kv:int4-g32",
    "explain deepseek-v3.2",
    "explain KV201",
    "tiers qwen-72b --gpu a100-40gb -b 8 -s 32K",
    "tiers qwen-72b --gpu a100-40gb --plot {folder}/tiers.png",
    "roofline deepseek-v3 --gpu h200 -b 64 -s 8K",
    "sweep qwen-72b -b 1:10000:1 -s 1K:1000K:1K --gpu h200",
    "sweep qwen-72b -b 1:1000:1 -s 1K:1000K:1K --gpu h200 -o csv",
    "sweep qwen-72b --gpu h200 --plot {folder}/sweep.pdf",
    "plan deepseek-v3 --gpu h200 -b 256 -s 8K --tpot 50ms -o json",
    "fit deepseek-v3 --gpu h200 --gpus 8 -s 128K",
    "check --isolated {specs}",
    "diff deepseek-v3 deepseek-v3.2",
    "reconcile {folder}/server.log --model qwen3-8b",
    "list models",
    "import {folder}/config.json",
    "schema --report plan",
)


def text(word: bytes) -> bytes:
    return struct.pack("<Q", len(word)) + word


def header(keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, keys)


def gguf_arrays(path: Path) -> None:
    """2,000 arrays of 20,000 numbers, each as long as one may be and still be kept."""
    body = struct.pack("<20000h", *range(10_000, 30_000))
    with path.open("wb") as out:
        out.write(header(2000))
        for index in range(2000):
            out.write(text(b"k%d" % index) + struct.pack("<IIQ", 9, 3, 20_000) + body)


def gguf_words(path: Path) -> None:
    """Ten million words of a vocabulary, all empty."""
    with path.open("wb") as out:
        out.write(header(1) + text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 10**7))
        out.write(bytes(8 * 10**7))


def gguf_texts(path: Path) -> None:
    """300 texts of 1 MiB."""
    with path.open("wb") as out:
        out.write(header(300))
        for index in range(300):
            out.write(text(b"k%d" % index) + struct.pack("<I", 8) + text(b"x" * MIB))


def filled(line: bytes, size: int, head: bytes = b"") -> Callable[[Path], None]:
    """A file of that many bytes, of one line over and over."""

    def make(path: Path) -> None:
        block = line * max(1, MIB // len(line))
        with path.open("wb") as out:
            out.write(head)
            for _ in range(size // len(block)):
                out.write(block)

    return make


def lines(pattern: str, count: int, head: str = "") -> Callable[[Path], None]:
    """Numbered lines."""
    return lambda path: path.write_text(head + "".join(pattern % index for index in range(count)), "utf-8") and None


def sparse(path: Path) -> None:
    """A gigabyte of zeros that takes no room."""
    with path.open("wb") as out:
        out.truncate(2**30)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def many(path: Path) -> None:
    """10,000 specs, each with a finding."""
    path.mkdir()
    spec = (
        "name: m{}\nmax_position_embeddings: 4096\nsources: [{{source: paper, kind: paper}}]\n"
        "attention: {{full: {{kind: full, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 64}}}}\n"
        "layers: [{{count: 12, attention: full}}]\n"
        "expect: [{{quantity: kv_bytes_per_token, value: 1, source: nowhere}}]\n"
    )
    for index in range(10_000):
        (path / f"{index:05}.yaml").write_text(spec.format(index), "utf-8")


def ignoring(path: Path) -> None:
    """A .gitignore of patterns that backtrack, names to go with it, and a pipe that nobody fills."""
    path.mkdir()
    (path / ".gitignore").write_text(("*a" * 20 + "b\n") * 20_000 + "**/a/**/a/**/a/**/b\n", "utf-8")
    for index in range(200):
        (path / f"{'a' * 200}{index}.yaml").write_text("services: {}\n", "utf-8")
    os.mkfifo(path / "pipe.yaml")
    (path / "sub").mkdir()
    os.mkfifo(path / "sub" / ".gitignore")


@dataclass(frozen=True, slots=True)
class Harm:
    """An input, what is asked of it (`{}`: its path), and how that should end."""

    what: str
    make: Callable[[Path], None]
    line: str
    code: int = 2
    suffix: str = ""


TRACE = "plan qwen3-8b --gpu h200 --lengths {} -q"
CALIBRATED = "tiers qwen3-8b --gpu h200 --calibration {}"
LOGGED = "reconcile {} --model qwen3-8b"
READERS: Mapping[str, tuple[str, str]] = {
    "a spec": ("size {}", ".yaml"), "config.json": ("size {}", ".json"), "GGUF": ("size {}", ".gguf"),
    "a GPU": ("tiers qwen3-8b --gpu {}", ".yaml"), "a log": (LOGGED, ""), "a trace": (TRACE, ""),
    "a calibration": (CALIBRATED, ""), "settings": ("check --config {} /dev/null", ""), "a plan": ("plan -f {}", ""),
}  # fmt: skip
HARMS = (
    Harm("10,000 specs, all with findings", many, "check --isolated {} -o json", 1),
    Harm("the same, as SARIF", many, "check --isolated {} -o sarif", 1),
    Harm("20,000 slow patterns, pipes that nobody fills", ignoring, "check --isolated {}", 0),
    Harm("YAML, 1 MiB of nested brackets", filled(b"[", MIB - 20), "size {}", suffix=".yaml"),
    Harm("YAML, 50,000 unknown keys", lines("k%d: 1\n", 50_000), "check --isolated {}", 1, ".yaml"),
    Harm("YAML, 9,000 entries", lines(
        "  e%d: {kind: full, num_attention_heads: 8, num_key_value_heads: 3, head_dim: 1}\n", 9_000,
        "name: x\nlayers: []\nattention:\n"), "check --isolated {}", 1, ".yaml"),
    Harm("JSON, 150,000 numbers", lines("%d,", 150_000, '{"a": ['), "size {}", suffix=".json"),
    Harm("GGUF, 2,000 arrays of 20,000 numbers", gguf_arrays, "size {}", suffix=".gguf"),
    Harm("GGUF, 10 million words", gguf_words, "size {}", suffix=".gguf"),
    Harm("GGUF, 300 texts of 1 MiB", gguf_texts, "size {}", suffix=".gguf"),
    Harm("log of 100 MiB", filled(b"INFO GPU KV cache size: x tokens, GPU blocks: y\n", 100 * MIB), LOGGED),
    Harm("log, one line of 100 MiB", filled(b"KV cache size: ", 100 * MIB), LOGGED),
    Harm("trace of 255 MiB", filled(b"1024,100\n", 255 * MIB, b"isl,osl\n"), TRACE, 0),
    Harm("trace, 520,000 different lengths", lines("%d,1\n", 520_000, "isl,osl\n"), TRACE, 0),
    Harm("trace, 600,000 different lengths", lines("%d,1\n", 600_000, "isl,osl\n"), TRACE),
    Harm("settings of 1 MiB", lines("a%d = 1\n", 80_000), "check --config {} /dev/null"),
    *(Harm(f"{form} as {what}", make, line, suffix=suffix)
      for form, make in (("1 GiB of zeros", sparse), ("/dev/zero", endless))
      for what, (line, suffix) in READERS.items()),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    code: int
    max_rss_bytes: int
    cpu_s: float
    said: str


def ask(arguments: list[str]) -> Taken:
    """One process, its output thrown away."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            os.dup2(said.fileno(), 2)
            os.execv(sys.executable, [sys.executable, "-m", "kvcalc", *arguments])
        _, status, usage = os.wait4(child, 0)
        said.seek(0)
        text = said.read(MIB).decode("utf-8", "replace")
    return Taken(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, text)


def row(what: str, taken: Taken, most: int, codes: tuple[int, ...]) -> bool:
    """Prints a line of a table; whether all is well."""
    print(f"| {what} | {taken.max_rss_bytes / 10**6:,.0f} | {taken.cpu_s:.1f} | {taken.code} |", flush=True)
    broken = any(word in taken.said for word in ("Traceback", "internal error"))
    if taken.max_rss_bytes <= most and taken.code in codes and not broken:
        return True
    print(f"  FAULT: {taken.said[-300:]}", file=sys.stderr)
    return False


def head(title: str) -> None:
    print(f"\n| {title} | most memory [MB] | processor [s] | exit |\n|---|---:|---:|---:|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows that hold this word")
    only = parser.parse_args().only
    from kvcalc.spec.catalog import SPEC_FOLDER

    fine = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server.log").write_text(LOG, "utf-8")
        (folder / "config.json").write_text(CONFIG, "utf-8")
        places: Mapping[str, object] = {"folder": folder, "specs": SPEC_FOLDER}
        head("query")
        for line in QUERIES:
            if only in line:
                taken = ask(line.format(**places).split())
                fine &= row(f"`kvcalc {line.format(folder='.', specs='model_specs')}`", taken, QUERY_BYTES, (0, 1))
        head("input")
        for number, harm in enumerate(HARMS):
            if only in harm.what:
                path = folder / f"{number}{harm.suffix}"
                harm.make(path)
                fine &= row(harm.what, ask(harm.line.format(path).split()), INPUT_BYTES, (harm.code,))
                if path.is_file():
                    path.unlink()
    sys.exit(not fine)


CONFIG = """{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "vocab_size": 10, "intermediate_size": 16}"""
LOG = """\
INFO LLM engine (v0.11.0) with config: model='Qwen/Qwen3-8B', max_seq_len=40960, kv_cache_dtype=auto
INFO Available KV cache memory: 50.00 GiB
INFO GPU KV cache size: 364,080 tokens
"""

if __name__ == "__main__":
    main()
