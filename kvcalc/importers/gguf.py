"""GGUF metadata -> the raw mapping of a spec. Only the cache: a GGUF header says little of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvcalc.importers.config import Config, LayerNames, Layout
from kvcalc.importers.gguf_header import read_header
from kvcalc.importers.hf_config import ImportedSpec, from_layout, spec_name
from kvcalc.importers.shapes import Heads, every, layout, predicted
from kvcalc.problems import KvcalcError, did_you_mean
from kvcalc.spec.document import unmarked

SOURCE = "llama.cpp src/llama-model.cpp (load_hparams)"
Reader = Callable[[Config], Layout]
HEAD_COUNT, HEAD_COUNT_KV = "attention.head_count", "attention.head_count_kv"
MTP = "nextn_predict_layers"
WINDOW, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
HARMLESS = (
    "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.max_alibi_bias",
    "attention.clamp_kqv", "attention.causal", "attention.scale", "attention.output_scale",
    "attention.temperature_length", "attention.temperature_scale", "attention.group_norm_epsilon",
    "attention.group_norm_groups", "attention.relative_buckets_count", "feed_forward_length",
    "embedding_length_per_layer_input", "ssm.dt_b_c_rms", "residual_scale", "embedding_scale",
    "leading_dense_block_count", "use_parallel_residual", "interleave_moe_layer_step", "tensor_data_layout",
    "rope.freq_base_swa", "rope.dimension_count_swa", "altup.active_idx", "altup.num_inputs",
    "activation_sparsity_scale", "hidden_act", "decoder_start_token_id", "attention.sink_bias",
)  # fmt: skip
"""Keys of an architecture that look like cache geometry and say nothing of it."""
HARMLESS_PREFIXES = ("rope.", "expert_", "tokenizer.", "general.", "swiglu_", "moe_", "vocab", "pooling")


def _layers(config: Config) -> int:
    """Blocks of the model: extra prediction layers are counted in block_count and left out here."""
    count = config.size("block_count")
    extra = config.optional(MTP, least=0) or 0
    if extra >= count:
        config.refuse(MTP, f"{extra} prediction layers of {count} blocks")
    return count - extra


def _per_layer(config: Config, key: str, count: int, default: list[int] | None = None) -> list[int]:
    """A number for all layers, or one for each (0: the layer has none)."""
    value = config.raw(key)
    if value is None:
        return default if default is not None else [config.size(key)] * count
    if isinstance(value, list):
        found = config.sizes(key) or []
        if len(found) < count:
            config.refuse(key, f"{key} has {len(found)} entries for {count} layers")
        return found[:count]
    return [config.optional(key, least=0) or 0] * count


def _heads(config: Config, count: int) -> list[Heads | None]:
    """Heads of each layer; None where it has no attention."""
    queries = _per_layer(config, HEAD_COUNT, count)
    kvs = _per_layer(config, HEAD_COUNT_KV, count, queries)
    most = max(queries)
    width = config.optional("attention.key_length")
    if width is None:
        hidden = config.size("embedding_length")
        if not most or hidden % most:
            config.refuse(HEAD_COUNT, f"embedding_length {hidden} is not a multiple of {most} heads")
        width = hidden // most
    value = config.optional("attention.value_length") or width
    return [
        Heads(heads=q, kv_heads=kv, head_dim=width, v_head_dim=value) if q and kv else None
        for q, kv in zip(queries, kvs, strict=True)
    ]


def _entry_names(shapes: list[Heads | None], attention: dict[str, Any]) -> list[str | None]:
    """Entries for the shapes that occur (one of them is plainly `full`), and the entry of every layer."""
    distinct = list(dict.fromkeys(shape for shape in shapes if shape is not None))
    names = {shape: "full" if len(distinct) == 1 else f"full_{shape.heads}_{shape.kv_heads}" for shape in distinct}
    attention.update({name: shape.entry() for shape, name in names.items()})
    return [names[shape] if shape is not None else None for shape in shapes]


def dense(config: Config) -> Layout:
    """Full attention; per-layer head counts where the file has them (no heads: no cache)."""
    if config.raw(WINDOW):
        config.refuse(WINDOW, f"{config.model_type}: a sliding window is not known in this architecture")
    count = _layers(config)
    attention: dict[str, Any] = {}
    layers = _entry_names(_heads(config, count), attention)
    return _layout(config, attention, layers, mtp=predicted(config, str(layers[-1]), MTP))


def windowed(*, period: int = 0, kind: str = "sliding", absent: int | None = None, optional: bool = False) -> Reader:
    """A window in all layers but one of `period` (0: in all), or as the file's own pattern says.

    Args:
        absent: the window that llama.cpp takes where the file names none.
        optional: whether the architecture also comes without windows.
    """

    def read(config: Config) -> Layout:
        count = _layers(config)
        shapes = _heads(config, count)
        shape = shapes[0]
        if shape is None or any(other != shape for other in shapes):
            config.refuse(HEAD_COUNT_KV, f"{config.model_type}: layers of different shape are not known here")
        size = config.optional(WINDOW, least=0)
        if size is None and absent is not None:
            size = int(config.assume(WINDOW, absent, f"default in {SOURCE}"))
        elif size is None and not optional:
            config.missing(WINDOW)
        attention: dict[str, Any] = {"full": shape.entry()}
        if not size:
            config.harmless(PATTERN)
            return _layout(config, attention, ["full"] * count)
        key = "sliding_window" if kind == "sliding" else "attention_chunk_size"
        attention[kind] = shape.entry(kind, **{key: size})
        layers: list[Any] = _pattern(config, count, period, kind)
        shared = config.optional("attention.shared_kv_layers", least=0) or 0
        for index in range(count - shared, count):
            name = str(layers[index])
            attention[f"shared_{name}"] = {"kind": "shared", "reads": name, "num_attention_heads": shape.heads}
            layers[index] = f"shared_{name}"
        return _layout(config, attention, layers)

    return read


def _pattern(config: Config, count: int, period: int, kind: str) -> list[str]:
    stated = config.raw(PATTERN)
    if isinstance(stated, list):
        if len(stated) < count or any(not isinstance(word, (bool, int)) for word in stated):
            config.refuse(PATTERN, f"expected a switch for each of {count} layers")
        return [kind if word else "full" for word in stated[:count]]
    if stated is not None:
        period = config.size(PATTERN)
    return every(period, count, last="full", others=kind) if period else [kind] * count


def mla(config: Config) -> Layout:
    """DeepSeek-2 and MiniCPM3: the latent. `key_length_mla` is the width of a head's key where the file is new."""
    count = _layers(config)
    rank = config.optional("attention.kv_lora_rank")
    if rank is None:
        return dense(config)
    queries = set(_per_layer(config, HEAD_COUNT, count))
    if len(queries) != 1:
        config.refuse(HEAD_COUNT, "layers of different shape are not known in MLA")
    rope = config.size("rope.dimension_count", least=0)
    new = config.optional("attention.key_length_mla")
    key = new or config.size("attention.key_length")
    value = config.optional("attention.value_length_mla") or config.size("attention.value_length")
    config.harmless(HEAD_COUNT_KV, "attention.key_length", "attention.value_length")
    if key <= rope:
        config.refuse("rope.dimension_count", f"rotary width {rope} does not fit into a key of {key}")
    entry: dict[str, Any] = {
        "kind": "mla", "num_attention_heads": queries.pop(), "kv_lora_rank": rank, "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope, "v_head_dim": value,
    }  # fmt: skip
    q_rank = config.optional("attention.q_lora_rank", least=0)
    if q_rank:
        entry["q_lora_rank"] = q_rank
    comments = {} if new else {"mla": "an older file: llama.cpp expands its cache to all heads"}
    return _layout(config, {"mla": entry}, ["mla"] * count, mtp=predicted(config, "mla", MTP), comments=comments)


