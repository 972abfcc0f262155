"""Pictures of reports: `--plot FILE.png` (or .svg, .pdf). matplotlib is imported here alone, and only when asked for.

Colours are Okabe and Ito's (safe for colour-blind readers), maps are cividis; every line and bar is labelled
besides. The same report gives the same bytes: no dates, no versions, no machine's own style.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from kvcalc.files import write_whole
from kvcalc.plan.report import GpuPlan, PlanReport
from kvcalc.problems import usage_error
from kvcalc.render.document import lengths_text, many, safe
from kvcalc.render.plan import plan_title
from kvcalc.render.sweep import plane_title
from kvcalc.roofline import Point, RooflineReport
from kvcalc.sweep import Plane, SweepReport
from kvcalc.tiers import TiersReport
from kvcalc.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = TypeVar("Report")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito, Color Universal Design (2008)."""
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
MOST_LINES = 16


def draw(report: Report, figure: Callable[[Report], Figure], path: str) -> None:
    """Draw a report into a file whose suffix says which kind.

    Raises:
        KvcalcError: matplotlib is missing, an unknown suffix, or a path that cannot be written.
    """
    suffix = picture_kind(path)
    import matplotlib
    from matplotlib.text import Text

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks: they are drawn as boxes
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "kvcalc", "axes.unicode_minus": False, "font.size": 9})
        drawn = figure(report)
        for text in drawn.findobj(Text):
            text.set_text(_plain(text.get_text()))
        out = io.BytesIO()
        drawn.savefig(out, format=suffix, dpi=150, metadata=_METADATA[suffix])
    write_whole(path, out.getvalue())


def _plain(text: str) -> str:
    """Text that no reader of pictures takes for more: a name that holds dollars is no formula."""
    return safe(text).replace("$", r"\$")


def picture_kind(path: str) -> str:
    """`png`, `svg` or `pdf`; worth asking before a long search.

    Raises:
        KvcalcError: matplotlib is missing, or an unknown suffix.
    """
    suffix = path.rpartition(".")[2].lower()
    if suffix not in _METADATA:
        raise usage_error(f"{path[-60:]!r} is no picture's name", help="end it in .png, .svg or .pdf")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise usage_error("--plot needs matplotlib", help="pip install 'kvcalc[plot]'") from error
    return suffix


def plot_tiers(report: TiersReport, path: str) -> None:
    """The ladder of tiers."""
    draw(report, tiers_figure, path)


def plot_roofline(report: RooflineReport, path: str) -> None:
    """The roofs of a GPU with a point per component of the step."""
    draw(report, roofline_figure, path)


def plot_sweep(report: SweepReport, path: str) -> None:
    """The plane of one model with the frontier of what fits, or several models' caches against the length."""
    draw(report, sweep_figure, path)


