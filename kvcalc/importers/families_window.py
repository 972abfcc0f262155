"""Families whose layers alternate between a window (or a chunk) and full attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    FULL,
    MTP,
    SLIDING,
    STANDARD,
    Heads,
    derived_head_dim,
    every,
    head_dim,
    heads_of,
    kv_heads,
    layer_count,
    layout,
    predicted,
    query_heads,
    required_window,
    typed_layers,
    window,
)

KV = "num_key_value_heads"
WORDS = {FULL: "full", SLIDING: "sliding"}


def alternating(config: Config, *, period: int, pattern: str = "sliding_window_pattern", first: bool = False) -> Layout:
    """A window in all layers but one of `period`.

    Args:
        period: the class's own; the config may state another under `pattern`, and `layer_types` overrules both.
        first: whether the full layer leads its period rather than closing it.
    """
    heads, count = heads_of(config), layer_count(config)
    size = required_window(config)
    words = _types(config, count, period, pattern, first)
    attention = {"full": heads.entry(), "sliding": heads.entry("sliding", sliding_window=size)}
    return layout(config, attention, typed_layers(config, count, WORDS, lambda: words))


def _types(config: Config, count: int, period: int, pattern: str, first: bool) -> list[str]:
    stated = config.optional(pattern, f"_{pattern}")
    if config.has("layer_types"):
        return []
    if stated is None:
        rule = f"class default of {config.model_type}: one full layer in {period}"
        stated = int(config.assume(pattern, period, rule))
    if first:
        return [SLIDING if index % stated else FULL for index in range(count)]
    return every(stated, count, last=FULL, others=SLIDING)


def cohere2(config: Config) -> Layout:
    """Command R7B: three layers with a window, then one without; head_dim is derived."""
    config.harmless("order_of_interleaved_layers", "cache_implementation", "layer_switch")
    return alternating(config, period=4)


def exaone4(config: Config) -> Layout:
    """EXAONE 4: the pattern is a word such as `LLLG` or a number; a null window means none at all."""
    if window(config) is None:
        config.harmless("sliding_window_pattern")
        heads, count = heads_of(config), layer_count(config)
        layers = typed_layers(config, count, {FULL: "full"}, lambda: [FULL] * count)
        return layout(config, {"full": heads.entry()}, layers, mtp=predicted(config, "full"))
    word = config.raw("sliding_window_pattern")
    heads, count = heads_of(config), layer_count(config)
    if isinstance(word, str):
        if not word or set(word) - {"L", "G"}:
            config.refuse("sliding_window_pattern", f"expected letters L and G, got {word[:60]!r}")
        # The last layer is global whatever its letter (check_is_sliding in EXAONE 4's own code).
        words = [FULL if word[i % len(word)] == "G" or i == count - 1 else SLIDING for i in range(count)]
    else:
        words = _types(config, count, 4, "sliding_window_pattern", False)
    attention = {"full": heads.entry(), "sliding": heads.entry("sliding", sliding_window=required_window(config))}
    layers = typed_layers(config, count, WORDS, lambda: words)
    return layout(config, attention, layers, mtp=predicted(config, "full"))


def gemma3(config: Config) -> Layout:
    """Gemma 3: five layers with a window, then one without.

    The config may state only `sliding_window`: the pattern is the class's. An encoder (bidirectional) is refused.
    """
    if config.raw("use_bidirectional_attention"):
        config.refuse("use_bidirectional_attention", "a bidirectional encoder keeps no KV cache")
    if not config.data.get("sliding_window"):
        # The class default (4,096) is not what any released Gemma 3 has.
        config.missing("sliding_window")
    return alternating(config, period=6)


def gemma3n(config: Config) -> Layout:
    """Gemma 3n: four window layers and a full one; the last layers read the cache of the last layer of their type."""
    return _shared_tail(config, lambda count: every(5, count, last=FULL, others=SLIDING), {})


def gemma4(config: Config) -> Layout:
    """Gemma 4: full layers have their own head width and KV heads; the last layers may share.

    `attention_k_eq_v` drops the V weight of full layers (V is K before its rotation), not the V cache.
    """
    if config.raw("use_bidirectional_attention") == "all":
        config.refuse("use_bidirectional_attention", "a bidirectional encoder keeps no KV cache")
    heads = query_heads(config)
    width, own = _global_overrides(config)
    if width is None:
        width = int(config.assume_class("global_head_dim", 512))
    # transformers reads num_global_key_value_heads only where attention_k_eq_v is true.
    k_eq_v = config.flag("attention_k_eq_v", default=None if own is not None else False)
    if own is None and k_eq_v:
        config.assume("num_global_key_value_heads", None, "full layers have num_key_value_heads (transformers 5.23.0)")
    shared_kv = own if own is not None and k_eq_v else kv_heads(config, heads)
    wide = Heads(heads=heads, kv_heads=shared_kv, head_dim=width).entry()

    def types(count: int) -> list[str]:
        return [*every(6, count, last=FULL, others=SLIDING)[:-1], FULL]

    return _shared_tail(config, types, wide)


def _global_overrides(config: Config) -> tuple[int | None, int | None]:
    """Width and KV heads of full layers: from their own keys, or as transformers 5 writes them."""
    width, own = config.optional("global_head_dim"), config.optional("num_global_key_value_heads")
    overrides = config.section("per_layer_config")
    if overrides is None:
        return width, own
    types = config.words("layer_types") or []
    full = {str(index) for index, word in enumerate(types) if word == FULL}
    # transformers 5 writes the layer as a word, padded: "05".
    if not types or {str(key).lstrip("0") or "0" for key in overrides.data} != full:
        config.refuse("per_layer_config", "gemma4: overrides of layers other than the full ones are not read")
    overrides.harmless(*overrides.data)
    each = list(overrides.data.values())
    if any(one != each[0] for one in each) or not isinstance(each[0], dict) or set(each[0]) - {"head_dim", KV}:
        config.refuse(
            "per_layer_config", "gemma4: only one head_dim and num_key_value_heads for all full layers is read"
        )
    stated = overrides.section(next(iter(overrides.data)))
    assert stated is not None
    return stated.size("head_dim"), stated.optional(KV)


def _shared_tail(config: Config, default: Any, full_entry: Mapping[str, Any]) -> Layout:
    heads, count = heads_of(config), layer_count(config)
    attention: dict[str, Mapping[str, Any]] = {
        "full": full_entry or heads.entry(),
        "sliding": heads.entry("sliding", sliding_window=required_window(config)),
    }
    layers = list(typed_layers(config, count, WORDS, lambda: default(count)))
    shared = config.optional("num_kv_shared_layers", least=0)
    if shared is None:
        shared = config.class_default("num_kv_shared_layers") or 0
    if shared >= count:
        config.refuse("num_kv_shared_layers", f"{shared} of {count} layers share: none is left to keep a cache")
    for index in range(count - shared, count):
        kind = str(layers[index])
        attention[f"shared_{kind}"] = {"kind": "shared", "reads": kind, "num_attention_heads": heads.heads}
        layers[index] = f"shared_{kind}"
    note = f"the last {shared} layers read the cache of the last earlier layer of their type (num_kv_shared_layers)"
    return layout(config, attention, layers, comments={"layers": note} if shared else {})


def llama4(config: Config) -> Layout:
    """Llama 4: chunks of `attention_chunk_size` tokens where a layer has rotary positions, full attention elsewhere."""
    heads, count = heads_of(config), layer_count(config)
    chunk = config.optional("attention_chunk_size")
    if chunk is None and "attention_chunk_size" not in config.data:
        chunk = config.class_default("attention_chunk_size")
    attention = {"full": heads.entry()}
    words = {FULL: "full"}
    if chunk is not None:
        attention["chunked"] = heads.entry("chunked", attention_chunk_size=chunk)
        words["chunked_attention"] = "chunked"
    config.harmless("no_rope_layers", "no_rope_layer_interval")
    return layout(config, attention, typed_layers(config, count, words, lambda: _llama4_types(config, count, words)))


def _llama4_types(config: Config, count: int, words: Mapping[str, str]) -> list[str]:
    rope = config.sizes("no_rope_layers")
    if rope and len(rope) != count:
        config.refuse("no_rope_layers", f"no_rope_layers has {len(rope)} entries for {count} layers")
    if not rope:
        step = config.optional("no_rope_layer_interval")
        if step is None:
            step = int(config.assume_class("no_rope_layer_interval", 4))
        rope = [int(bool((index + 1) % step)) for index in range(count)]
    if "chunked_attention" not in words:
        return [FULL] * count
    return ["chunked_attention" if with_rope else FULL for with_rope in rope]


def dots1(config: Config) -> Layout:
    """dots.llm1: a window from layer `max_window_layers` on, where the config gives one."""
    heads, count = heads_of(config), layer_count(config)
    size = window(config)
    attention = {"full": heads.entry()}
    first = count
    if size is not None:
        attention["sliding"] = heads.entry("sliding", sliding_window=size)
        first = config.size("max_window_layers", default=True, least=0)
    config.harmless("max_window_layers")
    words = {f"{name}_attention": name for name in attention}
    layers = typed_layers(config, count, words, lambda: [FULL if i < first else SLIDING for i in range(count)])
    return layout(config, attention, layers)


def mimo_v2(config: Config) -> Layout:
    """MiMo-V2: window layers have their own heads and widths; K and V differ in width.

    `sliding_window` is read as vLLM and the model card do; transformers 5.23.0 keeps one token more.
    """
    heads, count = query_heads(config), layer_count(config)
    full = Heads(
        heads=heads, kv_heads=kv_heads(config, heads), head_dim=config.size("head_dim"),
        v_head_dim=config.size("v_head_dim"),
    )  # fmt: skip
    narrow = Heads(
        heads=config.size("swa_num_attention_heads"), kv_heads=config.size("swa_num_key_value_heads"),
        head_dim=config.size("swa_head_dim"), v_head_dim=config.size("swa_v_head_dim"),
    )  # fmt: skip
    size = required_window(config, "sliding_window", "sliding_window_size")
    config.harmless("attention_chunk_size", "layer_types")
    pattern = config.sizes("hybrid_layer_pattern", length=count)
    if pattern is None:
        config.missing("hybrid_layer_pattern")
    if set(pattern) - {0, 1}:
        config.refuse("hybrid_layer_pattern", "expected 0 (full) or 1 (window) for each layer")
    attention = {"full": full.entry(), "sliding": narrow.entry("sliding", sliding_window=size)}
    comments = {"sliding": "transformers 5.23.0 keeps sliding_window_size + 1 tokens; vLLM and the model card, this"}
    return layout(config, attention, ["sliding" if word else "full" for word in pattern], comments=comments)


def step3p5(config: Config) -> Layout:
    """Step-3.5 and 3.7 Flash: window layers have query heads (and perhaps KV heads) of their own."""
    names = replace(STANDARD, kv_heads=("num_key_value_heads", "num_attention_groups"))
    full, count = heads_of(config, names), layer_count(config)
    size = required_window(config)
    own = config.section("attention_other_setting")
    if own is None:
        narrow = replace(full, heads=config.optional("num_sliding_attention_heads") or full.heads)
    else:
        own.harmless("attention_type")
        narrow = Heads(
            heads=own.optional("num_attention_heads") or full.heads,
            kv_heads=own.optional("num_attention_groups", "num_key_value_heads") or full.kv_heads,
            head_dim=own.optional("head_dim") or full.head_dim,
        )
    extra = config.optional(*MTP, least=0) or 0
    words = config.words("layer_types")
    if words is None:
        config.missing("layer_types")
    if len(words) not in (count, count + extra) or set(words) - set(WORDS):
        config.refuse("layer_types", f"expected {FULL} or {SLIDING} for {count} layers (and {extra} more)")
    kinds = [WORDS[word] for word in words]
    drafts = kinds[count:] or ["full"] * extra
    attention = {"full": full.entry(), "sliding": narrow.entry("sliding", sliding_window=size)}
    return layout(config, attention, kinds[:count], mtp=drafts)


def gpt_neo(config: Config) -> Layout:
    """GPT-Neo: global and local layers by `attention_types`. transformers keeps every token in both."""
    heads = config.size("num_heads", "num_attention_heads")
    count = config.size("num_layers", "num_hidden_layers")
    shape = Heads(heads=heads, kv_heads=heads, head_dim=derived_head_dim(config, heads))
    config.harmless("attention_types")
    layers = config.words("attention_layers", length=count) or _gpt_neo_types(config, count)
    size = config.optional("window_size")
    if size is None:
        size = int(config.class_default("window_size"))
    attention = {"full": shape.entry(), "sliding": shape.entry("sliding", sliding_window=size)}
    words = {"global": "full", "local": "sliding"}
    if set(layers) - set(words):
        config.refuse("attention_layers", "expected `global` or `local` for each layer")
    comments = {"sliding": "transformers keeps every token of local layers too, and masks"}
    return layout(config, attention, [words[word] for word in layers], comments=comments)


def _gpt_neo_types(config: Config, count: int) -> list[str]:
    groups = config.items("attention_types")
    if groups is None:
        config.missing("attention_types")
    try:
        repeated = [([str(word) for word in words], max(0, int(times))) for words, times in groups]
    except (TypeError, ValueError):
        config.refuse("attention_types", "attention_types: expected [[[kinds], times], ...]")
    total = sum(len(words) * times for words, times in repeated)  # before it is written out
    if total != count:
        config.refuse("attention_types", f"attention_types describes {total:,} layers, not {count:,}")
    return [word for words, times in repeated if words for word in words * times]


def modernbert_decoder(config: Config) -> Layout:
    """ModernBERT decoder: full attention on every third layer, the first included."""
    heads, count = query_heads(config), layer_count(config)
    shape = Heads(heads=heads, kv_heads=heads, head_dim=head_dim(config, heads))
    local = config.optional("local_attention")
    if local is None:
        config.missing("local_attention")
    config.harmless("sliding_window")
    period = config.optional("global_attn_every_n_layers")
    if period is None:
        period = int(config.assume_class("global_attn_every_n_layers", 3))
    words = [SLIDING if index % period else FULL for index in range(count)]
    attention = {"full": shape.entry(), "sliding": shape.entry("sliding", sliding_window=max(1, local // 2))}
    return layout(config, attention, typed_layers(config, count, WORDS, lambda: words))


def afmoe(config: Config) -> Layout:
    """Arcee Trinity: every `global_attn_every_n_layers`-th layer is full."""
    return alternating(config, period=4, pattern="global_attn_every_n_layers")


WINDOW: Mapping[str, Family] = {
    "afmoe": Family(read=afmoe, source=hf("afmoe")),
    "cohere2": Family(read=cohere2, source=hf("cohere2")),
    "cwm": Family(read=partial(alternating, period=4, first=True), source=hf("cwm")),
    "dots1": Family(read=dots1, source=hf("dots1")),
    "exaone4": Family(read=exaone4, source=hf("exaone4")),
    "exaone_moe": Family(read=exaone4, source=hf("exaone_moe")),
    "gemma2": Family(read=partial(alternating, period=2), source=hf("gemma2")),
    "gemma3_text": Family(read=gemma3, source=hf("gemma3")),
    "gemma3n_text": Family(read=gemma3n, source=hf("gemma3n")),
    "gemma4_text": Family(read=gemma4, source=hf("gemma4")),
    "gpt_neo": Family(read=gpt_neo, source=hf("gpt_neo")),
    "gpt_oss": Family(read=partial(alternating, period=2), source=hf("gpt_oss")),
    "granite_swa": Family(read=partial(alternating, period=4, first=True), source=hf("granite_swa")),
    "granitemoe_swa": Family(read=partial(alternating, period=4, first=True), source=hf("granitemoe_swa")),
    "llama4_text": Family(read=llama4, source=hf("llama4")),
    "mimo_v2_flash": Family(read=mimo_v2, source="XiaomiMiMo/MiMo-V2-Flash config; vLLM 0.33.0 mimo_v2"),
    "modernbert-decoder": Family(read=modernbert_decoder, source=hf("modernbert_decoder")),
    "olmo3": Family(read=partial(alternating, period=4), source=hf("olmo3")),
    "step3p5": Family(
        read=step3p5, source=hf("step3p7"), harmless=frozenset({"share_expert_dims", "use_head_wise_attn_gate"})
    ),
    "vaultgemma": Family(read=partial(alternating, period=2), source=hf("vaultgemma")),
}
