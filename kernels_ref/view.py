"""The report as tables: predicted, measured, ratio."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from kernels_ref.report import ByteCheck, VerifyReport
from kvcalc.render.document import Column, Document, Table


def _ratio(measured: float, predicted: float) -> float | None:
    return measured / predicted if predicted else None


def _byte_table(checks: Iterable[ByteCheck]) -> Table:
    """One line per stream and format: what CSV holds."""
    columns = (
        Column("kind"), Column("stream"), Column("format"), Column("rows"), Column("heads"), Column("width"),
        Column("predicted", "B"), Column("measured", "B"), Column("predicted allocation", "B"),
        Column("measured allocation", "B"), Column("relative error"), Column("largest error"), Column("explained"),
        Column("ok"),
    )  # fmt: skip
    rows = tuple(
        (
            c.kind, c.stream, c.format, c.rows, c.heads, c.width, c.predicted_bytes, c.storage_bytes,
            c.predicted_allocated, c.allocated, c.relative_error, c.largest_error, c.explained, c.ok,
        )
        for c in checks
    )  # fmt: skip
    return Table(columns=columns, rows=rows)


def _format_table(checks: tuple[ByteCheck, ...]) -> Table:
    """One line per format: all kinds and streams that can be stored so."""
    columns = (
        Column("format"), Column("streams"), Column("predicted", "B"), Column("measured", "B"), Column("ratio"),
        Column("rms error", "%"), Column("largest error", "% of group"), Column("explained", "% of group"),
    )  # fmt: skip
    rows = []
    for name, group in groupby(sorted(checks, key=lambda c: c.format), key=lambda c: c.format):
        same = list(group)
        predicted, measured = sum(c.predicted_bytes for c in same), sum(c.storage_bytes for c in same)
        worst = max(same, key=lambda c: c.largest_error)
        rms = max(c.relative_error for c in same)
        rows.append(
            (
                name, len(same), predicted, measured, _ratio(measured, predicted), 100 * rms,
                100 * worst.largest_error, 100 * worst.explained,
            )
        )  # fmt: skip
    return Table(title="Bytes of every kind's streams, by format", columns=columns, rows=tuple(rows))


def _model_table(report: VerifyReport) -> Table:
    columns = (
        Column("model"), Column("tokens"), Column("tensors"), Column("predicted", "B"), Column("measured", "B"),
        Column("ratio"), Column("predicted allocation", "B"), Column("measured allocation", "B"),
    )  # fmt: skip
    rows = tuple(
        (
            m.model, m.seq_len, m.tensors, m.predicted_bytes, m.storage_bytes,
            _ratio(m.storage_bytes, m.predicted_bytes), m.predicted_allocated, m.allocated,
        )
        for m in report.models
    )  # fmt: skip
    return Table(title="Whole models, one sequence in bf16", columns=columns, rows=rows)


def _kernel_table(report: VerifyReport) -> Table:
    columns = (
        Column("decode step"), Column("by"), Column("batch"), Column("tokens"), Column("predicted", "B"),
        Column("measured", "B"), Column("time", "us"), Column("rate", "TB/s"), Column("rate", "TFLOP/s"),
        Column("share", "%"), Column("of"), Column("target", "%"), Column("reached"), Column("error"),
        Column("limited by", flexible=True),
    )  # fmt: skip
    rows = []
    for k in report.kernels:
        implementations = [(k.kernel, k.seconds, k.share_of_ceiling)]
        implementations += [(other.name, other.seconds, other.share_of_ceiling) for other in k.alternatives]
        for name, seconds, share in implementations:
            mine = name == k.kernel
            rows.append(
                (
                    k.case if mine else "", name, k.batch_size, k.seq_len, k.predicted_bytes, k.storage_bytes,
                    seconds * 1e6, k.predicted_bytes / seconds * 1e-12, k.flops / seconds * 1e-12, 100 * share,
                    k.ceiling, 100 * k.target if k.target and mine else None, k.reached if mine else None,
                    k.relative_error if mine else None, k.limited_by if mine else "",
                )
            )  # fmt: skip
    return Table(title="Decode steps against the measured ceilings", columns=columns, rows=tuple(rows))


def _prediction_table(report: VerifyReport) -> Table:
    columns = (
        Column("kernel"), Column("cases"), Column("median error", "%"), Column("worst error", "%"),
        Column("start-up", "us"), Column("rate", "TB/s"), Column("per row", "ns"),
    )  # fmt: skip
    rows = []
    for constants in report.calibrations:
        errors = sorted(
            abs(p.ratio - 1) for p in report.predictions if p.family == constants.family and not p.calibrates
        )
        rows.append(
            (
                constants.family, len(errors), 100 * errors[len(errors) // 2], 100 * errors[-1],
                constants.overhead_s * 1e6, constants.bytes_per_s * 1e-12, constants.row_s * 1e9,
            )
        )  # fmt: skip
    return Table(title="Predicted times of cases that the calibration had not seen", columns=columns, rows=tuple(rows))


def verify_document(report: VerifyReport) -> Document:
    """Tables for a terminal; CSV gets every byte check."""
    machine = report.machine
    facts = [
        ("machine", f"{machine.device}, {machine.platform}" + (f", driver {machine.driver}" if machine.driver else "")),
        ("software", f"torch {machine.torch}, triton {machine.triton}, Python {machine.python}"),
        ("measured", f"{machine.date} by `{machine.command}`"),
    ]
    if report.ceilings is not None:
        rates = ", ".join(
            f"{name} {rate * 1e-12:,.4g} TFLOP/s" for name, rate in report.ceilings.gemm_flops_per_s.items()
        )
        facts.append(("ceilings", f"read {report.ceilings.read_bytes_per_s * 1e-9:,.0f} GB/s, copy "
                      f"{report.ceilings.copy_bytes_per_s * 1e-9:,.0f} GB/s, matrix product {rates}"))  # fmt: skip
    worst = max((c.relative_error for c in report.references), default=0.0)
    facts.append(
        ("meaning", f"{len(report.references)} kinds decode from their cache as without one (worst {worst:.0e})")
    )
    if report.accuracy is not None:
        a = report.accuracy
        facts.append(("predictions", f"{a.cases} cases, median {a.median_error:.1%} off, worst {a.worst_error:.1%}"))
    tables = [_format_table(report.bytes)]
    tables += [_model_table(report)] if report.models else []
    tables += [_kernel_table(report)] if report.kernels else []
    tables += [_prediction_table(report)] if report.calibrations else []
    verdict = "all agree" if not report.disagreements else f"{len(report.disagreements)} disagree"
    return Document(
        title=f"{len(report.bytes)} streams and {len(report.models)} models stored for real: {verdict}",
        tables=tuple(tables),
        facts=tuple(facts),
        notes=(
            *(f"disagrees: {line}" for line in report.disagreements),
            *(f"not proven here: {line}" for line in report.not_proven),
        ),
        data=_byte_table(report.bytes),
    )
