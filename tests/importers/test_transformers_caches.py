"""Differential: transformers' own caches, filled on the meta device, against ours, family by family.

Needs the `differential` dependency group (transformers pinned to the version whose rules the readers cite); skipped
without it. Where transformers keeps something else than the model needs, the difference is named and exact:

- `window`: it keeps W - 1 tokens between steps, where the window is W;
- `conv`: it keeps K columns of a convolution, where K - 1 are past inputs;
- `expanded`: Falcon-40B's cache holds the KV heads expanded to all query heads;
- `all_tokens`: GPT-Neo keeps every token of its local layers and masks;
- `state16`: MiniMax's running sum is held in the model's own dtype, where others (and vLLM) hold fp32.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if transformers.__version__ != "5.23.0":
    pytest.skip("the differential test is pinned to transformers 5.23.0", allow_module_level=True)

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

from kvcalc.importers.hf_config import read_config  # noqa: E402
from kvcalc.importers.load import spec_of  # noqa: E402
from kvcalc.spec.model import LayerGroup, ModelSpec, layer_groups  # noqa: E402
from kvcalc.streams import Stream, Window  # noqa: E402

TOKENS = 100
ENCODER_TOKENS = 40


class Case(NamedTuple):
    """A `model_type`, what its class is given beside its defaults, and the differences to expect."""

    family: str
    fields: dict[str, Any] = {}  # noqa: RUF012 - read only
    differs: frozenset[str] = frozenset()


def case(family: str, *differs: str, **fields: Any) -> Case:
    return Case(family, fields, frozenset(differs))


SMALL = {"num_hidden_layers": 6}
WINDOWED = {**SMALL, "sliding_window": 64}
CASES = [
    *(
        case(family, **SMALL)
        for family in (
            "apertus", "arcee", "aria_text", "bitnet", "cohere", "diffllama", "ernie4_5", "ernie4_5_moe",
            "flex_olmo", "gemma", "glm", "glm4", "granite", "granitemoe", "helium", "internlm3", "llama", "minimax_m2",
            "ministral3", "mixtral", "nanochat", "olmo", "olmo2", "olmoe", "persimmon", "phi", "phi3", "qwen2",
            "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2",
        )
    ),
    case("bloom", n_layer=3),
    case("codegen", n_layer=3),
    case("gpt2", n_layer=3),
    case("gpt_bigcode", n_layer=3),
    case("gpt_bigcode", n_layer=3, multi_query=False),
    case("gpt_neox", **SMALL),
    case("gptj", n_layer=3),
    case("mpt", n_layers=3),
    case("opt", **SMALL),
    case("xglm", num_layers=3),
    case("falcon", **SMALL),
    case("falcon", num_hidden_layers=3, hidden_size=1024, num_attention_heads=16, num_kv_heads=16, multi_query=False),
    case("falcon", "expanded", num_hidden_layers=3, hidden_size=1024, num_attention_heads=16, num_kv_heads=4,
         new_decoder_architecture=True),
    case("gpt_neo", "all_tokens", num_layers=4, attention_types=[[["global", "local"], 2]], window_size=64),
    case("mistral", "window", **WINDOWED),
    case("gemma2", "window", **WINDOWED),
    case("gemma3_text", "window", **WINDOWED),
    case("gemma4_text", "window", **WINDOWED),
    case("vaultgemma", "window", **WINDOWED),
    case("cohere2", "window", **WINDOWED),
    case("cwm", "window", **WINDOWED),
    case("afmoe", "window", **WINDOWED),
    case("exaone4", "window", **WINDOWED),
    case("olmo3", "window", **WINDOWED),
    case("gpt_oss", "window", **WINDOWED),
    case("granite_swa", "window", **WINDOWED),
    case("qwen2", "window", **WINDOWED, use_sliding_window=True, max_window_layers=2),
    case("llama4_text", "window", **SMALL, attention_chunk_size=64),
    case("modernbert-decoder", "window", **SMALL),
    case("axk1", num_hidden_layers=3),
    case("deepseek_v3", num_hidden_layers=4),
    case("glm4_moe_lite", num_hidden_layers=3),
    case("minicpm3", num_hidden_layers=3),
    case("youtu", num_hidden_layers=3),
    case("deepseek_v32", num_hidden_layers=4),
    case("glm_moe_dsa", num_hidden_layers=8, index_topk_freq=4),
    case("hy_v4", num_hidden_layers=6),
    case("minimax_m3_vl_text", num_hidden_layers=5, layer_types=["full_attention"] + ["minimax_m3_sparse"] * 4),
    case("deepseek_v4", "window", num_hidden_layers=5, sliding_window=64),
    case("mamba", "conv", num_hidden_layers=3),
    case("falcon_mamba", "conv", num_hidden_layers=3),
    case("mamba2", "conv", num_hidden_layers=3),
    case("jamba", "conv", num_hidden_layers=8),
    case("falcon_h1", "conv", num_hidden_layers=3),
    case("nemotron_h", "conv"),
    case("zamba2", "conv", num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"]),
    case("qwen3_next", "conv", num_hidden_layers=4),
    case("qwen3_5_text", "conv", num_hidden_layers=4),
    case("olmo_hybrid", "conv", num_hidden_layers=4),
    case("kimi_linear", "conv", num_hidden_layers=6),
    case("bailing_hybrid", "conv", num_hidden_layers=6),
    case("minimax", "state16", num_hidden_layers=4),
    case("t5", num_layers=2, num_decoder_layers=3),
    case("mt5", num_layers=2),
    case("umt5", num_layers=2, num_decoder_layers=3),
    case("lfm2", "conv", num_hidden_layers=4, layer_types=["conv", "conv", "full_attention", "conv"]),
]  # fmt: skip

ROLES = {
    "keys": "token", "values": "token", "indexer_keys": "index", "idx_keys": "index",
    "compressed_kv.compressor": "token",
    "compressed_kv.indexer": "index", "conv_states": "conv", "recurrent_states": "state", "linear_cache": "state",
}  # fmt: skip
OUR_ROLES = {"key": "token", "value": "token", "latent": "token", "index": "index", "conv": "conv", "state": "state"}


def tensors(thing: object, name: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """(attribute, tensor) of everything a cache holds."""
    if torch.is_tensor(thing):
        return [(name, thing)]
    if depth > 5 or thing is None or isinstance(thing, (str, int, torch.dtype, torch.device)):
        return []
    if isinstance(thing, (list, tuple)):
        return [found for part in thing for found in tensors(part, name, depth + 1)]
    if isinstance(thing, dict):
        return [
            found for key, part in thing.items()
            for found in tensors(part, name if isinstance(key, int) else f"{name}.{key}", depth + 1)
        ]  # fmt: skip
    return (
        [found for key, part in vars(thing).items() for found in tensors(part, key, depth + 1)]
        if hasattr(thing, "__dict__")
        else []
    )


def theirs(config: Any) -> dict[str, int]:
    """Bytes by role of the cache that transformers fills with TOKENS tokens."""
    with torch.device("meta"), torch.no_grad():
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)
        if config.is_encoder_decoder:
            model = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.bfloat16).eval()
            source = torch.zeros(1, ENCODER_TOKENS, dtype=torch.long)
            out = model(input_ids=source, decoder_input_ids=tokens, use_cache=True)
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
            out = model(input_ids=tokens, use_cache=True)
    cache = getattr(out, "past_key_values", None)
    if cache is None:
        cache = out.cache_params
    found: dict[str, int] = {}
    seen: set[int] = set()
    for name, tensor in tensors(cache):
        if name in ROLES and id(tensor) not in seen:
            seen.add(id(tensor))
            found[ROLES[name]] = found.get(ROLES[name], 0) + tensor.numel() * tensor.element_size()
    return found


WIDTH = {"fp32": 4, "bf16": 2, None: 2}


def rows(stream: Stream, differs: frozenset[str]) -> int:
    """Rows that transformers keeps of a stream."""
    count = int(stream.extent.rows(TOKENS, ENCODER_TOKENS))
    if "conv" in differs and stream.role.value == "conv":
        return count + 1
    if isinstance(stream.extent, Window):
        if "all_tokens" in differs:
            return TOKENS
        if "window" in differs and stream.extent.size <= TOKENS:
            return count - 1
    return count


def ours(spec: ModelSpec, differs: frozenset[str]) -> dict[str, int]:
    """Bytes by role, with the named differences applied."""
    found: dict[str, int] = {}
    for group in layer_groups(spec):
        for stream in streams(group):
            role = OUR_ROLES[stream.role.value]
            heads = stream.heads if "expanded" not in differs else group.attention[0].num_attention_heads  # type: ignore[attr-defined]
            width = 2 if "state16" in differs else WIDTH[stream.dtype]
            size = group.count * rows(stream, differs) * heads * stream.width * width
            found[role] = found.get(role, 0) + size
    return found


def streams(group: LayerGroup) -> list[Stream]:
    return [s for kind in group.attention for s in kind.streams() if s.role.value in OUR_ROLES]


@pytest.mark.parametrize("wanted", CASES, ids=[f"{c.family}-{i}" for i, c in enumerate(CASES)])
def test_cache_is_the_one_that_transformers_fills(wanted: Case) -> None:
    config = CONFIG_MAPPING[wanted.family](**wanted.fields, dtype=torch.bfloat16)
    raw = json.loads(json.dumps(config.to_dict(), default=str))
    assert ours(spec_of(read_config(raw, wanted.family)), wanted.differs) == theirs(config)


def test_at_least_25_families_are_compared() -> None:
    assert len({wanted.family for wanted in CASES}) >= 25
