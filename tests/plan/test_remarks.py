"""What a plan warns of, at the bounds, and for each of several kinds of GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning import dense_model, gpu, request

from kvcalc.plan.fit import fit
from kvcalc.plan.layouts import Pins
from kvcalc.plan.planning import plan
from kvcalc.plan.remarks import of_fit


def test_a_length_that_fills_the_context_is_no_fault():
    spec = dense_model(max_position_embeddings=2000)
    assert plan(request(spec, tokens=2000), [gpu()]).warnings == ()
    assert len(plan(request(spec, tokens=2001), [gpu()]).warnings) == 1


def test_sequences_that_wait_are_told_of_every_kind_of_gpu():
    """vLLM 0.33.0 runs 1,024 sequences at once on an H100 and 256 on an L4; one of 10 MB holds nothing at all."""
    small = gpu(10**7)
    for batch, kinds, warned in (
        (500, [gpu(), gpu(name="l4")], ["l4"]),
        (1025, [gpu(), gpu(name="l4")], ["h100-sxm", "l4"]),
        (1025, [small, gpu()], ["h100-sxm"]),
        (256, [small, gpu(name="l4")], []),
    ):
        found = plan(request(dense_model(), batch=batch, tokens=10, engine="vllm", max_gpus=1), kinds).warnings
        assert [said.split(" on a rank of ")[1].split(",")[0] for said in found] == warned


def test_sequences_that_wait_are_those_of_the_first_choice():
    """One GPU serves most per GPU, all 1,500 sequences on its rank; two data ranks of 750 read the weights twice."""
    asked = request(
        dense_model(), batch=1500, tokens=10, engine="vllm", objective="throughput", max_gpus=2, pins=Pins(pipeline=1)
    )
    report = plan(asked, [gpu()])
    assert report.plans[0].choices[-1].label == "TP1 x DP2"
    (said,) = report.warnings
    assert said.startswith("1,500 sequences on a rank of h100-sxm")


def test_the_setting_that_says_so_is_the_engines_own():
    """LMDeploy 0.18.0 runs 1,024 at once on an H100; transformers has no such setting."""
    asked = {"batch": 1025, "tokens": 10}
    (said,) = plan(request(dense_model(), engine="lmdeploy", **asked), [gpu()]).warnings
    assert said.endswith(
        "lmdeploy runs 1,024 at once (max_batch_size): --set max_batch_size=1025 counts what more take"
    )
    assert plan(request(dense_model(), engine="transformers", **asked), [gpu()]).warnings == ()


FIT = [([2048], []), ([2049], []), ([2050], ["1,025"]), ([2048, 4096], []), ([4096, 2050], ["2,048"]), ([], [])]


@pytest.mark.parametrize(("held", "told"), FIT, ids=[str(i) for i in range(len(FIT))])
def test_more_sequences_that_fit_than_an_engine_runs_are_told_of_a_rank_of_the_best_layout(held, told):
    """vLLM runs 1,024 at once on each of two data ranks."""
    asked = request(dense_model(), engine="vllm", tokens=10, pins=Pins(tensor=1, pipeline=1))
    line = fit(asked, gpu(), 2, 1, 10).lines[0]
    assert line.label == "TP1 x DP2"
    lines = [replace(line, max_batch_size=most) for most in held]
    assert [said.split()[0] for said in of_fit(asked, asked.job(), gpu(), lines)] == told
