"""transformers' own caches of tiny random models hold exactly the bytes that kvcalc states for their configs.

The config is read as a user's would be; the model runs on a CPU in bf16; every tensor its cache holds is counted.
transformers keeps W - 1 tokens of a window and K columns of a convolution: the engine's `kept` figure says so, and
equals kvcalc's logical bytes wherever a model has neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")

transformers = pytest.importorskip("transformers", minversion="5.0", reason="pip install 'kvcalc[test]'")

from kvcalc.engines.hf_transformers import Settings, allocate
from kvcalc.footprint import Workload, footprint
from kvcalc.importers.hf_config import read_config
from kvcalc.importers.load import spec_of

BATCH = 2

_SMALL = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GQA = {**_SMALL, "num_key_value_heads": 2}
_WINDOW = {**_GQA, "head_dim": 16, "sliding_window": 16}
_GPT = {
    "vocab_size": 97, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_MLA = {
    **_SMALL, "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
}  # fmt: skip

PLAIN: dict[str, dict[str, Any]] = {
    "llama": {**_GQA, "head_dim": 24},
    "qwen2": _GQA,
    "qwen3": {**_GQA, "head_dim": 32},
    "phi3": _GQA,
    "olmo2": _GQA,
    "mixtral": {**_GQA, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": _GQA,
    "smollm3": _GQA,
    "gpt2": _GPT,
    "gpt_bigcode": {**_GPT, "multi_query": True},
    "gptj": {**_GPT, "rotary_dim": 8},
    "opt": {
        "vocab_size": 97, "hidden_size": 64, "ffn_dim": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 512, "word_embed_proj_dim": 64,
    },
    "bloom": {"vocab_size": 97, "hidden_size": 64, "n_layer": 3, "n_head": 4},
    "falcon": {
        "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "multi_query": True,
        "new_decoder_architecture": False,
    },
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
}  # fmt: skip

WITH_WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": _WINDOW,
    "gemma2": _WINDOW,
    "gemma3_text": {**_WINDOW, "num_hidden_layers": 6},
    "cohere2": _WINDOW,
    "olmo3": _WINDOW,
    "gpt_oss": {**_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {
        **_GQA, "head_dim": 16, "attention_chunk_size": 16, "num_local_experts": 2, "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2, "intermediate_size_mlp": 64,
    },
}  # fmt: skip

WITH_STATES: dict[str, dict[str, Any]] = {
    "mamba": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4},
    "mamba2": {
        "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 8,
        "n_groups": 2, "conv_kernel": 4,
    },
    "jamba": {
        **_GQA, "attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2,
        "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
    "bamba": {
        **_GQA, "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 2,
        "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
    },
    "nemotron_h": {
        **_GQA, "head_dim": 16, "hybrid_override_pattern": "M*-M", "mamba_num_heads": 8, "mamba_head_dim": 16,
        "n_groups": 2, "ssm_state_size": 16, "conv_kernel": 4, "expand": 2,
    },
    "lfm2": {
        **_GQA, "conv_L_cache": 3, "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "block_multiple_of": 16,
    },
    "qwen3_next": {
        **_GQA, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 12, "linear_conv_kernel_dim": 4, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
}  # fmt: skip

FAMILIES = {**PLAIN, **WITH_WINDOWS, **WITH_STATES}


def held(thing: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    """Every floating-point tensor inside a cache object, once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        if thing.is_floating_point():
            yield thing
    elif isinstance(thing, dict):
        for part in thing.values():
            yield from held(part, seen)
    elif isinstance(thing, (list, tuple)):
        for part in thing:
            yield from held(part, seen)
    elif type(thing).__module__.startswith("transformers.cache_utils"):
        yield from held(vars(thing), seen)


def random_model(auto: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return auto.from_config(config, dtype=torch.bfloat16).eval()


def read(model: Any, name: str) -> Any:
    """The spec that kvcalc makes of the model's config."""
    raw = {**json.loads(model.config.to_json_string(use_diff=False)), "architectures": [type(model).__name__]}
    return spec_of(read_config({**raw, "dtype": "bfloat16"}, f"{name}.json"))


def bytes_held(output: Any) -> int:
    cache = getattr(output, "past_key_values", None)
    cache = output.cache_params if cache is None else cache
    return sum(part.numel() * part.element_size() for part in held(cache))


def bytes_kept(spec: Any, workload: Workload) -> int:
    figures = {figure.name: figure.bytes for figure in allocate(spec, workload, Settings()).figures}
    return BATCH * figures["kept"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_models_own_cache_holds_the_stated_bytes(name: str) -> None:
    config = transformers.AutoConfig.for_model(name, **FAMILIES[name])
    model = random_model(transformers.AutoModelForCausalLM, config)
    spec = read(model, name)
    for tokens in (9, 40):
        workload = Workload(batch_size=BATCH, seq_len=tokens)
        with torch.no_grad():
            output = model(torch.randint(3, 96, (BATCH, tokens)), use_cache=True)
        assert bytes_held(output) == bytes_kept(spec, workload)
        if name in PLAIN:
            assert bytes_held(output) == footprint(spec, workload).logical_bytes


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_decoder_keeps_its_own_and_the_encoders_tokens() -> None:
    config = transformers.AutoConfig.for_model(
        "t5", vocab_size=97, d_model=64, d_kv=16, d_ff=80, num_layers=2, num_decoder_layers=3, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = random_model(transformers.AutoModelForSeq2SeqLM, config)
    with torch.no_grad():
        output = model(
            input_ids=torch.randint(3, 96, (BATCH, 13)),
            decoder_input_ids=torch.randint(3, 96, (BATCH, 9)),
            use_cache=True,
        )
    spec = read(model, "t5")
    # 3 decoder layers x (9 own + 13 encoder tokens) x 2 x 4 heads x 16 x 2 B, twice.
    assert bytes_held(output) == BATCH * 3 * (9 + 13) * 2 * 4 * 16 * 2
    assert footprint(spec, Workload(batch_size=BATCH, seq_len=9, encoder_len=13)).logical_bytes == bytes_held(output)