def _mamba1(config: Config) -> dict[str, Any]:
    return {
        "kind": "mamba", "intermediate_size": config.size("ssm.inner_size"),
        "ssm_state_size": config.size("ssm.state_size"), "conv_kernel": config.size("ssm.conv_kernel"),
        "time_step_rank": config.size("ssm.time_step_rank"),
    }  # fmt: skip


def _mamba2(config: Config) -> dict[str, Any]:
    heads, inner = config.size("ssm.time_step_rank"), config.size("ssm.inner_size")
    if inner % heads:
        config.refuse("ssm.inner_size", f"{inner} channels cannot be split into {heads} heads")
    return {
        "kind": "mamba2", "mamba_num_heads": heads, "mamba_head_dim": inner // heads,
        "ssm_state_size": config.size("ssm.state_size"), "n_groups": config.size("ssm.group_count"),
        "conv_kernel": config.size("ssm.conv_kernel"),
    }  # fmt: skip


def _short_conv(config: Config) -> dict[str, Any]:
    return {
        "kind": "short_conv", "conv_dim": config.size("embedding_length"),
        "conv_L_cache": config.size("shortconv.l_cache"),
    }  # fmt: skip


def recurrent(state: Callable[[Config], dict[str, Any]]) -> Reader:
    """No attention at all."""

    def read(config: Config) -> Layout:
        config.harmless(HEAD_COUNT, HEAD_COUNT_KV, "attention.key_length", "attention.value_length")
        return _layout(config, {"state": state(config)}, ["state"] * _layers(config))

    return read


