"""GGUF headers, written by the gguf package's own writer; expected elements by hand arithmetic or from printed logs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Workload, footprint
from kvcalc.importers.gguf import load_gguf
from kvcalc.importers.gguf_header import read_header
from kvcalc.importers.load import spec_of
from kvcalc.problems import KvcalcError

gguf = pytest.importorskip("gguf")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A GGUF file with these keys of an architecture, a vocabulary, and a tensor that nobody may need."""

    def make(arch: str, **keys: Any) -> Path:
        path = tmp_path / f"{arch}.gguf"
        writer = gguf.GGUFWriter(path, arch)
        for key, value in keys.items():
            name = f"{arch}.{key.replace('__', '.')}"
            if isinstance(value, list):
                writer.add_array(name, value)
            elif isinstance(value, float):
                writer.add_float32(name, value)
            else:
                writer.add_uint32(name, value)
        writer.add_array("tokenizer.ggml.tokens", [f"token {index}" for index in range(30_000)])
        writer.add_array("tokenizer.ggml.scores", [0.5] * 30_000)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return make


def elements(path: Path, tokens: int) -> tuple[int, int]:
    """(elements of token caches in bf16, bytes of states) of one sequence."""
    spec = spec_of(load_gguf(str(path)))
    found = footprint(spec.layout(), Workload(batch_size=1, seq_len=tokens, formats=parse_kv_cache_dtype("bf16")))
    return found.kv_bytes // 2, found.state_bytes


BASE = {"block_count": 4, "context_length": 8192, "embedding_length": 1024, "attention__layer_norm_rms_epsilon": 1e-6}


def headed(heads: int = 8, kv: int = 2, width: int = 128, **more: Any) -> dict[str, Any]:
    return {
        **BASE, "attention__head_count": heads, "attention__head_count_kv": kv, "attention__key_length": width,
        "attention__value_length": width, "rope__dimension_count": width, **more,
    }  # fmt: skip


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3", "qwen3moe", "command-r", "starcoder2"])
def test_plain_architectures_keep_every_token(write: Write, arch: str) -> None:
    # 4 layers x 2 (K, V) x 2 heads x 128 x 1,000 tokens
    assert elements(write(arch, **headed()), 1000) == (4 * 2 * 2 * 128 * 1000, 0)


def test_width_follows_from_embedding_and_heads_where_absent(write: Write) -> None:
    path = write("llama", **BASE, attention__head_count=8, attention__head_count_kv=8)
    # 1024 / 8 = 128 wide
    assert elements(path, 10) == (4 * 2 * 8 * 128 * 10, 0)


@pytest.mark.parametrize(
    ("arch", "full_layers"),
    [("gemma2", 6), ("gpt-oss", 6), ("cohere2", 3), ("gemma3", 2), ("phi3", 0)],
)
def test_windows_repeat_by_the_architectures_period(write: Write, arch: str, full_layers: int) -> None:
    path = write(arch, **{**headed(), "block_count": 12, "attention__sliding_window": 256})
    per_token = 2 * 2 * 128
    assert elements(path, 1000) == (per_token * (full_layers * 1000 + (12 - full_layers) * 256), 0)


def test_gemma2_without_the_key_has_llama_cpps_window(write: Write) -> None:
    path = write("gemma2", **{**headed(), "block_count": 2})
    # llama.cpp: n_swa = 4096 by default, every other layer.
    assert elements(path, 6000) == (2 * 2 * 128 * (6000 + 4096), 0)


def test_gemma3_without_a_window_is_refused(write: Write) -> None:
    with pytest.raises(KvcalcError, match="sliding_window is missing"):
        load_gguf(str(write("gemma3", **headed())))


def test_a_pattern_in_the_file_overrules_the_period(write: Write) -> None:
    path = write(
        "gemma3", **headed(), attention__sliding_window=256,
        attention__sliding_window_pattern=[True, False, False, False],
    )  # fmt: skip
    assert elements(path, 1000) == (2 * 2 * 128 * (3 * 1000 + 256), 0)


