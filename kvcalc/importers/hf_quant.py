"""What a config's `quantization_config` says of weights (never of the KV cache), as a spec's `weight_dtypes`.

The result maps `default` (matrices) and components to weight formats; `None` means 16-bit weights throughout.

Lists of modules that stay in 16 bits name single matrices of single layers. A component of which such a list
names any part counts as unquantised as a whole, so that bytes are not too small; but where the list names a tenth
of the layers or fewer (often the first and the last), it is passed over. Routers, norms, the embedding and the head
are 16-bit anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kvcalc.importers.config import Config
from kvcalc.problems import KvcalcError
from kvcalc.weights.formats import weight_format

WORDS: tuple[tuple[str, str | None], ...] = (
    ("router", None), ("norm", None), ("embed", None), ("lm_head", None), ("vision", None), ("visual", None),
    ("mtp", None), ("shared_expert_gate", None), ("e_score", None), ("indexer", None),
    ("shared_expert", "shared_experts"), ("experts", "routed_experts"),
    ("linear_attn", "state"), ("mamba", "state"), ("mixer", "state"), ("conv", "state"),
    ("attn", "attention"), ("attention", "attention"),
)  # fmt: skip
"""The first word found in a module's name says which component it is part of (None: one that stays 16-bit)."""


def weight_dtypes(*parts: Config | None, layers: int) -> dict[str, str] | None:
    """Formats by component, read from the first of these configs that has a `quantization_config`.

    Raises:
        KvcalcError: a method, width or group that kvcalc has no weight format for.
    """
    for part in parts:
        quant = part.section("quantization_config") if part else None
        if part and quant:
            return _read(part, quant, layers)
    return None


def _read(config: Config, quant: Config, layers: int) -> dict[str, str]:
    method = quant.text("quant_method") or ("modelopt" if quant.has("quant_algo") else "")
    if method == "mxfp4":
        return {"default": "bf16", "routed_experts": "mxfp4"}
    readers: Mapping[str, Callable[[Config], str]] = {
        "fp8": _fp8,
        "fbgemm_fp8": lambda quant: "fp8_fbgemm",
        "modelopt": _modelopt,
        "modelopt_fp4": _modelopt,
        "compressed-tensors": _compressed,
        "awq": lambda q: _grouped(q, "awq_"),
        "gptq": lambda q: _grouped(q, "gptq_"),
        "bitsandbytes": lambda q: "bnb_nf4" if q.flag("load_in_4bit", "_load_in_4bit") else "bnb_int8",
    }
    reader = readers.get(method)
    if reader is None:
        known = ", ".join(sorted([*readers, "mxfp4"]))
        config.refuse("quantization_config", f"quant_method {method!r} is not known", f"known: {known}")
    if quant.has("quantized_layers"):
        return _mixed(quant, layers)
    name = reader(quant)
    entries = {"default": _known(quant, name)}
    if config.text("expert_dtype") == "fp4":  # DeepSeek-V4: fp8 blocks, but for the experts
        entries["routed_experts"] = "mxfp4"
    kept = _components(_names(quant), layers)
    return {**entries, **dict.fromkeys(kept, "bf16")}


def _known(quant: Config, name: str) -> str:
    try:
        return weight_format(name).name
    except KvcalcError:
        quant.refuse(None, f"kvcalc has no weight format {name}")


def _fp8(quant: Config) -> str:
    block = quant.sizes("weight_block_size")
    if block is None:
        return "fp8_static" if quant.text("activation_scheme") == "static" else "fp8"
    if block != [128, 128]:
        quant.refuse("weight_block_size", f"fp8 blocks of {block} are not known (only [128, 128])")
    return "fp8_block128"


def _modelopt(quant: Config) -> str:
    algorithm = quant.text("quant_algo") or ""
    formats = {"FP8": "fp8_static", "NVFP4": "nvfp4", "FP8_PB_WO": "fp8_block128", "W4A16_AWQ": "awq_int4_g128"}
    if algorithm not in formats:
        quant.refuse("quant_algo", f"quant_algo {algorithm!r} is not known", f"known: {', '.join(formats)}")
    return formats[algorithm]


def _compressed(quant: Config) -> str:
    """The `weights` of the first group (compressed-tensors: num_bits, type, strategy, group_size)."""
    groups = quant.section("config_groups")
    first = next((name for name in groups.data), None) if groups else None
    group = groups.section(first) if groups and first else None
    weights = group.section("weights") if group else None
    if weights is None:
        quant.refuse("config_groups", "compressed-tensors: no group says how weights are stored")
    bits, kind = weights.size("num_bits"), weights.text("type") or "int"
    strategy, size = weights.text("strategy"), weights.optional("group_size")
    if kind == "float" and bits == 4:
        names = {16: "nvfp4", 32: "mxfp4"}
        if size not in names:
            weights.refuse("group_size", f"4-bit floats in groups of {size} are not known (only 16 and 32)")
        return names[size]
    if strategy == "block":
        block = weights.sizes("block_structure")
        if block not in (None, [128, 128]) or (kind, bits) != ("float", 8):
            weights.refuse(
                "block_structure", f"{bits}-bit {kind} blocks of {block} are not known (only fp8, [128, 128])"
            )
        return "fp8_block128"
    if kind == "float" and bits == 8:
        return "fp8_channel" if strategy == "channel" else "fp8"
    return f"int{bits}_g{size}" if size else f"int{bits}_channel"


def _grouped(quant: Config, prefix: str) -> str:
    bits = quant.size("bits", "w_bit")
    return f"{prefix}int{bits}_g{quant.size('group_size', 'q_group_size')}"


def _mixed(quant: Config, layers: int) -> dict[str, str]:
    """ModelOpt's MIXED_PRECISION: a format for each module listed, fp8 blocks for the others of an fp8 checkpoint."""
    listed = quant.raw("quantized_layers")
    if not isinstance(listed, Mapping):
        quant.refuse("quantized_layers", "quantized_layers: expected a mapping")
    entries = {"default": "fp8_block128" if quant.text("quant_method") == "fp8" else "bf16"}
    named: dict[str, list[str]] = {}
    for name, how in listed.items():
        algorithm = how.get("quant_algo") if isinstance(how, Mapping) else None
        chosen = {"NVFP4": "nvfp4", "FP8": "fp8_static"}.get(str(algorithm))
        if chosen is None:
            quant.refuse("quantized_layers", f"quant_algo {algorithm!r} is not known")
        named.setdefault(chosen, []).append(str(name))
    return entries | {part: chosen for chosen, names in named.items() for part in _components(names, layers)}


def _names(quant: Config) -> list[str]:
    """Modules that stay in 16 bits."""
    return [
        name
        for key in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "llm_int8_skip_modules")
        for name in quant.words(key) or []
    ]


def _components(names: Iterable[str], layers: int) -> list[str]:
    """Components of which these modules cover more than a tenth of the layers, in the order of their first mention."""
    found: dict[str, set[str]] = {}
    for name in names:
        if name.rstrip("*").rsplit(".", 1)[-1] in ("gate", "head", "re:.*gate"):
            continue
        part = next((part for word, part in WORDS if word in name), "dense_ffn" if ".mlp" in name else None)
        if part:
            found.setdefault(part, set()).add(next((word for word in name.split(".") if word.isdecimal()), "all"))
    return [part for part, where in found.items() if "all" in where or 10 * len(where) > layers]
