"""The names a user gives to KV cache formats, and the format that each stream gets by them.

Adding a format is one row of the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from kvcalc.formats import CacheDtype, Format, ResidualFormat, Role, RowFormat, Segment
from kvcalc.problems import did_you_mean, usage_error

_VLLM = "vLLM 0.33.0"
_GGML = "ggml block_{} (llama.cpp ggml/src/ggml-common.h)"
_OCP = "OCP Microscaling Formats (MX) v1.0, table 1"
_PLAIN_SOURCE = "DeepSeek-V2 (arXiv 2405.04434) section 3.2.3: a cache of 6 bits per element on average"


def _plain(name: str, bits: int, summary: str, source: str = "IEEE 754 / bfloat16 width") -> CacheDtype:
    row = RowFormat(name=name, segments=(Segment(bits=bits),), summary=summary, source=source)
    return CacheDtype(name=name, default=row, summary=summary, source=source)


def _per_token_head(bits: int, name: str) -> CacheDtype:
    summary = f"{bits}-bit elements, one fp32 scale per token and K or V head"
    source = f"{_VLLM} v1/attention/backends/triton_attn.py:308, mla_attention.py:1600"

    def row(scale_bits: int) -> RowFormat:
        segments = (Segment(bits=bits, group_bits=scale_bits),)
        return RowFormat(name=name, segments=segments, summary=summary, source=source)

    # An MLA row carries two scales: one for its latent part, one for its rotary part.
    variants = ((Role.LATENT, None, row(64)),)
    return CacheDtype(name=name, default=row(32), summary=summary, source=source, variants=variants)


def _grouped(
    name: str, *, bits: int, group: int, group_bits: int, summary: str, source: str, whole_blocks: bool = False
) -> CacheDtype:
    row = RowFormat(
        name=name,
        segments=(Segment(bits=bits, group=group, group_bits=group_bits),),
        summary=summary,
        source=source,
        block=group if whole_blocks else 1,
    )
    return CacheDtype(name=name, default=row, summary=summary, source=source)


def _ggml(name: str, bits: int, group_bits: int) -> CacheDtype:
    size = (32 * bits + group_bits) // 8
    summary = f"GGML {name}: {size} B per block of 32 elements"
    source = _GGML.format(name)
    return _grouped(name, bits=bits, group=32, group_bits=group_bits, whole_blocks=True, summary=summary, source=source)


def _index_row() -> RowFormat:
    return RowFormat(
        name="fp8_ds_mla",
        segments=(Segment(bits=8, group=128, group_bits=32),),
        summary="132 B for 128 elements: fp8 + one fp32 scale per 128",
        source="vLLM 0.33.0 deepseek_v2.py:658,733",
    )


def _deepseek_fp8() -> CacheDtype:
    source = "FlashMLA docs/20250929-hopper-fp8-sparse-deep-dive.md; vLLM 0.33.0 mla_attention.py:1386"
    v3_row = RowFormat(
        name="fp8_ds_mla",
        segments=(Segment(width=512, bits=8, group=128, group_bits=32), Segment(width=64, bits=16)),
        summary="656 B: 512 fp8 + 4 fp32 scales + 64 bf16 rotary",
        source=source,
    )
    v4_row = RowFormat(
        name="fp8_ds_mla",
        segments=(Segment(width=448, bits=8, group=64, group_bits=8), Segment(width=64, bits=16)),
        pad_bits=8,
        summary="584 B: 448 fp8 + 7 one-byte scales + 1 pad + 64 bf16 rotary (DeepSeek-V4)",
        source="vLLM 0.33.0 models/deepseek_v4/attention.py:860-926",
    )
    return CacheDtype(
        name="fp8_ds_mla",
        default=None,
        summary="DeepSeek's fp8 rows: 656 B latent (584 B in V4), 132 B indexer key",
        source=source,
        variants=((Role.LATENT, 576, v3_row), (Role.LATENT, 512, v4_row), (Role.INDEX, None, _index_row())),
    )


def _kivi(bits: int, group: int = 32, residual: int = 128) -> CacheDtype:
    name = f"kivi{bits}" if (group, residual) == (32, 128) else f"kivi{bits}-g{group}-r{residual}"
    key = ResidualFormat(
        name=name, bits_per_code=bits, group=group, residual=residual, along_tokens=True,
        summary=f"{bits}-bit keys per channel in groups of {group} tokens, full-precision tail of S mod {residual}",
    )  # fmt: skip
    value = ResidualFormat(
        name=name, bits_per_code=bits, group=group, residual=residual, along_tokens=False,
        summary=f"{bits}-bit values per token in groups of {group}, newest {residual} tokens in full precision",
    )  # fmt: skip
    return CacheDtype(
        name=name,
        default=None,
        summary=f"KIVI {bits}-bit: K per channel, V per token, groups of {group}, full-precision residual {residual}",
        source=key.source,
        variants=((Role.KEY, None, key), (Role.VALUE, None, value)),
    )


def _row(name: str, segments: tuple[Segment, ...], summary: str, source: str) -> RowFormat:
    return RowFormat(name=name, segments=segments, summary=summary, source=source)


def _two_sided(
    name: str, key: tuple[Segment, ...], value: tuple[Segment, ...], summary: str, source: str
) -> CacheDtype:
    """A format that stores K and V rows differently, and nothing else."""
    return CacheDtype(
        name=name,
        default=None,
        summary=summary,
        source=source,
        variants=(
            (Role.KEY, None, _row(name, key, summary, source)),
            (Role.VALUE, None, _row(name, value, summary, source)),
        ),
    )


def _turboquant(suffix: str, key_bits: int, value_bits: int) -> CacheDtype:
    """K: codes + fp16 norm (fp8 keys: codes alone); V: codes + fp16 scale and zero point."""
    key = Segment(bits=8) if key_bits == 8 else Segment(bits=key_bits, group_bits=16)
    return _two_sided(
        f"turboquant_{suffix}",
        (key,),
        (Segment(bits=value_bits, group_bits=32),),
        f"TurboQuant: {key_bits}-bit K, {value_bits}-bit V, norms and scales per token and head (vLLM only)",
        f"{_VLLM} model_executor/layers/quantization/turboquant/config.py:118-175",
    )


def _octave(suffix: str, value_bits: int, rope: int | None = None) -> CacheDtype:
    """K: 4 bits where it carries the rotary embedding, 3 elsewhere, an fp16 scale per 64; V: an fp16 scale per row.

    `rope` None: the rotary part is the whole head. The compact form has 3-bit K and one scale.
    """
    compact = suffix.endswith("compact")
    name = f"octave_{suffix}" if rope is None else f"octave_{suffix}-r{rope}"
    summary = f"Octave: 3/4-bit K, {value_bits}-bit V, fp16 scales (vLLM on ROCm only)"
    source = f"{_VLLM} v1/attention/backends/rocm_octave_attn.py:148-157"
    value = (Segment(bits=value_bits, group_bits=16),)
    if rope is None:
        key = (Segment(bits=3, group_bits=16),) if compact else (Segment(bits=4, group=64, group_bits=16),)
        return _two_sided(name, key, value, summary, source)
    keys = tuple(
        (Role.KEY, width, _row(name, _octave_key(rope, width), summary, source)) for width in range(rope, 513, 64)
    )
    return CacheDtype(
        name=name,
        default=None,
        summary=summary,
        source=source,
        variants=(*keys, (Role.VALUE, None, _row(name, value, summary, source))),
    )


def _octave_key(rope: int, width: int) -> tuple[Segment, ...]:
    wide = Segment(width=rope, bits=4, group=64, group_bits=16)
    rest = Segment(width=width - rope, bits=3, group=64, group_bits=16)
    return (wide, rest) if width > rope else (wide,)


def _nvfp4_deepseek() -> CacheDtype:
    source = f"{_VLLM} mla_attention.py:1386 (352 B); models/deepseek_v41/attention.py:516-531 (288 B, read only)"
    latent = Segment(width=512, bits=4, group=16, group_bits=8)
    v3_row = _row("nvfp4_ds_mla", (latent, Segment(width=64, bits=8)), "352 B: 512 fp4 + 32 scales + 64 fp8", source)
    v4_row = _row("nvfp4_ds_mla", (latent,), "288 B: 512 fp4 + 32 scales (DeepSeek-V4.1)", source)
    return CacheDtype(
        name="nvfp4_ds_mla",
        default=None,
        summary="DeepSeek's fp4 rows: 352 B latent, 132 B indexer key",
        source=source,
        variants=((Role.LATENT, 576, v3_row), (Role.LATENT, 512, v4_row), (Role.INDEX, None, _index_row())),
    )


def _mxfp8_deepseek() -> CacheDtype:
    source = f"{_VLLM} models/deepseek_v41/attention.py:1206-1235 (SM100 record)"
    row = _row("mxfp8_ds_mla", (Segment(bits=8, group=32, group_bits=8),), "528 B for 512: fp8, a scale per 32", source)
    return CacheDtype(
        name="mxfp8_ds_mla",
        default=None,
        summary="DeepSeek-V4.1's MXFP8 record: 528 B",
        source=source,
        variants=((Role.LATENT, 512, row), (Role.INDEX, None, _index_row())),
    )


def _lmdeploy(name: str, key_bits: int, value_bits: int, key_meta: int, value_meta: int) -> CacheDtype:
    source = "lmdeploy 0.18.0 pytorch/engine/cache_engine/schema.py:34-160"
    summary = f"{key_bits}-bit K, {value_bits}-bit V, scales per token and head in the model's dtype (LMDeploy only)"
    return _two_sided(
        name,
        (Segment(bits=key_bits, group_bits=key_meta),),
        (Segment(bits=value_bits, group_bits=value_meta),),
        summary,
        source,
    )


def _engine_dtypes() -> tuple[CacheDtype, ...]:
    """Formats that a single engine has."""
    return (
        _turboquant("k8v4", 8, 4),
        _turboquant("4bit_nc", 4, 4),
        _turboquant("k3v4_nc", 3, 4),
        _turboquant("3bit_nc", 3, 3),
        _grouped("ultraquant_4bit", bits=4, group=32, group_bits=8, whole_blocks=True,
                 summary="UltraQuant: 4-bit elements, one E8M0 scale per 32 (vLLM on ROCm only)",
                 source=f"{_VLLM} v1/attention/ops/ultraquant/format.py:195-202"),
        _octave("k3v4", 4),
        _octave("k3v3", 3),
        _octave("k3v3_compact", 3),
        _nvfp4_deepseek(),
        _mxfp8_deepseek(),
        _lmdeploy("lmdeploy_int8", 8, 8, 32, 32),
        _lmdeploy("lmdeploy_int4", 4, 4, 32, 32),
        _lmdeploy("lmdeploy_turbo_quant", 4, 2, 32, 16),
    )  # fmt: skip


def _table() -> dict[str, CacheDtype]:
    fp8_scale = "1 B per element; its per-tensor scale is a weight, not cache"
    dtypes = (
        _plain("fp32", 32, "4 B per element"),
        _plain("bf16", 16, "2 B per element"),
        _plain("fp16", 16, "2 B per element"),
        _plain("fp8", 8, fp8_scale, f"{_VLLM} v1/kv_cache_interface.py:574"),
        _per_token_head(8, "fp8_per_token_head"),
        _per_token_head(8, "int8_per_token_head"),
        _per_token_head(4, "int4_per_token_head"),
        _kivi(2),
        _kivi(4),
        _ggml("q8_0", 8, 16),
        _ggml("q5_1", 5, 32),
        _ggml("q5_0", 5, 16),
        _ggml("q4_1", 4, 32),
        _ggml("q4_0", 4, 16),
        _ggml("iq4_nl", 4, 16),
        _grouped("nvfp4", bits=4, group=16, group_bits=8, source="NVIDIA NVFP4; vLLM 0.33.0 flashinfer.py:558",
                 summary="4-bit elements, one fp8 scale per 16"),
        _grouped("mxfp8", bits=8, group=32, group_bits=8, source=_OCP,
                 summary="8-bit elements, one 8-bit scale per 32"),
        _grouped("mxfp4", bits=4, group=32, group_bits=8, source=_OCP,
                 summary="4-bit elements, one 8-bit scale per 32"),
        _deepseek_fp8(),
        *_engine_dtypes(),
    )  # fmt: skip
    return {dtype.name: dtype for dtype in dtypes}


CACHE_DTYPES: Mapping[str, CacheDtype] = _table()

ALIASES: Mapping[str, str] = {
    "auto": "bf16", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16", "float32": "fp32",
    "f32": "fp32", "float": "fp32", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8", "nvfp4_4over6": "nvfp4", "fp4_e2m1": "nvfp4",
}  # fmt: skip

PARAMETRIC: Mapping[str, str] = {
    "intN": "plain N-bit elements (N = 2 to 8), no metadata, as DeepSeek-V2 counts its 6-bit cache",
    "intN-gG": "N-bit elements in groups of G along the head, one fp16 scale per group",
    "intN-gG-zp": "the same with an fp16 zero point per group",
    "intN-gG-fp32[-zp]": "the same with fp32 (or bf16, fp8) scales",
    "octave_k3v4-rR": "Octave (also k3v3) where only R elements of a head carry the rotary embedding",
    "kiviN-gG-rR": "KIVI with N-bit codes, groups of G and a residual of R tokens",
}

_SCALE_BITS: Mapping[str, int] = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8}
_INT = re.compile(r"int([2-8])(?:-g([1-9]\d{0,5})(?:-(fp32|fp16|bf16|fp8))?(-zp)?)?", re.ASCII)
_OCTAVE = re.compile(r"octave_(k3v[34])-r(64|128|192|256)", re.ASCII)
_KIVI = re.compile(r"kivi([2-8])-g([1-9]\d{0,5})-r([1-9]\d{0,5})", re.ASCII)


def _parametric(name: str) -> CacheDtype | None:
    """`int4-g32-zp`, `kivi2-g32-r128`: names that carry figures."""
    if match := _INT.fullmatch(name):
        bits, group, scale, zero = match.groups()
        if group is None:
            return _plain(name, int(bits), f"plain {bits}-bit elements, no metadata", _PLAIN_SOURCE)
        scale = scale or "fp16"
        metadata = f"one {scale} scale" + (f" and {scale} zero point" if zero else "")
        return _grouped(
            name,
            bits=int(bits),
            group=int(group),
            group_bits=_SCALE_BITS[scale] * (2 if zero else 1),
            summary=f"{bits}-bit elements, {metadata} per {group}",
            source="group-wise quantisation along the head (as transformers' QuantizedCache, group 64)",
        )
    if match := _KIVI.fullmatch(name):
        bits_per_code, group_size, residual = (int(part) for part in match.groups())
        if residual % group_size:
            raise usage_error(f"{name}: the residual must be a multiple of the group", help="as in kivi2-g32-r128")
        return _kivi(bits_per_code, group_size, residual)
    if match := _OCTAVE.fullmatch(name):
        return _octave(match.group(1), int(match.group(1)[-1]), int(match.group(2)))
    return None


def find_cache_dtype(name: str) -> CacheDtype | None:
    """The cache dtype of this name, or None."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    return CACHE_DTYPES.get(key) or _parametric(key)