def hybrid(state: Callable[[Config], dict[str, Any]], *, idle_with_ffn: bool = False, both: bool = False) -> Reader:
    """A state where `head_count_kv` is 0, attention elsewhere.

    Args:
        idle_with_ffn: whether layers with a feed-forward width and no KV heads hold nothing (Nemotron-H).
        both: whether every layer holds both (Falcon-H1).
    """

    def read(config: Config) -> Layout:
        count = _layers(config)
        attention: dict[str, Any] = {}
        names = _entry_names(_heads(config, count), attention)
        attention["state"] = state(config)
        widths = _per_layer(config, "feed_forward_length", count, [0] * count)
        layers: list[Any] = [
            name or (None if idle_with_ffn and width else "state") for name, width in zip(names, widths, strict=True)
        ]
        if both:
            layers = [(name, "state") for name in names if name is not None]
            if len(layers) != count:
                config.refuse(HEAD_COUNT_KV, f"{config.model_type}: a layer without attention is not known here")
        return _layout(config, attention, layers)

    return read


def delta_net(config: Config) -> Layout:
    """Qwen3-Next: gated delta net, with full attention in every fourth layer (or as the file says)."""
    count = _layers(config)
    shapes = _heads(config, count)
    interval = config.optional("full_attention_interval") or int(
        config.assume("full_attention_interval", 4, f"fixed in {SOURCE}")
    )
    shape = shapes[interval - 1] if interval <= count else shapes[-1]
    if shape is None:
        config.refuse(HEAD_COUNT_KV, "a full-attention layer without KV heads")
    heads, inner = config.size("ssm.time_step_rank"), config.size("ssm.inner_size")
    if inner % heads:
        config.refuse("ssm.inner_size", f"{inner} channels cannot be split into {heads} value heads")
    linear = {
        "kind": "gated_delta_net", "linear_num_key_heads": config.size("ssm.group_count"),
        "linear_num_value_heads": heads, "linear_key_head_dim": config.size("ssm.state_size"),
        "linear_value_head_dim": inner // heads, "linear_conv_kernel_dim": config.size("ssm.conv_kernel"),
    }  # fmt: skip
    layers = every(interval, count, last="full", others="linear")
    return _layout(config, {"full": shape.entry(), "linear": linear}, layers, mtp=predicted(config, "full", MTP))


