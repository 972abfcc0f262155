"""Pictures: what their axes say, which series they hold, and that the same report gives the same bytes."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes

from kvcalc.plan.planfile import PlanSpec, Slo
from kvcalc.plan.planning import plan
from kvcalc.plan.report import PlanReport
from kvcalc.plan.resolving import resolve
from kvcalc.problems import KvcalcError
from kvcalc.render.plot import (
    COLOURS,
    plan_figure,
    plot_plan,
    plot_roofline,
    plot_sweep,
    plot_tiers,
    roofline_figure,
    sweep_figure,
    tiers_figure,
)
from kvcalc.roofline import RooflineReport, roofline
from kvcalc.spec.catalog import shipped_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.sweep import SweepReport, parse_axis, sweep
from kvcalc.tiers import TiersReport, tiers

H200 = find_hardware("h200")
BATCHES, LENGTHS = parse_axis("1:64:*2", "-b"), parse_axis("1K:128K:*2", "-s")


@pytest.fixture(scope="module")
def ladder() -> TiersReport:
    return tiers(
        shipped_model("qwen-72b"), find_hardware("a100-40gb"), batch_size=8, seq_len=32768,
        storage_bytes_per_s=7 * 10**9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def roof() -> RooflineReport:
    return roofline(shipped_model("deepseek-v3"), H200, batch_size=64, seq_len=8192)


@pytest.fixture(scope="module")
def one_plane() -> SweepReport:
    return sweep([shipped_model("llama-3.1-8b")], BATCHES, LENGTHS, gpus=[H200])


def planned(**asked: Any) -> PlanReport:
    resolved = resolve(
        PlanSpec(**{"model": "llama-3.1-8b", "gpu": ("h100", "h200"), "gpus": 8, "seq_len": "8K", **asked})
    )
    return plan(replace(resolved.request, frontier=True), resolved.hardware)


@pytest.fixture(scope="module")
def fronts() -> PlanReport:
    return planned(batch_size=64, slo=Slo(tpot="20ms"))


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


def test_ladder(ladder: TiersReport) -> None:
    reads, holds = tiers_figure(ladder).axes
    assert reads.get_xlabel() == "one decode step's read, at least [s]"
    assert holds.get_xlabel() == "holds [B]"
    assert [label.get_text() for label in reads.get_yticklabels()] == [line.title for line in ladder.tiers]
    widths = [bar.get_width() for bar in reads.patches]
    assert widths == pytest.approx([line.read_s for line in ladder.tiers])
    assert holds.lines[0].get_xdata()[0] == ladder.cache_bytes
    assert (reads.get_xscale(), holds.get_xscale()) == ("log", "log")


def test_roof(roof: RooflineReport) -> None:
    (axes,) = roofline_figure(roof).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arithmetic intensity [FLOP/B]", "attainable [FLOP/s]")
    said = legend(axes)
    assert any(text.startswith("bf16: 989 TFLOP/s, ridge 206") for text in said)
    assert "61 x MLA 128 x (512+64)\n  9.007 ms, bound by compute" in said
    dots = [line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    mla = next(line for line in dots if line.get_label().startswith("61 x MLA"))
    assert mla.get_xdata()[0] == pytest.approx(241.75, abs=0.01)
    assert mla.get_ydata()[0] == pytest.approx(989e12)
    for line in dots:
        assert (
            line.get_ydata()[0] <= min(max(roof.flops_per_s.values()), line.get_xdata()[0] * roof.bytes_per_s) * 1.001
        )


def test_plane_with_frontier(one_plane: SweepReport) -> None:
    axes, bar = sweep_figure(one_plane).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens per sequence", "sequences (batch)")
    assert bar.get_ylabel() == "decode step, at least [ms]"
    assert legend(axes) == ["fits below this line"]
    mesh = axes.collections[0]
    assert mesh.get_array().size == len(BATCHES) * len(LENGTHS)
    seconds = one_plane.planes[0].block(0, len(BATCHES)).seconds
    assert seconds is not None
    assert mesh.get_array().ravel().tolist() == pytest.approx((1e3 * seconds).ravel().tolist())


@pytest.mark.parametrize(("gpu", "said"), [("b300", "every point fits"), ("t4", "no point fits")])
def test_plane_without_frontier(gpu: str, said: str) -> None:
    report = sweep([shipped_model("llama-3.1-8b")], (1, 2), (1024, 2048), gpus=[find_hardware(gpu)])
    assert legend(sweep_figure(report).axes[0]) == [said]


def test_lines_of_models_saturate() -> None:
    names = ["qwen-72b", "gemma-3-27b", "mistral-7b-v0.1"]
    report = sweep([shipped_model(name) for name in names], (1,), LENGTHS)
    (axes,) = sweep_figure(report).axes
    assert legend(axes) == [f"{name}, bf16" for name in names]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens per sequence", "KV cache [B]")
    window = axes.lines[2].get_ydata()
    # Mistral-7B-v0.1: 131,072 B a token in a window of 4,096.
    assert window[-1] == window[LENGTHS.index(4096)] == 131_072 * 4096
    assert len({line.get_color() for line in axes.lines}) == 3
    assert {line.get_color() for line in axes.lines} <= set(COLOURS)


def test_fronts_of_kinds_of_gpu(fronts: PlanReport) -> None:
    (axes,) = plan_figure(fronts).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens/s of a user, at most", "tokens/s of a GPU, at most")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    for line, each in zip(lines, fronts.plans, strict=True):
        assert line.get_xdata().tolist() == [point.tokens_per_s_per_user for point in each.frontier]
        assert line.get_ydata().tolist() == [point.tokens_per_s_per_gpu for point in each.frontier]
    assert len({line.get_color() for line in lines}) == 2
    said = legend(axes)
    layouts = {(each.gpu, point.gpus, point.label) for each in fronts.plans for point in each.frontier}
    assert {f"{gpus} x {gpu}, {label}" for gpu, gpus, label in layouts} <= set(said)
    # 20 ms a token are 50 tokens/s.
    limit = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert limit.get_xdata()[0] == pytest.approx(50)
    assert "TPOT 20 ms: too slow on the left" in said


def test_the_answer_is_on_the_picture(fronts: PlanReport) -> None:
    (axes,) = plan_figure(fronts).axes
    stars = [line for line in axes.lines if line.get_marker() == "*"]
    for star, each in zip(stars, fronts.plans, strict=True):
        first = each.choices[0]
        assert star.get_xdata()[0] == pytest.approx(64 / first.speed.tokens_per_s * (1 / first.speed.tpot_s) ** 2)
        assert star.get_label() == f"answer: {first.gpus} x {each.gpu}\n  {first.label}, 64 sequences"


def test_a_plan_of_which_nothing_fits_is_drawn_as_such() -> None:
    report = planned(model="llama-3.1-405b", gpu="t4", batch_size=1)
    assert legend(plan_figure(report).axes[0]) == ["nothing fits"]


def test_too_many_lines(one_plane: SweepReport) -> None:
    crowd = SweepReport(planes=one_plane.planes * 17, assumptions=())
    with pytest.raises(KvcalcError, match="told apart"):
        sweep_figure(crowd)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_same_report_same_bytes(
    tmp_path: Path, suffix: str, ladder: TiersReport, roof: RooflineReport, one_plane: SweepReport, fronts: PlanReport
) -> None:
    jobs: list[tuple[Any, Any]] = [
        (plot_tiers, ladder), (plot_roofline, roof), (plot_sweep, one_plane), (plot_plan, fronts),
    ]  # fmt: skip
    for index, (plot, report) in enumerate(jobs):
        first, second = (tmp_path / f"{index}{turn}.{suffix}" for turn in "ab")
        plot(report, str(first))
        plot(report, str(second))
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size > 5000


def test_the_user_is_told(tmp_path: Path, ladder: TiersReport, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KvcalcError, match="no picture's name"):
        plot_tiers(ladder, str(tmp_path / "picture.txt"))
    with pytest.raises(KvcalcError, match="cannot be written"):
        plot_tiers(ladder, str(tmp_path / "nowhere" / "picture.png"))
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **more)

    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(KvcalcError) as told:
        plot_tiers(ladder, str(tmp_path / "picture.png"))
    assert told.value.problems[0].help == "pip install 'kvcalc[plot]'"


@pytest.mark.parametrize("name", ["$\\frac$", "a$b$", "x\x07\x1b[2J", "\u540d\u524d", "\u202e<b>&", "--", "_x"])
def test_any_name_can_be_drawn(
    name: str, tmp_path: Path, ladder: TiersReport, roof: RooflineReport, one_plane: SweepReport,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    """Names are no formulas, no markup, and no warning where the font lacks a letter."""
    for draw, report in (
        (plot_tiers, replace(ladder, model=name, gpu=name, calibration=name)),
        (plot_roofline, replace(roof, gpu=name, calibration=name)),
        (plot_sweep, replace(one_plane, planes=tuple(replace(plane, model=name) for plane in one_plane.planes))),
    ):
        path = tmp_path / "x.svg"
        draw(report, str(path))  # type: ignore[operator]
        ElementTree.parse(path)
    assert not recwarn.list
