"""Small sound inputs of the formats that are not ours, in each writer's own wording."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

GGUF: tuple[dict[str, Any], ...] = tuple(
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


"""Metadata of one file for each shape of architecture; None is a list of texts."""


def _text(word: str) -> bytes:
    return struct.pack("<Q", len(word.encode())) + word.encode()


def _typed(found: Any) -> tuple[int, bytes]:
    """(GGUF value type, the value): what the format has no type for is written as text."""
    if isinstance(found, bool):
        return 7, struct.pack("<?", found)
    if isinstance(found, int) and 0 <= found < 2**32:
        return 4, struct.pack("<I", found)
    if isinstance(found, int) and -(2**63) <= found < 2**63:
        return 11, struct.pack("<q", found)
    if isinstance(found, (int, float)):
        return 12, struct.pack("<d", found)
    if found is None:
        found = ["a", "b", "c"]
    if isinstance(found, list):
        items = [_typed(item if isinstance(item, (int, float, str)) else "x") for item in found]
        kind = items[0][0] if items else 5
        same = [data for other, data in items if other == kind]
        return 9, struct.pack("<IQ", kind, len(same)) + b"".join(same)
    return 8, _text(str(found))


def gguf_bytes(keys: Mapping[str, Any]) -> bytes:
    """A header with these keys, by the format's own description (ggml docs/gguf.md)."""
    pairs = ((key, *_typed(found)) for key, found in keys.items())
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, len(keys))
        + b"".join(_text(key) + struct.pack("<I", kind) + data for key, kind, data in pairs)
    )


LOGS = (
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
"""Lines of vLLM (V1, then V0), SGLang, and llama.cpp (new, then old)."""
TRACES = (
    b"isl,osl\n100,20\n2000,300\n",
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
    b"\xef\xbb\xbfseq_len\n1\n\n1152921504606846976\n",
    b'"isl","osl"\r\n"1","2"\r\n',
    b'{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n',
)
CALIBRATIONS = (
    b'{"machine": {"device": "x", "driver": "1", "date": "2026"}, "ceilings": {"read_bytes_per_s": 3e12,'
    b' "gemm_flops_per_s": {"bf16": 7e14}}}',
)
SETTINGS = (
    b'select = ["KV2"]\nignore = ["KV301"]\nexclude = ["tests/", "*.bak"]\nagainst = "configs"\n'
    b'[per-file-ignores]\n"model_specs/*.yaml" = ["KV302"]\n',
)
