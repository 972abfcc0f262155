"""Which codec stores what kvcalc calls a format."""

from __future__ import annotations

import re

import torch

from kernels_ref.codecs import E4M3, Codec, Grouped, Kivi, Plain, PlainInteger, ScaledFp8, Split
from kernels_ref.codecs_block import Ggml, SmallFloat
from kvcalc.formats import Role

_FP32 = Plain(dtype=torch.float32, bound=2.0**-24)
_BF16 = Plain(dtype=torch.bfloat16, bound=2.0**-8)
_FP16 = Plain(dtype=torch.float16, bound=2.0**-11 + 2.0**-20)
_FP8 = Plain(dtype=E4M3, bound=2.0**-4)

_BY_NAME: dict[str, Codec] = {
    "fp32": _FP32,
    "bf16": _BF16,
    "fp16": _FP16,
    "fp8": _FP8,
    "int8": PlainInteger(bits=8),
    "fp8_per_token_head": ScaledFp8(group=None),
    "int8_per_token_head": Grouped(bits=8, group=None, scale_dtype=torch.float32),
    "int4_per_token_head": Grouped(bits=4, group=None, scale_dtype=torch.float32),
    # Bounds: half the widest gap between codes over the largest magnitude, or what saturates at the far end.
    "q8_0": Ggml(kind="q8_0", bound=0.5 / 127 + 2.0**-10),
    "q5_1": Ggml(kind="q5_1", bound=1 / 31 + 2.0**-9),
    "q5_0": Ggml(kind="q5_0", bound=1 / 16 + 2.0**-10),
    "q4_1": Ggml(kind="q4_1", bound=1 / 15 + 2.0**-9),
    "q4_0": Ggml(kind="q4_0", bound=1 / 8 + 2.0**-10),
    "iq4_nl": Ggml(kind="iq4_nl", bound=14 / 127 + 2.0**-10),
    "nvfp4": SmallFloat(bits=4, group=16, power_of_two=False, bound=1 / 6 + 2.0**-4),
    "mxfp4": SmallFloat(bits=4, group=32, power_of_two=True, bound=1 / 4),
    "mxfp8": SmallFloat(bits=8, group=32, power_of_two=True, bound=1 / 8),
}

_POWER_OF_TWO_64 = SmallFloat(bits=8, group=64, power_of_two=True, bound=1 / 8)

_BY_ROLE: dict[tuple[str, Role, int | None], Codec] = {
    ("fp8_ds_mla", Role.LATENT, 576): Split(at=512, left=ScaledFp8(group=128), right=_BF16),
    ("fp8_ds_mla", Role.LATENT, 512): Split(at=448, left=_POWER_OF_TWO_64, right=_BF16, pad=1),
    ("fp8_ds_mla", Role.INDEX, 128): ScaledFp8(group=128),
}
_ROTARY = 64
"""Elements of a latent row that have a scale of their own in the per-token-head formats."""

_INTEGER = re.compile(r"int([2-8])(?:-g(\d+)(?:-(fp32|fp16|bf16|fp8))?(-zp)?)?", re.ASCII)
_KIVI = re.compile(r"kivi([2-8])(?:-g(\d+)-r(\d+))?", re.ASCII)
_SCALES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": E4M3}


def codec_for(name: str, role: Role, width: int) -> Codec | None:
    """The codec of kvcalc's format `name` for a stream of this role and width; None where there is none here."""
    found = _BY_ROLE.get((name, role, width)) or _BY_NAME.get(name)
    if found is not None:
        two_scales = role is Role.LATENT and name.endswith("_per_token_head")
        return Split(at=width - _ROTARY, left=found, right=found) if two_scales else found
    if match := _INTEGER.fullmatch(name):
        bits, group, scale, zero = match.groups()
        if group is None:
            return PlainInteger(bits=int(bits))
        return Grouped(bits=int(bits), group=int(group), scale_dtype=_SCALES[scale or "fp16"], zero=bool(zero))
    if (match := _KIVI.fullmatch(name)) and role in (Role.KEY, Role.VALUE):
        bits, group, residual = match.groups()
        return Kivi(
            bits=int(bits), along_tokens=role is Role.KEY, group=int(group or 32), residual=int(residual or 128)
        )
    return None
