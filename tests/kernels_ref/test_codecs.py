"""Each storage format: exactly kvcalc's bytes in real storages, and no more error than its rounding explains."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_ref.bits import pack_bits, unpack_bits
from kernels_ref.byte_proof import check_kind, storage_bytes, stored_formats
from kernels_ref.codecs_block import E2M1, IQ4_NL
from kernels_ref.formats import codec_for
from kernels_ref.samples import SAMPLES
from kvcalc.formats import Role


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_stream_in_every_format_takes_the_predicted_bytes(name: str, seed: int) -> None:
    checks = list(check_kind(SAMPLES[name], 130, torch.device("cpu"), torch.Generator().manual_seed(seed)))
    assert [c for c in checks if c.storage_bytes != c.predicted_bytes] == []
    assert [c for c in checks if c.largest_error > c.explained] == []
    assert checks or name == "shared"


# Bytes by hand, from the formats' own documents: rows x heads x width -> bytes.
@pytest.mark.parametrize(
    ("name", "role", "shape", "expected"),
    [
        ("q8_0", Role.KEY, (1, 1, 128), 4 * 34),  # ggml block_q8_0: 2 + 32
        ("q5_1", Role.KEY, (1, 1, 128), 4 * 24),  # 2 + 2 + 4 + 16
        ("q5_0", Role.KEY, (1, 1, 128), 4 * 22),
        ("q4_1", Role.KEY, (1, 1, 128), 4 * 20),
        ("q4_0", Role.KEY, (1, 1, 128), 4 * 18),
        ("iq4_nl", Role.KEY, (1, 1, 128), 4 * 18),
        ("fp8_ds_mla", Role.LATENT, (1, 1, 576), 656),  # FlashMLA: 512 + 16 + 128
        ("fp8_ds_mla", Role.LATENT, (1, 1, 512), 584),  # vLLM, DeepSeek-V4: 448 + 128 + 7 + 1
        ("fp8_ds_mla", Role.INDEX, (1, 1, 128), 132),  # 128 + 4
        ("nvfp4", Role.KEY, (1, 1, 128), 64 + 8),
        ("mxfp4", Role.KEY, (1, 1, 128), 64 + 4),
        ("int8_per_token_head", Role.KEY, (10, 8, 128), 10 * 8 * 132),
        ("int4-g32-zp", Role.VALUE, (10, 8, 128), 10 * 8 * (64 + 4 * 4)),
        # KIVI of 300 tokens: 256 key rows in 2 bits + 4 B per 32 tokens and channel, 44 rows in fp16.
        ("kivi2", Role.KEY, (300, 1, 128), 256 * 32 + 8 * 128 * 4 + 44 * 256),
        ("kivi2", Role.VALUE, (300, 1, 128), 172 * 32 + 172 * 4 * 4 + 128 * 256),
    ],
)
def test_bytes_by_hand(name: str, role: Role, shape: tuple[int, int, int], expected: int) -> None:
    codec = codec_for(name, role, shape[2])
    assert codec is not None
    assert storage_bytes(codec.pack(torch.randn(shape)).values()) == expected


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(1, 8), data=st.data())
def test_codes_come_back_from_the_fewest_bytes(bits: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=70))
    packed = pack_bits(torch.tensor(codes), bits)
    assert packed.numel() == -(-len(codes) * bits // 8)
    assert unpack_bits(packed, bits, len(codes)).tolist() == codes


def test_bits_are_laid_lowest_first() -> None:
    # 3-bit codes 1, 2, 7: 001 | 010 << 3 | 111 << 6 = 0b1_1101_0001.
    assert pack_bits(torch.tensor([1, 2, 7]), 3).tolist() == [0b11010001, 0b1]


@pytest.mark.parametrize("name", ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
def test_ggml_blocks_are_read_the_same_by_the_gguf_package(name: str) -> None:
    quants = pytest.importorskip("gguf.quants", reason="pip install 'kvcalc[gguf]'")
    gguf = pytest.importorskip("gguf")
    x = torch.randn(5, 2, 96, generator=torch.Generator().manual_seed(3))
    codec = codec_for(name, Role.KEY, 96)
    assert codec is not None
    parts = codec.pack(x)
    theirs = quants.dequantize(parts["blocks"].reshape(10, -1).numpy(), gguf.GGMLQuantizationType[name.upper()])
    ours = codec.unpack(parts, (5, 2, 96))
    assert torch.allclose(torch.from_numpy(theirs.copy()).view(5, 2, 96), ours, rtol=1e-6, atol=1e-7)


def test_values_a_format_can_hold_come_back_unchanged() -> None:
    e2m1 = torch.tensor([*E2M1, *(-value for value in E2M1)]).view(1, 1, 16)
    nvfp4 = codec_for("nvfp4", Role.KEY, 16)
    assert nvfp4 is not None
    assert torch.equal(nvfp4.unpack(nvfp4.pack(e2m1), (1, 1, 16)), e2m1)
    table = torch.tensor([*IQ4_NL, *IQ4_NL], dtype=torch.float32).view(1, 1, 32)
    iq4 = codec_for("iq4_nl", Role.KEY, 32)
    assert iq4 is not None
    assert torch.equal(iq4.unpack(iq4.pack(table), (1, 1, 32)), table)


@pytest.mark.parametrize("name", ["q4_0", "int4-g32-zp", "nvfp4", "mxfp4", "fp8_per_token_head", "int8_per_token_head"])
def test_zeros_come_back_as_zeros(name: str) -> None:
    codec = codec_for(name, Role.KEY, 64)
    assert codec is not None
    zeros = torch.zeros(3, 2, 64)
    assert torch.equal(codec.unpack(codec.pack(zeros), (3, 2, 64)), zeros)


def test_formats_of_a_single_engine_are_not_claimed() -> None:
    names = {name for kind in SAMPLES.values() for stream in kind.streams() for name in stored_formats(stream)}
    assert "turboquant_k8v4" not in names
    assert {"q8_0", "kivi2", "nvfp4", "fp8_ds_mla", "int4-g64-zp"} <= names
