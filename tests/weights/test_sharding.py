"""What one rank holds."""

from __future__ import annotations

import geometries
import pytest
from geometries import DEEPSEEK_V3, LLAMA_3_1_8B, LLAMA_3_1_405B, QWEN3_0_6B, QWEN3_30B_A3B, QWEN3_NEXT_80B
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component, Split, Tensor
from kvcalc.weights import (
    WeightSharding,
    even_stages,
    inventory,
    weight_bytes,
    weight_bytes_per_stage,
    weight_scheme,
)

MODELS: dict[str, ModelSpec] = {name: value for name, value in vars(geometries).items() if isinstance(value, ModelSpec)}


def per_stage(model: ModelSpec, **layout: object) -> list[int]:
    sharding = WeightSharding(**layout)  # type: ignore[arg-type]
    return [ledger.total for ledger in weight_bytes_per_stage(model, weight_scheme(model, "bf16"), sharding)]


def total(model: ModelSpec) -> int:
    return weight_bytes(model, weight_scheme(model, "bf16")).total


def test_units_divide_what_they_split() -> None:
    for model in MODELS.values():
        for tensor, _ in inventory(model).tensors():
            if tensor.split:
                assert tensor.shape[tensor.split.axis] % tensor.split.units == 0, tensor


@pytest.mark.parametrize(
    ("units", "ranks", "rows"),
    # 8 KV heads of 128: whole heads, at least one
    [(8, 1, 1024), (8, 2, 512), (8, 8, 128), (8, 16, 128), (8, 64, 128), (8, 3, 384)],
)
def test_kv_projections_are_replicated_beyond_their_heads(units: int, ranks: int, rows: int) -> None:
    weight = Tensor(
        name="k", shape=(1024, 64), component=Component.ATTENTION, split=Split(axis=0, units=units), quantizable=True
    )
    assert weight.on_rank(ranks).shape == (rows, 64)


def test_vocabulary_is_padded_to_64_rows() -> None:
    """50,257 rows become 50,304 (vLLM pads to 64), 6,288 for each of 8 ranks."""
    table = inventory(geometries.GPT2).first[0]
    assert table.on_rank(8).shape == (6_288, 768)
    assert table.shape == (50_257, 768)


def test_llama_8b_on_two_ranks_by_hand() -> None:
    """q and o halves, 4 of 8 KV heads, half the block and the vocabulary, norms whole: bf16."""
    layer = 4096 * 4096 // 2 * 2 + 2 * 512 * 4096 + 3 * 4096 * 14336 // 2 + 2 * 4096
    assert per_stage(LLAMA_3_1_8B, tensor=2) == [2 * (32 * layer + 4096 + 2 * 64_128 * 4096)]


MIB = 2**20

LOGS = [
    # model, TP, positions of the rotary table, GiB printed: "Loading model weights took ..."
    pytest.param(geometries.LLAMA_3_1_70B, 8, 131_072, 16.4610, id="vllm-ascend issue 2235: Llama-70B, TP 8"),
    pytest.param(geometries.MIXTRAL_8X22B, 8, 65_536, 32.7642, id="vllm issue 4344: Mixtral-8x22B, TP 8"),
    pytest.param(
        geometries.NEMOTRON_NANO_9B_V2, 1, 0, 16.5557, id="vllm 0.10.1 on an L40S: Nemotron-Nano-9B-v2, no rotary"
    ),
]


@pytest.mark.parametrize(("model", "tensor", "positions", "printed"), LOGS)
def test_what_servers_print_when_they_have_loaded(
    model: ModelSpec, tensor: int, positions: int, printed: float
) -> None:
    """The weights of one rank, and vLLM's rotary table of positions x 128 in bf16, to within one MiB."""
    [size] = per_stage(model, tensor=tensor)
    assert abs(printed * 1024 - (size + positions * 128 * 2) / MIB) < 1


def test_mla_down_projections_are_on_every_rank() -> None:
    """DeepSeek-V3, TP 8: q_a (1536 x 7168), kv_a (576 x 7168) and their norms whole, the rest an eighth."""
    scheme = weight_scheme(DEEPSEEK_V3, "bf16")
    ledger = weight_bytes_per_stage(DEEPSEEK_V3, scheme, WeightSharding(tensor=8))[0]
    whole = (1536 + 576) * 7168 + 1536 + 512
    split = (24_576 * 1536 + 32_768 * 512 + 16_384 * 7168) // 8
    assert ledger.by_component[Component.ATTENTION] == 2 * 61 * (whole + split)


def test_experts_whole_or_sliced() -> None:
    """256 experts of 3 x 7168 x 2048 in 58 layers over 16 ranks: 16 whole ones, or a sixteenth of each."""
    scheme = weight_scheme(DEEPSEEK_V3, "bf16")
    for data, tensor in ((16, 1), (2, 8), (1, 16)):
        for expert_parallel in (True, False):
            sharding = WeightSharding(tensor=tensor, data=data, expert_parallel=expert_parallel)
            ledger = weight_bytes_per_stage(DEEPSEEK_V3, scheme, sharding)[0]
            assert ledger.by_component[Component.ROUTED_EXPERTS] == 2 * 58 * 16 * 3 * 7168 * 2048


