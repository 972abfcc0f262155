"""From a GPU's memory to the bytes of the cache: every engine's division, by hand.

Rules as read in vLLM 0.33.0 v1/worker/gpu_worker.py:641-820, SGLang 0.5.23 arg_groups/memory_hook.py:281-399,
TensorRT-LLM main resource_manager.py and LMDeploy 0.18.0 pytorch/engine/executor/base.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from engine_factories import parallel

from kvcalc.engines import find_engine, lmdeploy, sglang
from kvcalc.engines.budgets import Budget, Charge, divide, outside_bytes
from kvcalc.engines.vllm.settings import Settings, gpu_defaults
from kvcalc.problems import KvcalcError

MIB, GIB = 2**20, 2**30


def budget(name: str, gpu: int, weights: int, options: dict[str, Any] | None = None, **more: Any) -> Budget:
    engine = find_engine(name)
    assert engine.budget is not None
    settings = engine.configure(**(options or {}))
    return engine.budget(settings, gpu_memory_bytes=gpu, weights_bytes=weights, **more)


def test_memory_is_divided_by_charges_before_and_within_the_fraction() -> None:
    """1,001 B: 100 before, 3/4 of the 901 that are left, of which 200 and the weights' 50 are paid."""
    before = Charge(name="before", bytes=100, low=1, high=2, source="a log")
    within = Charge(name="within", bytes=200, source="another log", within=True)

    def divided(**changes: Any) -> Budget:
        terms: dict[str, Any] = {
            "gpu_memory_bytes": 1001, "weights_bytes": 50, "fraction": Fraction(3, 4), "fraction_of": "what is left",
            "charges": (before, within), "given": None, "weights_within": True,
        }  # fmt: skip
        return divide("engine", **{**terms, **changes})

    found = divided()
    # 901 x 3/4 = 675.75
    assert (found.requested_bytes, found.available_bytes, found.reserve_bytes) == (675, 675 - 250, 901 - 675)
    assert (found.engine, found.gpu_memory_bytes, found.fraction) == ("engine", 1001, Fraction(3, 4))
    assert divided(rounded_up=True).requested_bytes == 676
    # weights before the fraction: (1,001 - 150) x 3/4 = 638.25
    assert divided(weights_within=False).available_bytes == 638 - 200
    shown = [(o.name, o.bytes, o.given, o.low_bytes, o.high_bytes, o.source) for o in found.overheads]
    assert shown == [
        ("weights", 50, False, 50, 50, "one rank's share of the checkpoint"),
        ("before", 100, False, 1, 2, "a log"),
        ("within", 200, False, 0, 0, "another log"),
    ]
    # given wins over estimated, estimated over usual; zero is a figure
    found = divided(given={"before": 0}, estimates={"before": 7, "within": 0})
    shown = [(o.bytes, o.given, o.source) for o in found.overheads[1:]]
    assert shown == [(0, True, "a log"), (0, False, "for this model and GPU; another log")]
    # nothing is left rather than less than nothing
    assert (divided(gpu_memory_bytes=99).requested_bytes, divided(gpu_memory_bytes=99).reserve_bytes) == (0, 0)
    assert divided(weights_bytes=5000).available_bytes == 0
    with pytest.raises(KvcalcError, match="engine has no overhead 'befor'") as caught:
        divided(given={"befor": 1})
    assert caught.value.problems[0].help == "did you mean before?"
    with pytest.raises(KvcalcError) as caught:
        divided(given={"x" * 31: 1})
    (problem,) = caught.value.problems
    assert (problem.message, problem.help) == (f"engine has no overhead '{'x' * 30}'", "it has before, within")