def test_deepseek2_is_a_latent_in_old_and_new_files(write: Write) -> None:
    common = {**BASE, "block_count": 61, "attention__head_count": 128, "attention__kv_lora_rank": 512,
              "attention__q_lora_rank": 1536, "rope__dimension_count": 64}  # fmt: skip
    new = write(
        "deepseek2",
        **common,
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
    )
    # DeepSeek-V3: 61 x (512 + 64) = 35,136 elements per token (arXiv 2412.19437, section 4.2)
    assert elements(new, 1) == (35_136, 0)
    assert load_gguf(str(new)).raw["attention"]["mla"]["qk_nope_head_dim"] == 128
    old = write("deepseek2", **common, attention__head_count_kv=128, attention__key_length=192,
                attention__value_length=128)  # fmt: skip
    assert elements(old, 1) == (35_136, 0)


def test_prediction_layers_are_not_decoder_layers(write: Write) -> None:
    found = load_gguf(str(write("glm4moe", **headed(), nextn_predict_layers=1)))
    assert found.raw["layers"] == [{"count": 3, "attention": "full"}]
    assert found.raw["mtp_layers"] == [{"attention": "full"}]


def test_mamba_keeps_states_only(write: Write) -> None:
    path = write("mamba", **BASE, attention__head_count=0, feed_forward_length=0, ssm__conv_kernel=4,
                 ssm__inner_size=2048, ssm__state_size=16, ssm__time_step_rank=64)  # fmt: skip
    # 4 layers x (2048 x 3 x 2 B + 2048 x 16 x 4 B)
    assert elements(path, 1000) == (0, 4 * (2048 * 3 * 2 + 2048 * 16 * 4))


def test_jamba_has_attention_where_there_are_kv_heads(write: Write) -> None:
    path = write("jamba", **{**headed(), "attention__head_count_kv": [0, 2, 0, 0]}, ssm__conv_kernel=4,
                 ssm__inner_size=2048, ssm__state_size=16, ssm__time_step_rank=64)  # fmt: skip
    assert elements(path, 100) == (2 * 2 * 128 * 100, 3 * (2048 * 3 * 2 + 2048 * 16 * 4))


def test_nemotron_h_has_blocks_without_a_cache(write: Write) -> None:
    path = write(
        "nemotron_h", **{**headed(), "attention__head_count_kv": [0, 0, 2, 0]}, feed_forward_length=[0, 4096, 0, 4096],
        ssm__conv_kernel=4, ssm__inner_size=1024, ssm__state_size=128, ssm__time_step_rank=16, ssm__group_count=8,
    )  # fmt: skip
    # one Mamba-2 block: (1024 + 2 x 8 x 128) x 3 in bf16, 1024 x 128 in fp32; one attention block; two without
    assert elements(path, 100) == (2 * 2 * 128 * 100, (1024 + 2048) * 3 * 2 + 1024 * 128 * 4)


def test_granite_hybrid_and_falcon_h1(write: Write) -> None:
    ssm = {"ssm__conv_kernel": 4, "ssm__inner_size": 1024, "ssm__state_size": 128, "ssm__time_step_rank": 16,
           "ssm__group_count": 1}  # fmt: skip
    state = (1024 + 256) * 3 * 2 + 1024 * 128 * 4
    granite = write("granitehybrid", **{**headed(), "attention__head_count_kv": [0, 0, 2, 0]}, **ssm)
    assert elements(granite, 100) == (2 * 2 * 128 * 100, 3 * state)
    falcon = write("falcon-h1", **headed(), **ssm)
    assert elements(falcon, 100) == (4 * 2 * 2 * 128 * 100, 4 * state)


def test_lfm2_keeps_short_convolutions(write: Write) -> None:
    path = write("lfm2", **{**headed(), "attention__head_count_kv": [0, 0, 2, 0]}, shortconv__l_cache=3)
    assert elements(path, 100) == (2 * 2 * 128 * 100, 3 * 1024 * 2 * 2)


def test_qwen3next_is_a_delta_net(write: Write) -> None:
    path = write("qwen3next", **headed(kv=2, width=256), ssm__conv_kernel=4, ssm__inner_size=4096,
                 ssm__state_size=128, ssm__time_step_rank=32, ssm__group_count=16)  # fmt: skip
    # conv (2 x 16 x 128 + 32 x 128) x 3 in bf16, state 32 x 128 x 128 in fp32, in three of four layers
    assert elements(path, 100) == (2 * 2 * 256 * 100, 3 * ((4096 + 4096) * 3 * 2 + 32 * 128 * 128 * 4))