def plot_plan(report: PlanReport, path: str) -> None:
    """The front over all batch sizes, with the answer on it."""
    draw(report, plan_figure, path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tiers_figure(report: TiersReport) -> Figure:
    """Left: one decode step's read from each tier. Right: what each holds, against this cache."""
    lines = [line for line in report.tiers if line.read_s is not None]
    figure = _figure(9.5, 1.4 + 0.5 * len(lines))
    reads, holds = figure.subplots(1, 2, sharey=True)
    places = range(len(lines))
    times = [line.read_s or 0.0 for line in lines]
    texts = [f"{format_seconds(line.read_s or 0.0)} at {format_rate(line.bytes_per_s or 0, 'B/s')}" for line in lines]
    _ladder(reads, times, texts, COLOURS[0])
    reads.set_yticks(list(places), [_plain(line.title) for line in lines])
    reads.invert_yaxis()
    reads.set_xlabel("one decode step's read, at least [s]")
    sizes = [float(line.capacity_bytes or 0) for line in lines]
    held = ["not bounded" if line.capacity_bytes is None else format_bytes(line.capacity_bytes) for line in lines]
    _ladder(holds, sizes, held, COLOURS[2])
    holds.axvline(report.cache_bytes, color=COLOURS[1], linestyle="--")
    holds.set_title(f"dashed: this cache, {format_bytes(report.cache_bytes)}", fontsize=9, color=COLOURS[1])
    holds.set_xlabel("holds [B]")
    lengths = lengths_text(report.batch_size, report.seq_len, report.encoder_len)
    figure.suptitle(
        f"{report.model} on {report.gpu}: {lengths}, {report.kv_cache_dtype}"
        + (f"\n{report.calibration}" if report.calibration else "")
    )
    return figure


def _ladder(axes: Axes, values: list[float], texts: list[str], colour: str) -> None:
    """Horizontal bars on a logarithmic axis, each with its figure beside it."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 4, max(positive) * 200
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.barh(range(len(values)), [max(value, low) for value in values], color=colour, height=0.6)
    for place, (value, text) in enumerate(zip(values, texts, strict=True)):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(max(value, low) * 1.25, place, text, va="center", fontsize=8, bbox=box)
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.set_axisbelow(True)


def roofline_figure(report: RooflineReport) -> Figure:
    """Attainable FLOP/s over FLOP/B; every component lies on the roof of its operands' type."""
    figure = _figure(9.5, 5.2)
    axes = figure.subplots()
    shown = [p for p in report.points if p.intensity and p.seconds > 0.001 * report.time.seconds]
    reach = [p.intensity or 1.0 for p in shown] + list(report.ridges.values())
    low, high = min(reach) / 4, max(reach) * 8
    for index, (dtype, ridge) in enumerate(sorted(report.ridges.items(), key=lambda item: item[1])):
        peak = report.flops_per_s[dtype]
        axes.plot(
            [low, ridge, high], [low * report.bytes_per_s, peak, peak], color="0.35", linestyle=STYLES[index % 4],
            label=f"{dtype}: {format_rate(peak, 'FLOP/s')}, ridge {ridge:,.4g} FLOP/B",
        )  # fmt: skip
    axes.plot([], [], " ", label=f"memory: {format_rate(report.bytes_per_s, 'B/s')}")
    for index, each in enumerate(sorted(shown, key=lambda p: -p.seconds)[:MOST_LINES]):
        axes.plot(
            [each.intensity or 0.0], [each.flops / each.seconds], linestyle="none", markersize=max(6, 14 - 2 * index),
            marker=MARKERS[index % len(MARKERS)], color=COLOURS[index % 7], markeredgecolor="black",
            label=_point_text(each),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("arithmetic intensity [FLOP/B]")
    axes.set_ylabel("attainable [FLOP/s]")
    axes.grid(which="major", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    counted = report.traffic
    ranks = f", one rank of {counted.shards}" if counted.shards else ""
    figure.suptitle(
        f"{counted.model} on {report.gpu}: {counted.phase} of {lengths_text(counted.batch_size, counted.seq_len)},"
        f" {counted.kv_cache_dtype}{ranks}" + (f"\n{report.calibration}" if report.calibration else "")
    )
    return figure


def _point_text(each: Point) -> str:
    name = f"{each.layers} x {each.name}" if each.layers else each.name
    return f"{name}\n  {format_seconds(each.seconds)}, bound by {each.bound_by}"


def plan_figure(report: PlanReport) -> Figure:
    """Tokens per second of a user against those of a GPU: a line per kind of GPU, a marker per layout."""
    figure = _figure(9.5, 5.2)
    axes = figure.subplots()
    markers: dict[str, str] = {}
    for index, plan in enumerate(report.plans):
        _front(axes, plan, COLOURS[index % 7], markers, above=index % 2 == 0)
        if plan.choices:
            first = plan.choices[0]
            axes.plot(
                [1 / (first.loaded_tpot_s or first.speed.tpot_s)], [first.tokens_per_s_per_gpu], linestyle="none",
                marker="*", markersize=17, color=COLOURS[index % 7], markeredgecolor="black", zorder=4,
                label=f"answer: {first.gpus:,} x {plan.gpu}\n  {first.label}, {first.batch_size:,} sequences",
            )  # fmt: skip
    if not any(plan.frontier for plan in report.plans):
        axes.plot([], [], " ", label="nothing fits")
    if report.tpot_s is not None:
        limit = f"TPOT {format_seconds(report.tpot_s)}: too slow on the left"
        axes.axvline(1 / report.tpot_s, color="0.35", linestyle="--", label=limit)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    axes.set_xlabel("tokens/s of a user, at most")
    axes.set_ylabel("tokens/s of a GPU, at most")
    axes.grid(which="major", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    figure.suptitle(
        f"{plan_title(report)}\nfront over all batch sizes (beside the points: sequences at once)", fontsize=10
    )
    return figure


def _front(axes: Axes, plan: GpuPlan, colour: str, markers: dict[str, str], *, above: bool) -> None:
    """One kind of GPU: its points, by layout; `markers` are those of all kinds so far."""
    points = plan.frontier
    axes.plot(
        [p.tokens_per_s_per_user for p in points], [p.tokens_per_s_per_gpu for p in points], color=colour, linewidth=1,
        alpha=0.6,
    )  # fmt: skip
    layouts = dict.fromkeys((point.label, point.gpus) for point in points)
    for label, gpus in layouts:
        mine = [point for point in points if (point.label, point.gpus) == (label, gpus)]
        marker = markers.setdefault(label, MARKERS[len(markers) % (len(MARKERS) - 1)])
        axes.plot(
            [p.tokens_per_s_per_user for p in mine], [p.tokens_per_s_per_gpu for p in mine], linestyle="none",
            marker=marker, color=colour, markersize=6, label=f"{gpus:,} x {plan.gpu}, {label}",
        )  # fmt: skip
    said = (0.0, 0.0)
    for point in points:
        place = (point.tokens_per_s_per_user, point.tokens_per_s_per_gpu)
        if all(abs(a - b) < 0.15 * a for a, b in zip(place, said, strict=True)):
            continue  # it would be written over the one before
        said = place
        offset, side = ((5, 3), "left") if above else ((-5, -9), "right")
        axes.annotate(
            f"{point.batch_size:,}", place, fontsize=7, color=colour, xytext=offset, textcoords="offset points", ha=side
        )


def _plain_ticks(axis: Any) -> None:
    """`20`, `1000` on a logarithmic axis, in place of powers of ten."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter(LogFormatter(labelOnlyBase=False))
    axis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2.5, 0.6)))


def sweep_figure(report: SweepReport) -> Figure:
    """A heat map of one plane, or lines where there are several (or one batch size alone)."""
    if len(report.planes) == 1 and len(report.planes[0].batches) > 1 and len(report.planes[0].lengths) > 1:
        return _plane_figure(report.planes[0])
    return _lines_figure(report)


def _lines_figure(report: SweepReport) -> Figure:
    """Cache against length, a line per plane: a window's line turns flat."""
    if len(report.planes) > MOST_LINES:
        raise usage_error(f"{len(report.planes)} lines cannot be told apart", help=f"draw at most {MOST_LINES}")
    figure = _figure(8.5, 5.2)
    axes = figure.subplots()
    batch = report.planes[0].batches.tolist()[0]
    for index, plane in enumerate(report.planes):
        kept = plane.block(0, 1).cache_bytes[0]
        axes.plot(
            [float(n) for n in plane.lengths.tolist()], [float(n) for n in kept.tolist()], label=plane_title(plane),
            color=COLOURS[index % 7], linestyle=STYLES[index // 7 % 4], marker=MARKERS[index % 8], markersize=4,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    _count_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: format_bytes(int(value)) if value >= 1 else "")
    axes.set_xlabel("tokens per sequence")
    axes.set_ylabel("KV cache [B]")
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(f"KV cache of {many(batch, 'sequence')} against {'its' if batch == 1 else 'their'} length")
    return figure


def _plane_figure(plane: Plane) -> Figure:
    """Colour: time bound of a decode step, or cache where no GPU is given. A line: the frontier of what fits."""
    import numpy as np
    from matplotlib.colors import LogNorm

    figure = _figure(8.5, 5.2)
    axes = figure.subplots()
    rows, columns = (_some(len(axis), 400) for axis in (plane.batches, plane.lengths))
    whole = [plane.block(row, row + 1) for row in rows]
    values, label = [], "KV cache [GiB]"
    for block in whole:
        if block.seconds is not None:
            values.append(block.seconds[0, columns] * 1e3)
            label = "decode step, at least [ms]"
        else:
            values.append(np.array([float(n) / 2**30 for n in block.cache_bytes[0, columns].tolist()]))
    lengths = [float(plane.lengths.tolist()[index]) for index in columns]
    batches = [float(plane.batches.tolist()[index]) for index in rows]
    grid = np.maximum(np.array(values), 1e-12)
    mesh = axes.pcolormesh(
        _edges(lengths), _edges(batches), grid, norm=LogNorm(), cmap="cividis", shading="flat", rasterized=True
    )
    figure.colorbar(mesh, ax=axes, label=label)
    if whole[0].fits is not None:
        fits = np.array([block.fits[0, columns] for block in whole if block.fits is not None])
        _frontier(axes, lengths, batches, fits)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    _count_ticks(axes.xaxis)
    _count_ticks(axes.yaxis)
    axes.set_xlabel("tokens per sequence")
    axes.set_ylabel("sequences (batch)")
    figure.suptitle(plane_title(plane) + (f"\n{plane.calibration}" if plane.calibration else ""))
    return figure


def _frontier(axes: Axes, lengths: list[float], batches: list[float], fits: Any) -> None:
    """A staircase above the largest batch that fits each length; at the bottom where none does."""
    if fits.all() or not fits.any():
        said = "every point fits" if fits.all() else "no point fits"
        axes.plot([], [], " ", label=said)
    else:
        across, up = _edges(lengths), _edges(batches)
        tops = [up[int(column.sum())] for column in fits.T]
        axes.stairs(tops, across, baseline=None, color="white", linewidth=4)
        axes.stairs(tops, across, baseline=None, color=COLOURS[1], linewidth=2, label="fits below this line")
    axes.legend(loc="upper right", fontsize=8)


def _edges(values: list[float]) -> list[float]:
    """Borders of the cells around logarithmically placed values."""
    inner = [(a * b) ** 0.5 for a, b in pairwise(values)]
    return [values[0] ** 2 / inner[0], *inner, values[-1] ** 2 / inner[-1]]


def _some(count: int, most: int) -> list[int]:
    """At most `most` indices, evenly spread."""
    return list(range(0, count, -(-count // most)))


def _count_ticks(axis: Any) -> None:
    """`1K`, `32K`: powers of two as a user writes them."""

    def text(value: float, _: object) -> str:
        count = round(value)
        for size, name in ((2**30, "G"), (2**20, "M"), (2**10, "K")):
            if count >= size and count % size == 0:
                return f"{count // size}{name}"
        return f"{count:,}" if abs(count - value) < 1e-6 else ""

    axis.set_major_formatter(text)