def _layout(
    config: Config, attention: Mapping[str, Any], layers: LayerNames, *, mtp: LayerNames = (),
    comments: Mapping[str, str] | None = None,
) -> Layout:  # fmt: skip
    return layout(
        config, attention, layers, mtp=mtp, comments=comments,
        max_position_embeddings=config.optional("context_length"),
    )  # fmt: skip


ARCHITECTURES: Mapping[str, Reader] = {
    **dict.fromkeys(
        (
            "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bloom", "chatglm", "codeshell",
            "command-r", "dbrx", "deci", "deepseek", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "falcon", "gemma",
            "glm4", "glm4moe", "gpt2", "gptj", "gptneox", "granite", "granitemoe", "grok", "hunyuan-dense",
            "hunyuan-moe", "internlm2", "jais", "llama", "minicpm", "minimax-m2", "mpt", "nemotron", "olmo", "olmoe",
            "openelm", "orion", "phi2", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl",
            "qwen3vlmoe", "refact", "seed_oss", "smollm3", "stablelm", "starcoder", "starcoder2", "xverse",
        ),
        dense,
    ),
    "cohere2": windowed(period=4),
    "deepseek2": mla,
    "exaone4": windowed(period=4, optional=True),
    "falcon-h1": hybrid(_mamba2, both=True),
    "gemma2": windowed(period=2, absent=4096),
    "gemma3": windowed(period=6),
    "gemma3n": windowed(period=5),
    "gpt-oss": windowed(period=2),
    "granitehybrid": hybrid(_mamba2),
    "jamba": hybrid(_mamba1),
    "lfm2": hybrid(_short_conv),
    "lfm2moe": hybrid(_short_conv),
    "llama4": windowed(period=4, kind="chunked", absent=8192),
    "mamba": recurrent(_mamba1),
    "mamba2": recurrent(_mamba2),
    "minicpm3": mla,
    "nemotron_h": hybrid(_mamba2, idle_with_ffn=True),
    "nemotron_h_moe": hybrid(_mamba2, idle_with_ffn=True),
    "olmo2": windowed(period=4, optional=True),
    "phi3": windowed(optional=True),
    "phimoe": windowed(optional=True),
    "qwen3next": delta_net,
}  # fmt: skip
"""`general.architecture` -> how its metadata becomes layers."""


def load_gguf(path: str) -> ImportedSpec:
    """The spec that the header of a GGUF file describes.

    Raises:
        KvcalcError: not a GGUF file (KV804), an unknown architecture (KV802), keys not understood (KV803).
    """
    return read_metadata(read_header(path), path)


def read_metadata(metadata: Mapping[str, Any], path: str) -> ImportedSpec:
    """As `load_gguf`, from the metadata."""
    arch = metadata.get("general.architecture")
    name = arch if isinstance(arch, str) else ""
    prefix = f"{name}."
    data = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    document = unmarked(path, data)
    config = Config(document=document, data=data, model_type=name)
    reader = ARCHITECTURES.get(name)
    if reader is None:
        near = did_you_mean(name, ARCHITECTURES) if name else None
        known = near or "write a spec by hand (`kvcalc schema`, and the shipped specs as examples)"
        message = f"general.architecture {name[:60]!r} is not known here" if name else "general.architecture is missing"
        raise KvcalcError(document.problem("KV802", (), f"GGUF: {message}", help=known))
    found = reader(config)
    config.harmless(*HARMLESS, "block_count", "context_length", "embedding_length")
    odd = [
        key for key, value in data.items()
        if value is not None and key not in config.used and not key.startswith(HARMLESS_PREFIXES)
    ]  # fmt: skip
    if odd:
        message = f"GGUF {name}: {', '.join(sorted(odd)[:20])} may concern the cache, and is not understood here"
        raise KvcalcError(document.problem("KV803", (), message, help="write a spec by hand"))
    return from_layout(
        config, found, name=spec_name(path), rule=SOURCE,
        fields={"hidden_size": data.get("embedding_length"), "vocab_size": data.get("vocab_size")},
    )  # fmt: skip
