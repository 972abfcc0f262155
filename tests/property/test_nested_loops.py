"""An independent count, element by element and layer by layer, of random spec files.

Nothing here uses kvcalc's streams, extents or formats: what is kept is decided token by token, what it takes
bit by bit, from the spec's plain data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Workload, footprint
from kvcalc.spec.build import build
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import load_model

small = st.integers(1, 7)


def headed(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    def expand(fields: dict[str, Any]) -> dict[str, Any]:
        queries_per_head = fields.pop("queries_per_head")
        return {**fields, "num_attention_heads": fields["num_key_value_heads"] * queries_per_head}

    return st.fixed_dictionaries(
        {"num_key_value_heads": small, "queries_per_head": small, "head_dim": st.integers(1, 70), **more},
        optional={"v_head_dim": st.integers(1, 70)},
    ).map(expand)


def latent(kind: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "kind": st.just(kind), "num_attention_heads": small, "kv_lora_rank": st.integers(1, 90),
            "qk_rope_head_dim": st.integers(0, 20), "qk_nope_head_dim": small, "v_head_dim": small, **more,
        }
    )  # fmt: skip


state_dtype = st.sampled_from(["fp32", "bf16", "fp16", "fp8"])
window = st.integers(1, 150)
entries = st.one_of(
    headed(kind=st.just("full")),
    headed(kind=st.just("sliding"), sliding_window=window),
    headed(kind=st.just("chunked"), attention_chunk_size=window),
    headed(kind=st.just("cross")),
    latent("mla"),
    latent(
        "sparse", index_head_dim=st.integers(1, 40), index_n_heads=small, index_topk=small,
        index_cache=st.sampled_from(["own", "shared"]),
    ),
    headed(
        kind=st.just("block_sparse"), index_head_dim=st.integers(1, 40), index_n_heads=st.just(1),
        index_block_size=small, index_topk_blocks=small,
    ),
    st.fixed_dictionaries(
        {"kind": st.just("compressed"), "num_attention_heads": small, "head_dim": st.integers(1, 90),
         "sliding_window": window, "compress_ratio": st.sampled_from([0, 1, 2, 4, 7, 128])}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("mamba"), "intermediate_size": small, "ssm_state_size": small, "conv_kernel": small,
         "state_dtype": state_dtype, "conv_dtype": state_dtype}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("mamba2"), "mamba_num_heads": st.just(6), "mamba_head_dim": small, "ssm_state_size": small,
         "n_groups": st.sampled_from([1, 2, 3]), "conv_kernel": small, "state_dtype": state_dtype}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("gated_delta_net"), "linear_num_key_heads": st.sampled_from([1, 2, 3]),
         "linear_num_value_heads": st.just(6), "linear_key_head_dim": small, "linear_value_head_dim": small,
         "linear_conv_kernel_dim": small}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("kda"), "num_heads": small, "head_dim": small, "short_conv_kernel_size": small}
    ),
    st.fixed_dictionaries({"kind": st.just("lightning"), "num_attention_heads": small, "head_dim": small}),
    st.fixed_dictionaries({"kind": st.just("short_conv"), "conv_dim": small, "conv_L_cache": small}),
)  # fmt: skip


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    table = {"first": draw(entries), **{f"e{index}": draw(entries) for index in range(draw(st.integers(0, 3)))}}
    shared = draw(st.booleans())
    names = st.sampled_from([*table, *(["reader"] if shared else [])])
    layer = st.fixed_dictionaries(
        {"attention": st.one_of(st.none(), names, st.lists(names, min_size=2, max_size=2))},
        optional={"count": st.integers(1, 4)},
    )
    used = [{"attention": name} for name in table]
    pattern = st.fixed_dictionaries({"pattern": st.lists(layer, min_size=1, max_size=3), "count": st.integers(1, 3)})
    layers = [*used, *draw(st.lists(st.one_of(layer, pattern), max_size=4))]
    if shared:
        table["reader"] = {"kind": "shared", "reads": "first", "num_attention_heads": 3}
        layers.append({"attention": "reader"})
    return {"name": "random", "attention": table, "layers": layers}


def kept(entry: Mapping[str, Any], tokens: int, encoder: int) -> Iterator[tuple[str, int, int, int, str | None]]:
    """(role, rows, heads, width, own dtype) of one layer, rows counted one by one."""
    kind = entry["kind"]
    newest = range(tokens)
    if kind in ("full", "sliding", "chunked", "cross", "block_sparse"):
        if kind == "sliding":
            newest = [t for t in newest if t >= tokens - entry["sliding_window"]]
        elif kind == "chunked":  # room for the fullest chunk that has been
            fullest = max(t % entry["attention_chunk_size"] + 1 for t in newest)
            newest = range(fullest)
        elif kind == "cross":
            newest = range(encoder)
        rows = sum(1 for _ in newest)
        yield "key", rows, entry["num_key_value_heads"], entry["head_dim"], None
        yield "value", rows, entry["num_key_value_heads"], entry.get("v_head_dim") or entry["head_dim"], None
        if kind == "block_sparse":
            yield "index", tokens, 1, entry["index_head_dim"], None
    elif kind in ("mla", "sparse"):
        yield "latent", tokens, 1, entry["kv_lora_rank"] + entry["qk_rope_head_dim"], None
        if kind == "sparse" and entry["index_cache"] == "own":
            yield "index", tokens, 1, entry["index_head_dim"], None
    elif kind == "compressed":
        yield "latent", sum(1 for t in newest if t >= tokens - entry["sliding_window"]), 1, entry["head_dim"], None
        ratio = entry["compress_ratio"]
        yield "latent", sum(1 for t in newest if ratio and (t + 1) % ratio == 0), 1, entry["head_dim"], None
    elif kind != "shared":
        yield from states(entry)


def states(entry: Mapping[str, Any]) -> Iterator[tuple[str, int, int, int, str | None]]:
    kind = entry["kind"]
    conv, state = entry.get("conv_dtype", "bf16"), entry.get("state_dtype", "fp32")
    if kind == "mamba":
        channels, memory, kernel = entry["intermediate_size"], entry["ssm_state_size"], entry["conv_kernel"]
        size = channels * memory
    elif kind == "mamba2":
        inner = entry["mamba_num_heads"] * entry["mamba_head_dim"]
        channels, kernel = inner + 2 * entry["n_groups"] * entry["ssm_state_size"], entry["conv_kernel"]
        size = inner * entry["ssm_state_size"]
    elif kind == "gated_delta_net":
        keys = entry["linear_num_key_heads"] * entry["linear_key_head_dim"]
        values = entry["linear_num_value_heads"] * entry["linear_value_head_dim"]
        channels, kernel = keys + keys + values, entry["linear_conv_kernel_dim"]
        size = values * entry["linear_key_head_dim"]
    elif kind == "kda":
        channels, kernel = 3 * entry["num_heads"] * entry["head_dim"], entry["short_conv_kernel_size"]
        size = entry["num_heads"] * entry["head_dim"] ** 2
    elif kind == "lightning":
        channels, kernel, size = 0, 1, entry["num_attention_heads"] * entry["head_dim"] ** 2
    else:
        channels, kernel, size = entry["conv_dim"], entry["conv_L_cache"], 0
    yield "conv", kernel - 1, channels, 1, conv
    yield "state", 1, size, 1, state


PLAIN = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int6": 6, "int3": 3}


def row_bits(dtype: str, role: str, width: int) -> int:
    """Bits of one head's row, element by element and group by group."""
    if dtype in PLAIN:
        return sum(PLAIN[dtype] for _ in range(width))
    total = 0
    for element in range(width):
        if dtype == "int8_per_token_head":
            total += 8 + (32 * (2 if role == "latent" else 1) if element == 0 else 0)
        elif dtype == "int4-g32-zp":
            total += 4 + (16 + 16 if element % 32 == 0 else 0)
        elif dtype == "nvfp4":
            total += 4 + (8 if element % 16 == 0 else 0)
        else:
            raise AssertionError(dtype)
    return total


