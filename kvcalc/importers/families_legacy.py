"""Families with spellings of their own, all with full attention: GPT-2 to DBRX, Falcon, ChatGLM, Qwen-1, Step-3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.families_dense import full, no_window
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    MTP,
    STANDARD,
    Heads,
    Names,
    derived_head_dim,
    full_everywhere,
    head_dim,
    heads_of,
    layer_count,
    layout,
    query_heads,
)

MHA = replace(STANDARD, kv_heads=())
"""Families that know multi-head attention only."""
OLD_LLAMA = replace(STANDARD, multi_head=True)
"""Code of their own, in which absent KV heads mean multi-head attention."""
GPT2 = Names(
    layers=("n_layer", "num_hidden_layers"), heads=("n_head", "num_attention_heads"), kv_heads=(),
    head_dim=("head_dim",), hidden=("n_embd", "hidden_size"),
    context=("n_positions", "max_position_embeddings", "n_ctx"),
)  # fmt: skip
BLOOM = replace(GPT2, hidden=("hidden_size", "n_embed"), context=("seq_length", "max_position_embeddings"))
FALCON = replace(GPT2, hidden=("hidden_size", "n_embed"), context=("max_position_embeddings",))
DATABRICKS = Names(
    layers=("n_layers", "num_hidden_layers"), heads=("n_heads", "num_attention_heads"),
    hidden=("d_model", "hidden_size"), context=("max_seq_len", "max_position_embeddings"),
)  # fmt: skip
QWEN1 = replace(MHA, head_dim=("kv_channels",), context=("seq_length", "max_position_embeddings"))
CHATGLM = replace(
    STANDARD, layers=("num_layers", "num_hidden_layers"), head_dim=("kv_channels",),
    context=("seq_length", "max_sequence_length", "max_position_embeddings"),
)  # fmt: skip


def mqa_switch(config: Config) -> Layout:
    """GPT-BigCode (StarCoder): one KV head with `multi_query`, which the class takes where it is absent."""
    heads = query_heads(config, GPT2)
    kv = 1 if config.flag("multi_query", default=True) else heads
    if config.optional("num_key_value_heads") not in (None, kv):
        config.refuse(
            "num_key_value_heads", f"gpt_bigcode: num_key_value_heads contradicts multi_query, which says {kv}"
        )
    shape = Heads(heads=heads, kv_heads=kv, head_dim=derived_head_dim(config, heads, GPT2))
    return full_everywhere(config, shape, GPT2)


def falcon(config: Config) -> Layout:
    """Falcon: `num_kv_heads` counts only with `new_decoder_architecture`; else `multi_query` means one KV head."""
    heads = query_heads(config, FALCON)
    stated = config.optional("num_kv_heads", "n_head_kv")
    new = config.flag("new_decoder_architecture", default=None if stated is not None else False)
    if new:
        config.harmless("multi_query")
        kv = stated if stated is not None else int(config.assume("num_kv_heads", heads, "as many as query heads"))
    else:
        kv = 1 if config.flag("multi_query", default=True) else heads
    shape = Heads(heads=heads, kv_heads=kv, head_dim=derived_head_dim(config, heads, FALCON))
    comments = {"full": "transformers' own Falcon cache stores the KV heads expanded"} if kv not in (1, heads) else {}
    return full_everywhere(config, shape, FALCON, comments=comments)


def refined_web(config: Config) -> Layout:
    """The names Falcon had before transformers knew it: RefinedWebModel (7B) and RefinedWeb (40B, `n_head_kv`)."""
    heads = query_heads(config, FALCON)
    kv = config.optional("n_head_kv")
    if kv is None:
        kv = 1 if config.flag("multi_query", default=None) else heads
    shape = Heads(heads=heads, kv_heads=kv, head_dim=derived_head_dim(config, heads, FALCON))
    return full_everywhere(config, shape, FALCON)


def mpt(config: Config) -> Layout:
    """MPT: `attn_config.attn_type` says multi-head, multi-query or grouped with `kv_n_heads`."""
    heads = query_heads(config, DATABRICKS)
    kv = heads
    attn = config.section("attn_config", model_type=config.model_type)
    if attn is None:
        config.assume_class("attn_config", "multihead_attention")
    else:
        kind = attn.text("attn_type") or str(attn.assume_class("attn_type", "multihead_attention"))
        kinds = {"multihead_attention": heads, "multiquery_attention": 1}
        if kind == "grouped_query_attention":
            kv = attn.size("kv_n_heads")
        elif kind in kinds:
            kv = kinds[kind]
            attn.harmless("kv_n_heads")
        else:
            attn.refuse("attn_type", f"attn_type {kind[:60]!r} is not known")
        if attn.optional("sliding_window_size", least=-1) not in (None, -1):
            attn.refuse("sliding_window_size", "mpt: a sliding window is not read")
    shape = Heads(heads=heads, kv_heads=kv, head_dim=derived_head_dim(config, heads, DATABRICKS))
    return full_everywhere(config, shape, DATABRICKS)


def dbrx(config: Config) -> Layout:
    """DBRX: the KV heads stand in `attn_config.kv_n_heads` (the class default, 1, is no released model's)."""
    heads = query_heads(config, DATABRICKS)
    attn = config.section("attn_config")
    if attn is None:
        config.missing("attn_config")
    config.harmless("num_key_value_heads")
    shape = Heads(heads=heads, kv_heads=attn.size("kv_n_heads"), head_dim=derived_head_dim(config, heads, DATABRICKS))
    return full_everywhere(config, shape, DATABRICKS)


def chatglm(config: Config) -> Layout:
    """ChatGLM 2/3 and GLM-4-9B: `multi_query_group_num` KV heads; ChatGLM-6B (2-D positions): multi-head."""
    heads = query_heads(config, CHATGLM)
    first = config.has("position_encoding_2d")
    if config.flag("multi_query_attention", default=False if first else None):
        kv = config.size("multi_query_group_num")
    else:
        kv = heads
        config.harmless("multi_query_group_num")
    width = derived_head_dim(config, heads) if first else head_dim(config, heads, CHATGLM)
    shape = Heads(heads=heads, kv_heads=kv, head_dim=width)
    return full_everywhere(config, shape, CHATGLM)


def qwen1(config: Config) -> Layout:
    """Qwen (the first): multi-head; the width of a head is `kv_channels`."""
    heads = query_heads(config, QWEN1)
    width = config.optional("kv_channels")
    if width is None:
        width = int(config.assume("kv_channels", 128, "default of Qwen's own configuration_qwen.py"))
    config.harmless("max_position_embeddings")
    shape = Heads(heads=heads, kv_heads=heads, head_dim=width)
    return full_everywhere(config, shape, QWEN1)


def step3(config: Config) -> Layout:
    """Step-3 (multi-matrix factorisation attention): the KV heads are `num_attention_groups`."""
    names = replace(
        STANDARD, kv_heads=("num_attention_groups", "num_key_value_heads"),
        context=("max_seq_len", "max_position_embedding", "max_position_embeddings"),
    )  # fmt: skip
    heads = query_heads(config, names)
    shape = Heads(heads=heads, kv_heads=config.size(*names.kv_heads), head_dim=config.size(*names.head_dim))
    return full_everywhere(config, shape, names)


def jetmoe(config: Config) -> Layout:
    """JetMoE: query heads are KV heads x experts per token (mixture of attention)."""
    kv = config.size("num_key_value_heads")
    width = config.size("kv_channels", "head_dim")
    heads = kv * config.size("num_experts_per_tok", default=True)
    config.harmless("num_attention_heads")
    shape = Heads(heads=heads, kv_heads=kv, head_dim=width)
    return full_everywhere(config, shape)


def hunyuan(config: Config) -> Layout:
    """Hunyuan: with `use_cla`, only every `cla_share_factor`-th layer computes and keeps K and V."""
    names = replace(STANDARD, head_dim=("head_dim", "attention_head_dim"))
    heads, count = heads_of(config, names), layer_count(config)
    if config.flag("use_mla") if config.has("use_mla") else False:
        config.refuse("use_mla", "hunyuan: MLA is not known in this family")
    if config.data.get("use_mla") is False:
        config.harmless("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    attention = {"full": heads.entry()}
    layers = ["full"] * count
    factor = config.optional("cla_share_factor")
    if config.flag("use_cla", default=None if factor is not None else False):
        factor = factor or config.size("cla_share_factor")
        attention["shared_full"] = {"kind": "shared", "reads": "full", "num_attention_heads": heads.heads}
        layers = ["shared_full" if index % factor else "full" for index in range(count)]
    return layout(config, attention, layers)


def nemotron_nas(config: Config) -> Layout:
    """Puzzle / Nemotron-NAS: each block states its queries per KV head, or has no attention at all."""
    heads, count = query_heads(config), layer_count(config)
    config.harmless("num_key_value_heads", "num_key_value_heads_per_layer")
    blocks = config.items("block_configs", length=count)
    if blocks is None:
        config.missing("block_configs")
    width = head_dim(config, heads)
    attention: dict[str, dict[str, object]] = {}
    layers: list[str | None] = []
    for index, block in enumerate(blocks):
        part = block.get("attention") if isinstance(block, dict) else None
        if not isinstance(part, dict):
            config.refuse("block_configs", f"block {index} has no `attention` mapping")
        name = _nas_block(config, index, part, heads, width, attention)
        layers.append(name)
    return layout(config, attention, layers)


def _nas_block(
    config: Config, index: int, part: Mapping[str, object], heads: int, width: int,
    attention: dict[str, dict[str, object]],
) -> str | None:  # fmt: skip
    known = {
        "n_heads_in_group", "no_op", "replace_with_linear", "num_sink_tokens", "sparsify", "unshifted_sink",
        "use_prefill_window_in_sink_attention", "window_length", "llama4", "mamba", "num_key_value_heads",
    }  # fmt: skip
    odd = sorted(str(key) for key, value in part.items() if value not in (None, False) and str(key) not in known)
    odd += [key for key in ("num_sink_tokens", "window_length", "llama4", "mamba", "sparsify") if part.get(key)]
    if odd:
        config.refuse("block_configs", f"block {index}: {', '.join(odd)} is not read", "write a spec by hand")
    if part.get("no_op") or part.get("replace_with_linear"):
        return None
    group = part.get("n_heads_in_group")
    if isinstance(group, bool) or not isinstance(group, int) or group < 1 or heads % group:
        config.refuse("block_configs", f"block {index}: n_heads_in_group must divide {heads} query heads")
    kv = heads // group
    name = f"full_{kv}"
    attention.setdefault(name, Heads(heads=heads, kv_heads=kv, head_dim=width).entry())
    return name


def deci(config: Config) -> Layout:
    """DeciLM: KV heads stated layer by layer."""
    heads, count = query_heads(config), layer_count(config)
    config.harmless("num_key_value_heads")
    per_layer = config.sizes("num_key_value_heads_per_layer", length=count, least=1)
    if per_layer is None:
        config.missing("num_key_value_heads_per_layer")
    width = head_dim(config, heads)
    attention = {f"full_{kv}": Heads(heads=heads, kv_heads=kv, head_dim=width).entry() for kv in per_layer}
    return layout(config, attention, [f"full_{kv}" for kv in per_layer])


def openelm(config: Config) -> Layout:
    """OpenELM: query and KV heads stated layer by layer."""
    count = config.size("num_transformer_layers")
    queries = config.sizes("num_query_heads", length=count, least=1)
    kvs = config.sizes("num_kv_heads", length=count, least=1)
    if queries is None or kvs is None:
        config.missing("num_query_heads" if queries is None else "num_kv_heads")
    width = config.size("head_dim")
    config.harmless("num_gqa_groups", "ffn_multipliers", "qkv_multipliers", "model_dim", "share_input_output_layers")
    pairs = list(zip(queries, kvs, strict=True))
    attention = {f"full_{q}_{kv}": Heads(heads=q, kv_heads=kv, head_dim=width).entry() for q, kv in pairs}
    names = replace(STANDARD, context=("max_context_length", "rope_max_length"))
    return layout(config, attention, [f"full_{q}_{kv}" for q, kv in pairs], names=names)


def minimax_m2(config: Config) -> Layout:
    """MiniMax-M2: full attention everywhere; prediction modules where `use_mtp`."""
    heads, count = heads_of(config), layer_count(config)
    types = config.sizes("attn_type_list", length=count)
    if types is not None and set(types) != {1}:
        config.refuse("attn_type_list", "minimax_m2: entries other than 1 (softmax attention) are not known here")
    modules = config.optional("num_mtp_modules", least=0) or 0
    each = config.optional("mtp_transformer_layers", least=0) or 1
    extra = modules * each if config.has("use_mtp") and config.flag("use_mtp") else 0
    return layout(config, {"full": heads.entry()}, ["full"] * count, mtp=["full"] * extra)


def minicpm(config: Config) -> Layout:
    """MiniCPM 1, 2 and 4: as Llama; MiniCPM4's sparse attention (`sparse_config`) is refused."""
    if config.has("sparse_config"):
        config.refuse("sparse_config", "minicpm: the compressed keys of InfLLM-v2 are not read")
    return full(config)


_CUSTOM = "the model's own configuration on the hub"

LEGACY: Mapping[str, Family] = {
    "aquila": Family(read=partial(full, names=OLD_LLAMA), source=_CUSTOM),
    "arctic": Family(read=full, source="Snowflake/snowflake-arctic-base config", harmless=frozenset({"enc_index"})),
    "baichuan": Family(
        read=partial(full, names=replace(MHA, context=("model_max_length", "max_position_embeddings"))),
        source="baichuan-inc/Baichuan2-13B-Base configuration_baichuan.py",
    ),
    "bailing_moe": Family(read=full, source="inclusionAI/Ling-lite configuration_bailing_moe.py"),
    "bailing_moe_v2": Family(
        read=partial(no_window, mtp=MTP), source="inclusionAI/Ling-flash-2.0 configuration_bailing_moe_v2.py"
    ),
    "bloom": Family(read=partial(full, names=BLOOM), source=hf("bloom")),
    "chatglm": Family(read=chatglm, source="THUDM/chatglm3-6b configuration_chatglm.py"),
    "codegen": Family(read=partial(full, names=GPT2), source=hf("codegen")),
    "ctrl": Family(read=partial(full, names=GPT2), source=hf("ctrl")),
    "dbrx": Family(read=dbrx, source=hf("dbrx")),
    "deci": Family(read=deci, source="Deci/DeciLM-7B configuration_decilm.py"),
    "deepseek": Family(read=partial(full, names=OLD_LLAMA), source="deepseek-ai/deepseek-moe-16b-base config"),
    "doge": Family(read=full, source=hf("doge"), harmless=frozenset({"keep_window_size"})),
    "exaone": Family(
        read=partial(full, names=replace(STANDARD, layers=("num_layers", "num_hidden_layers"))),
        source="LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct configuration_exaone.py",
    ),
    "falcon": Family(read=falcon, source=hf("falcon")),
    "gpt2": Family(read=partial(full, names=GPT2), source=hf("gpt2")),
    "gpt_bigcode": Family(
        read=mqa_switch, source=hf("gpt_bigcode"), harmless=frozenset({"pad_key_length", "pre_allocate_kv_cache"})
    ),
    "gpt_neox": Family(read=partial(full, names=MHA), source=hf("gpt_neox")),
    "gpt_neox_japanese": Family(read=partial(full, names=MHA), source=hf("gpt_neox_japanese")),
    "gptj": Family(read=partial(full, names=GPT2), source=hf("gptj")),
    "grok-1": Family(read=full, source="xai-org/grok-1 run.py"),
    "hunyuan": Family(read=hunyuan, source="Tencent/Tencent-Hunyuan-Large models/modeling_hunyuan.py"),
    "hunyuan_v1_dense": Family(read=hunyuan, source=hf("hunyuan_v1_dense")),
    "hunyuan_v1_moe": Family(read=hunyuan, source=hf("hunyuan_v1_moe")),
    "internlm": Family(read=partial(full, names=OLD_LLAMA), source="internlm/internlm-20b configuration_internlm.py"),
    "internlm2": Family(read=full, source="internlm/internlm2-7b configuration_internlm2.py"),
    "jetmoe": Family(read=jetmoe, source=hf("jetmoe")),
    "minicpm": Family(read=minicpm, source="openbmb/MiniCPM-2B-sft-bf16 configuration_minicpm.py"),
    "minimax_m2": Family(read=minimax_m2, source=hf("minimax_m2")),
    "mpt": Family(read=mpt, source=hf("mpt")),
    "nemotron-nas": Family(read=nemotron_nas, source="nvidia/Llama-3_3-Nemotron-Super-49B-v1 configuration_decilm.py"),
    "openelm": Family(read=openelm, source="apple/OpenELM configuration_openelm.py"),
    "opt": Family(read=partial(full, names=MHA), source=hf("opt")),
    "orion": Family(read=partial(full, names=OLD_LLAMA), source="OrionStarAI/Orion-14B-Base configuration_orion.py"),
    "qwen": Family(read=qwen1, source="Qwen/Qwen-72B configuration_qwen.py"),
    "RefinedWeb": Family(read=refined_web, source="tiiuae/falcon-40b configuration_RW.py"),
    "RefinedWebModel": Family(read=refined_web, source="tiiuae/falcon-7b configuration_RW.py"),
    "stablelm_epoch": Family(read=partial(full, names=OLD_LLAMA), source="stabilityai/stablelm-3b-4e1t config"),
    "step3_text": Family(read=step3, source="SGLang python/sglang/srt/configs/step3_vl.py"),
    "xglm": Family(
        read=partial(
            full,
            names=Names(
                layers=("num_layers", "num_hidden_layers"), heads=("attention_heads", "num_attention_heads"),
                kv_heads=(), hidden=("d_model", "hidden_size"),
            ),
        ),
        source=hf("xglm"),
    ),
    "xverse": Family(read=partial(full, names=OLD_LLAMA), source="xverse/XVERSE-65B configuration_xverse.py"),
    "Yi": Family(read=partial(full, names=OLD_LLAMA), source="01-ai/Yi-34B configuration_yi.py"),
}  # fmt: skip