def test_printed_caches_of_llama_cpp_are_met(write: Write) -> None:
    """DeepSeek-V3-0324, q8_0, 2,048 tokens: `c^KV (q8_0): 72.91 MiB` (ikawrakow/ik_llama.cpp issue 296)."""
    path = write(
        "deepseek2", **{**BASE, "block_count": 61}, attention__head_count=128, attention__head_count_kv=128,
        attention__kv_lora_rank=512, attention__key_length=192, attention__value_length=128, rope__dimension_count=64,
    )  # fmt: skip
    spec = spec_of(load_gguf(str(path)))
    workload = Workload(batch_size=1, seq_len=2048, formats=parse_kv_cache_dtype("q8_0"))
    assert round(footprint(spec.layout(), workload).kv_bytes / 2**20, 2) == 72.91


@pytest.mark.parametrize(
    ("arch", "keys", "message"),
    [
        ("llama", {**BASE}, "attention.head_count is missing"),
        ("llama", headed(attention__indexer_size=5), "attention.indexer_size may concern the cache"),
        ("llama", headed(attention__sliding_window=64), "a sliding window is not known"),
        ("llama", headed(attention__key_length=0), "must be at least 1"),
        ("rwkv7", headed(), "is not known here"),
        ("gemma3", {**headed(), "attention__head_count_kv": [1, 2, 1, 1], "attention__sliding_window": 4}, "shape"),
    ],
)
def test_what_is_not_understood_is_refused(write: Write, arch: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(KvcalcError, match=message):
        load_gguf(str(write(arch, **keys)))


def header(*pairs: bytes, count: int | None = None, version: int = 3) -> bytes:
    keys = len(pairs) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", version, 0, keys) + b"".join(pairs)


def pair(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


HOSTILE = {
    "empty": b"",
    "other": b"PK\x03\x04 nothing of ours",
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 1),
    "countless keys": header(count=2**60),
    "endless string": header(pair("a", 8, struct.pack("<Q", 2**63))),
    "endless array": header(pair("a", 9, struct.pack("<IQ", 4, 2**60))),
    "array of arrays": header(pair("a", 9, struct.pack("<IQ", 9, 1))),
    "unknown type": header(pair("a", 99, b"")),
    "twice": header(pair("a", 0, b"\x01"), pair("a", 0, b"\x01")),
    "cut": header(pair("a", 10, b"\x01")),
    "no architecture": header(),
    "architecture is a number": header(pair("general.architecture", 0, b"\x01")),
    "long key": header(struct.pack("<Q", 2**17) + b"k" * 2**17),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_in_a_problem(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(KvcalcError) as caught:
        load_gguf(str(path))
    assert caught.value.problems[0].path == str(path)


def test_texts_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    """40 texts of 1 MiB: what comes beyond 32 MiB is skipped over, and what is no text still read."""
    path = tmp_path / "x.gguf"
    texts = [pair(f"k{n:02}", 8, struct.pack("<Q", 2**20) + b"x" * 2**20) for n in range(40)]
    path.write_bytes(header(*texts, pair("last", 4, struct.pack("<I", 7))))
    found = read_header(str(path))
    assert [found[f"k{n:02}"] is None for n in range(40)] == [False] * 31 + [True] * 9
    assert found["last"] == 7


@pytest.mark.parametrize(
    "arrays",
    [
        [pair(f"k{n:03}", 9, struct.pack("<IQ", 0, 20_000) + bytes(20_000)) for n in range(101)],
        [pair("k", 9, struct.pack("<IQ", 8, 2_000_001) + bytes(16))],
    ],
    ids=["numbers", "words"],
)
def test_entries_of_all_arrays_together_are_bounded(arrays: list[bytes], tmp_path: Path) -> None:
    """2,000 arrays of 20,000 numbers took 1.5 GiB, ten million words 17 s."""
    path = tmp_path / "x.gguf"
    path.write_bytes(header(*arrays))
    with pytest.raises(KvcalcError, match="entries of arrays"):
        read_header(str(path))