def counted(raw: Mapping[str, Any], tokens: int, encoder: int, dtype: str) -> int:
    total = 0
    for entry in raw["layers"]:
        for _ in range(entry.get("count", 1)):
            for layer in entry.get("pattern") or [{**entry, "count": 1}]:
                for _ in range(layer.get("count", 1)):
                    names = layer["attention"] or []
                    for name in [names] if isinstance(names, str) else names:
                        for role, rows, heads, width, own in kept(raw["attention"][name], tokens, encoder):
                            bits = 0
                            for _ in range(heads):
                                bits += rows * row_bits(own or dtype, role, width)
                            total += (bits + 7) // 8
    return total


@settings(max_examples=400)
@given(
    raw=specs(), tokens=st.integers(1, 400), encoder=st.integers(0, 100), batch=st.integers(1, 5),
    dtype=st.sampled_from(["bf16", "fp32", "fp8", "int6", "int3", "int8_per_token_head", "int4-g32-zp", "nvfp4"]),
)  # fmt: skip
def test_an_independent_count_agrees(raw: dict[str, Any], tokens: int, encoder: int, batch: int, dtype: str) -> None:
    spec, _ = load_model("random.yaml", json.dumps(raw).encode())
    workload = Workload(batch_size=batch, seq_len=tokens, encoder_len=encoder, formats=parse_kv_cache_dtype(dtype))
    assert footprint(spec, workload).logical_bytes == batch * counted(raw, tokens, encoder, dtype)


@given(raw=specs())
def test_a_trusted_spec_is_built_as_a_validated_one(raw: dict[str, Any]) -> None:
    assert build(ModelSpec, raw) == load_model("random.yaml", json.dumps(raw).encode())[0]