@lru_cache(maxsize=256)
def cache_dtype(name: str) -> CacheDtype:
    """The cache dtype of this name (`bf16`, `fp8`, `q8_0`, `int4-g32-zp`, `kivi2-g32-r128`, ...).

    Raises:
        KvcalcError: unknown name.
    """
    found = find_cache_dtype(name)
    if found is None:
        near = did_you_mean(name, [*CACHE_DTYPES, *ALIASES])
        raise usage_error(f"unknown KV cache format {name[:60]!r}", help=near or "see `kvcalc list formats`")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatChoice:
    """Which format each stream gets: one default, and exceptions by role."""

    default: CacheDtype
    by_role: Mapping[Role, CacheDtype] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As a user would write it: `bf16` or `bf16,index=fp8_ds_mla`."""
        return ",".join([self.default.name, *(f"{role}={dtype.name}" for role, dtype in sorted(self.by_role.items()))])

    def format(self, role: Role, width: int, own: str | None) -> Format:
        """The stream's format. `own` is the dtype that the model itself fixes (a state's), if any."""
        chosen = self.by_role.get(role) or (cache_dtype(own) if own else self.default)
        return chosen.format(role, width)


_ROLE_NAMES: Mapping[str, Role] = {**{role.value: role for role in Role}, "k": Role.KEY, "v": Role.VALUE}


def parse_kv_cache_dtype(text: str) -> FormatChoice:
    """`fp8`, or per stream: `key=q8_0,value=q4_0`, `fp8_ds_mla,state=bf16` (the bare name is the default).

    Raises:
        KvcalcError: unknown format or stream, or one given twice.
    """
    default: CacheDtype | None = None
    by_role: dict[Role, CacheDtype] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals:
            if default is not None:
                raise usage_error(f"two default formats in {text[:60]!r}", help="as in bf16,value=int4-g32")
            default = cache_dtype(name)
            continue
        role = _ROLE_NAMES.get(name.strip().lower())
        if role is None:
            raise usage_error(f"unknown stream {name[:40]!r}", help=f"streams: {', '.join(_ROLE_NAMES)}")
        if role in by_role:
            raise usage_error(f"the {role} stream is given twice in {text[:60]!r}")
        by_role[role] = cache_dtype(value)
    return FormatChoice(default=default or CACHE_DTYPES["bf16"], by_role=by_role)


BF16 = FormatChoice(default=CACHE_DTYPES["bf16"])