def test_memory_outside_the_allocator() -> None:
    """One GPU: context and libraries; more: NCCL's buffers too, unless PCIe alone links them."""
    assert [outside_bytes(ranks) for ranks in (1, 2, 8)] == [GIB // 2, GIB * 3 // 2, GIB * 3 // 2]
    assert [outside_bytes(ranks, linked=False) for ranks in (1, 2)] == [GIB // 2, GIB // 2]


def charges(found: Budget) -> dict[str, tuple[int, int, int]]:
    """Default, and the range of published logs, in hundredths of a GiB."""
    return {o.name: tuple(round(100 * size / GIB) for size in (o.bytes, o.low_bytes, o.high_bytes))
            for o in found.overheads[1:]}  # type: ignore[misc]  # fmt: skip


def exactly(found: Budget, hundredths: dict[str, tuple[int, int, int]]) -> bool:
    """To the byte, rounded down."""
    return {o.name: (o.bytes, o.low_bytes, o.high_bytes) for o in found.overheads[1:]} == {
        name: tuple(GIB * figure // 100 for figure in figures) for name, figures in hundredths.items()
    }


def test_vllms_share_is_of_the_total() -> None:
    """0.92 of 80 GiB rounded up, 0.90 before 0.21; 16 GiB of weights, 0.5 outside, 1.3 of activations, 0.6 of graphs.

    Ranges: 0.05 to 3.58 GiB outside the allocator, 0.19 to 36.63 of activations, 0.04 to 7 of graphs (docs/memory.md).
    """
    found = budget("vllm", 80 * GIB + 1, 16 * GIB)
    assert exactly(found, {
        "non_torch": (50, 5, 358), "activation": (130, 19, 3663), "absorbed": (0, 0, 200), "cuda_graphs": (60, 4, 700),
    })  # fmt: skip
    assert found.fraction_of == "the GPU's total memory"
    requested = (80 * GIB + 1) * 92 // 100 + 1
    assert (found.requested_bytes, found.reserve_bytes) == (requested, 80 * GIB + 1 - requested)
    overheads = 16 * GIB + GIB // 2 + GIB * 13 // 10 + GIB * 6 // 10
    assert found.available_bytes == requested - overheads
    older = budget("vllm", 80 * GIB, 16 * GIB, {"version": "0.20.9"})
    assert (older.fraction, charges(older)["cuda_graphs"][0]) == (Fraction(90, 100), 60)
    assert [o.bytes for o in budget("vllm", GIB, 0, {"version": "0.19.9"}).overheads if o.name == "cuda_graphs"] == [0]
    assert budget("vllm", 80 * GIB, 0, utilization=Fraction(1, 2)).requested_bytes == 40 * GIB
    several = budget("vllm", 80 * GIB, 0, {"parallel": parallel(tp=2)}, overheads={"absorbed": 3})
    assert charges(several)["non_torch"][0] == 150
    assert [o.name for o in several.overheads if o.given] == ["absorbed"]
    assert several.available_bytes == several.requested_bytes - 3 - sum(
        o.bytes for o in several.overheads[1:] if not o.given
    )
    estimated = budget("vllm", 80 * GIB, 0, estimates={"activation": 5})
    assert [o.bytes for o in estimated.overheads if o.name == "activation"] == [5]


PREFILL_GRAPHS = {2048: 8 + 14 + 8 + 8 + 4, 4096: 8 + 14 + 8 + 8 + 12, 8192: 8 + 14 + 8 + 8 + 12 + 8, 16384: 74}
"""Captured prefills up to a chunk: every 4 tokens to 32, 16 to 256, 32 to 512, 64 to 1,024, 256 to 4,096, then 512."""


def test_sglangs_tables() -> None:
    """Read in memory_hook.py and cuda_graph_hook.py; a figure's last bit is lost where fractions are rounded."""
    rows = [(tier.below / 1024, tier.chunked_prefill, *tier.graphs) for tier in sglang.TIERS]
    assert rows == [
        (20, 2048, 8, 8), (35, 4096, 48, 160), (60, 4096, 32, 160), (160, 8192, 256, 512),
        (float("inf"), 16384, 512, 512),
    ]  # fmt: skip
    captured = list(sglang.PREFILL_GRAPHS)
    assert captured == sorted(set(captured))
    steps = {32: 4, 256: 16, 512: 32, 1024: 64, 4096: 256, 16384: 512}
    for size, following in pairwise(captured):
        assert following - size == next(step for end, step in steps.items() if following <= end)
    assert (captured[0], captured[-1]) == (4, 16384)


SGLANG = [
    # (GPU, MiB as the driver reports them, ranks, options, MiB kept free by the rule)
    ("T4", 15_360, {}, {}, 512 + 1.5 * 2048 + 128 + 2 * 8 + 8 * PREFILL_GRAPHS[2048]),
    ("just below 20 GiB, TP 4", 20_479, {"tp": 4}, {}, 512 + 3072 + 4 * 128 + 2 * 8 + 8 * PREFILL_GRAPHS[2048]),
    ("20 GiB", 20_480, {}, {}, 512 + 1.5 * 4096 + 128 + 2 * 48 + 8 * PREFILL_GRAPHS[4096]),
    ("A10, TP 3", 23_028, {"tp": 3}, {}, 512 + 1.5 * 4096 + 3 * 128 + 2 * 48 + 8 * PREFILL_GRAPHS[4096]),
    ("A10, TP 4", 23_028, {"tp": 4}, {}, 512 + 1.5 * 4096 + 4 * 128 + 2 * 160 + 8 * PREFILL_GRAPHS[4096]),
    ("35 GiB", 35_840, {}, {}, 512 + 1.5 * 4096 + 128 + 2 * 32 + 8 * PREFILL_GRAPHS[4096]),
    ("L40S, TP 4", 46_068, {"tp": 4}, {}, 512 + 1.5 * 4096 + 4 * 128 + 2 * 160 + 8 * PREFILL_GRAPHS[4096]),
    ("60 GiB", 61_440, {}, {}, 512 + 1.5 * 8192 + 128 + 2 * 256 + 8 * PREFILL_GRAPHS[8192]),
    ("H100", 81_559, {}, {}, 512 + 1.5 * 8192 + 128 + 2 * 256 + 8 * PREFILL_GRAPHS[8192]),
    ("H200, TP 8, PP 2", 143_771, {"tp": 8, "pp": 2}, {}, 512 + 12_288 + 128 * 16 + 2 * 512 + 8 * PREFILL_GRAPHS[8192]),
    ("160 GiB", 163_840, {}, {}, 512 + 1.5 * 16384 + 128 + 2 * 512 + 8 * PREFILL_GRAPHS[16384]),
    ("B200, TP 4", 183_359, {"tp": 4}, {}, 512 + 1.5 * 16384 + 4 * 128 + 2 * 512 + 8 * PREFILL_GRAPHS[16384]),
    # a latent's prefill graphs: 1,536 for all
    ("H100, MLA", 81_559, {}, {"mla": True}, 512 + 1.5 * 8192 + 128 + 2 * 256 + 1536),
    # GPUs of a size where a MiB more, or less, would show in the third decimal
    ("61,504 MiB, MLA", 61_504, {}, {"mla": True}, 512 + 1.5 * 8192 + 128 + 2 * 256 + 1536),
    ("61,499 MiB, MLA", 61_499, {}, {"mla": True}, 512 + 1.5 * 8192 + 128 + 2 * 256 + 1536),
    # --enable-dp-attention: 3 x largest graph x dp more; 4.5 above graphs of 300
    ("H100, DP 2", 81_559, {"dp": 2}, {}, 512 + 12_288 + 2 * 128 + 2 * 256 + 3 * 256 * 2 + 8 * PREFILL_GRAPHS[8192]),
    ("H100, DP 8", 81_559, {"dp": 8}, {}, 512 + 12_288 + 8 * 128 + 2 * 512 + 4.5 * 512 * 8 + 8 * PREFILL_GRAPHS[8192]),
]  # fmt: skip


@pytest.mark.parametrize(("mib", "ranks", "options", "kept"), [pytest.param(*row[1:], id=row[0]) for row in SGLANG])
def test_sglangs_share_follows_the_gpus_size(
    mib: int, ranks: dict[str, int], options: dict[str, bool], kept: float
) -> None:
    settings = sglang.Settings(parallel=parallel(**ranks), **options)  # type: ignore[arg-type]
    assert sglang.default_fraction(settings, mib * MIB) == Fraction(round((mib - kept) / mib, 3)).limit_denominator(
        1000
    )


def test_sglangs_share_is_of_what_is_free_before_loading() -> None:
    """H100: 81,559 MiB less 0.5 GiB; 0.83 of it, out of which the weights are paid."""
    found = budget("sglang", 81_559 * MIB, 16 * GIB)
    free = 81_559 * MIB - GIB // 2
    assert found.fraction == Fraction(83, 100)
    assert found.available_bytes == free * 83 // 100 - 16 * GIB
    assert found.reserve_bytes == free - free * 83 // 100
    assert charges(found) == {"before_loading": (50, 0, 400)}
    assert found.fraction_of == "the memory that is free before the weights are loaded"
    given = budget("sglang", 81_559 * MIB, 0, utilization=Fraction(1, 2), overheads={"before_loading": 0})
    assert given.available_bytes == 81_559 * MIB // 2
    assert (
        budget("sglang", GIB, 0, utilization=Fraction(1, 2), estimates={"before_loading": 0}).available_bytes
        == GIB // 2
    )


def test_tensorrt_llms_share_is_of_what_is_free_after_a_trial_run() -> None:
    """0.9 of 80 GiB less 16 of weights, 0.5 outside the allocator and 1 for the engine's own buffers."""
    found = budget("tensorrt-llm", 80 * GIB, 16 * GIB)
    assert found.available_bytes == found.requested_bytes == (64 * GIB - GIB * 3 // 2) * 9 // 10
    assert charges(found) == {"runtime": (150, 50, 800)}
    assert charges(budget("tensorrt-llm", 80 * GIB, 0, {"parallel": parallel(tp=2)}))["runtime"][0] == 250
    given = budget("tensorrt-llm", 80 * GIB, 0, utilization=Fraction(1, 2), overheads={"runtime": 0})
    assert given.available_bytes == 40 * GIB
    assert budget("tensorrt-llm", 80 * GIB, 0, estimates={"runtime": 0}).available_bytes == 72 * GIB


def test_lmdeploys_share_is_of_what_is_free_less_the_logits() -> None:
    """0.8 of 80 GiB less weights, 0.5 GiB and (8,192 + 2 x 128) x 128,256 x 2 B of logits."""
    found = budget("lmdeploy", 80 * GIB, 16 * GIB)
    logits = (8192 + 2 * 128) * 128_256 * 2
    assert found.available_bytes == (64 * GIB - GIB // 2 - logits) * 8 // 10
    shown = charges(found)
    assert (shown["before_loading"], shown["runtime"][1:]) == ((50, 0, 400), (0, 800))
    options = {"vocab_size": 1000, "max_prefill_token_num": 10, "max_batch_size": 3}
    (_, _, runtime) = budget("lmdeploy", 80 * GIB, 0, options).overheads
    assert runtime.bytes == (10 + 2 * 3) * 1000 * 2
    given = budget("lmdeploy", GIB, 0, utilization=Fraction(1, 2), overheads={"before_loading": 0, "runtime": 0})
    assert given.available_bytes == GIB // 2
    assert (
        budget("lmdeploy", GIB, 0, estimates={"before_loading": 0, "runtime": 24}).available_bytes
        == (GIB - 24) * 4 // 5
    )


@pytest.mark.parametrize(
    ("name", "batch"),
    # lmdeploy 0.18.0 utils.py get_max_batch_size
    [("a100-80gb", 384), ("A800", 384), ("h100-sxm", 1024), ("h800", 1024), ("h200", 1024), ("l40s", 128)],
)
def test_lmdeploys_largest_batch_goes_by_the_gpus_name(name: str, batch: int) -> None:
    assert lmdeploy.gpu_defaults("0.18.0", 80 * GIB, name) == {"max_batch_size": batch}


@pytest.mark.parametrize(
    ("gib", "name", "version", "tokens", "sequences"),
    # vLLM 0.33.0 engine/arg_utils.py get_batch_defaults: A100s and GB10 count as small; V0 had 256 sequences
    [
        (80, "h100-sxm", "0.33.0", 8192, 1024), (70, "h100", "0.33.0", 8192, 1024), (69, "l40", "0.33.0", 2048, 256),
        (80, "A100-80gb", "0.33.0", 2048, 256), (120, "gb10", "0.33.0", 2048, 256), (159, "h200", "0.33.0", 8192, 1024),
        (160, "b200", "0.33.0", 16384, 1024), (80, "h100", "0.7.9", 8192, 256), (80, "h100", "0.8.0", 8192, 1024),
    ],
)  # fmt: skip
def test_vllms_step_goes_by_the_gpu_and_the_version(
    gib: int, name: str, version: str, tokens: int, sequences: int
) -> None:
    found = gpu_defaults(version, gib * GIB, name)
    assert found == {"max_num_batched_tokens": tokens, "max_num_seqs": sequences}


def test_the_trial_step_of_a_version() -> None:
    """Logits of the sampler: sorted with indices before 0.17, in place from then on (38 and 14 B a logit)."""
    new, old = Settings(), Settings(version="0.16.9")
    assert (new.trial.tokens, new.trial.sequences, new.trial.logit_bytes, new.trial.keeps_workspaces) == (
        8192, 1024, 2 + 4 + 4 + 4, True,
    )  # fmt: skip
    assert (old.trial.logit_bytes, old.trial.keeps_workspaces) == (38, False)
    assert Settings(version="0.17.0").trial == new.trial
    assert Settings(max_num_batched_tokens=7).trial.sequences == 7