def test_experts_that_ranks_do_not_divide() -> None:
    """128 experts over 24 ranks: the fullest holds 6."""
    scheme = weight_scheme(QWEN3_30B_A3B, "bf16")
    sharding = WeightSharding(data=24, expert_parallel=True)
    ledger = weight_bytes_per_stage(QWEN3_30B_A3B, scheme, sharding)[0]
    assert ledger.by_component[Component.ROUTED_EXPERTS] == 2 * 48 * 6 * 3 * 2048 * 768


def test_data_parallel_attention_with_a_wider_split_of_the_rest() -> None:
    """SGLang --tp 8 --dp 8 --enable-dp-attention: attention whole on each rank, dense blocks over all 8."""
    scheme = weight_scheme(DEEPSEEK_V3, "bf16")
    ledger = weight_bytes_per_stage(DEEPSEEK_V3, scheme, WeightSharding(data=8, ffn_tensor=8, expert_parallel=True))[0]
    whole = weight_bytes(DEEPSEEK_V3, scheme)
    assert ledger.by_component[Component.ATTENTION] == whole.by_component[Component.ATTENTION]
    assert ledger.by_component[Component.DENSE_FFN] * 8 == whole.by_component[Component.DENSE_FFN]


@pytest.mark.parametrize(
    ("layers", "stages", "dealt"),
    # vLLM 0.33.0 tests/distributed/test_pipeline_partition.py
    [(20, 4, (5, 5, 5, 5)), (3, 2, (2, 1)), (3, 3, (1, 1, 1)), (4, 3, (1, 2, 1)), (5, 3, (2, 2, 1))],
)
def test_stages_as_vllm_deals_them_out(layers: int, stages: int, dealt: tuple[int, ...]) -> None:
    assert even_stages(layers, stages) == dealt


def test_stages_hold_the_ends() -> None:
    """The embedding on the first, the final norm and the head on the last; a tied head twice."""
    assert sum(per_stage(LLAMA_3_1_405B, pipeline=4)) == total(LLAMA_3_1_405B)
    first, middle, *_, last = per_stage(LLAMA_3_1_405B, pipeline=6)
    assert first - middle == 2 * 128_256 * 16_384
    assert last - middle == 2 * (128_256 * 16_384 + 16_384)
    assert sum(per_stage(QWEN3_0_6B, pipeline=4)) == total(QWEN3_0_6B) + 2 * 151_936 * 1_024


def test_given_stages() -> None:
    sizes = per_stage(QWEN3_0_6B, pipeline=2, stages=(20, 8))
    assert sizes[0] > sizes[1]
    with pytest.raises(KvcalcError, match="28 together"):
        per_stage(QWEN3_0_6B, pipeline=2, stages=(20, 9))
    with pytest.raises(KvcalcError, match="28 layers cannot fill 29"):
        per_stage(QWEN3_0_6B, pipeline=29)


@given(
    model=st.sampled_from(sorted(MODELS)),
    tensor=st.integers(1, 48),
    pipeline=st.integers(1, 12),
    data=st.integers(1, 9),
    experts=st.booleans(),
)
def test_laws(model: str, tensor: int, pipeline: int, data: int, experts: bool) -> None:
    """Ranks together hold at least the model; more TP never holds more; nothing falls to zero."""
    spec = MODELS[model]
    layout = {"tensor": tensor, "pipeline": pipeline, "data": data, "expert_parallel": experts}
    sizes = per_stage(spec, **layout)
    assert all(size > 0 for size in sizes)
    assert sum(sizes) * tensor * data >= total(spec)
    if not experts:
        assert all(a <= b for a, b in zip(per_stage(spec, **{**layout, "tensor": 2 * tensor}), sizes, strict=True))


@pytest.mark.parametrize("model", sorted(MODELS))
def test_one_rank_holds_the_model_and_the_padding_of_its_vocabulary(model: str) -> None:
    spec = MODELS[model]
    assert spec.vocab_size
    assert spec.hidden_size
    tables = 1 if spec.tie_word_embeddings else 2
    padding = -spec.vocab_size % 64 * spec.hidden_size * tables
    assert per_stage(spec) == [total(spec) + 2 * padding]


def test_prediction_layers_stand_on_the_last_stage() -> None:
    scheme = weight_scheme(QWEN3_NEXT_80B, "bf16")
    ledgers = weight_bytes_per_stage(QWEN3_NEXT_80B, scheme, WeightSharding(pipeline=3), mtp=True)
    assert [ledger.mtp for ledger in ledgers] == [0, 0, 2 * (81_324_862_720 - 79_674_391_296)]
