"""Predicted decode-attention times against measured ones: constants fitted on some cases, judged on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import median

import torch

from kernels_ref.families import FAMILIES, Family, bytes_read
from kernels_ref.kernel_cases import run_case, suits
from kernels_ref.report import Accuracy, Calibration, Prediction

FITTED_ON = ((4, 8192), (32, 2048), (8, 32768), (32, 16384), (16, 4096), (1, 65536))
"""(batch, tokens); eightfold batches where a sequence is one row."""
JUDGED_ON = (
    (1, 131072), (2, 40960), (3, 20480), (6, 12288), (12, 10240), (24, 4096), (16, 24576), (64, 8192), (40, 6400),
    (5, 50048),
)  # fmt: skip
CALIBRATED = (
    "MHA bf16", "GQA-8 bf16", "MQA-64 bf16", "GQA-8 fp8", "GQA-8 int8", "GQA-8 int4-g64", "GQA-8 int4-g32-zp",
    "MLA-16 bf16", "MLA-128 bf16",
)  # fmt: skip


def fit(points: Sequence[tuple[int, int, float]]) -> tuple[float, float, float]:
    """(overhead, seconds per byte, seconds per row), none negative, least squares of the relative error.

    `points` are (bytes, rows, seconds).
    """
    seconds = torch.tensor([p[2] for p in points], dtype=torch.float64)
    columns = torch.tensor([[1e-6, p[0] * 1e-12, p[1] * 1e-9] for p in points], dtype=torch.float64)
    best, answer = float("inf"), (0.0, 0.0, 0.0)
    for count in (1, 2, 3):
        for kept in combinations(range(3), count):
            a = columns[:, kept] / seconds[:, None]
            solution = torch.linalg.lstsq(a, torch.ones(len(points), 1, dtype=torch.float64)).solution[:, 0]
            residual = float((a @ solution - 1).square().sum())
            if bool((solution >= 0).all()) and residual < best - 1e-12:
                full = [0.0, 0.0, 0.0]
                for index, value in zip(kept, solution.tolist(), strict=True):
                    full[index] = value
                best, answer = residual, (full[0] * 1e-6, full[1] * 1e-12, full[2] * 1e-9)
    return answer


def calibrated_family(name: str, family: Family, device: torch.device) -> tuple[Calibration, list[Prediction]]:
    """One family's constants, and its predictions."""
    eightfold = 8 if family.rows(1) == 1 else 1
    cases = [
        (b * eightfold, s, calibrates) for grid, calibrates in ((FITTED_ON, True), (JUDGED_ON, False)) for b, s in grid
    ]
    pool = family.fill(max(family.rows(b) * s for b, s, _ in cases), device)
    timed = [run_case(family, pool, b, s) for b, s, _ in cases]
    sizes = [bytes_read(family.kind, family.dtype, b, s) for b, s, _ in cases]
    overhead, per_byte, per_row = fit(
        [
            (size, family.rows(b), t.seconds)
            for (b, _, calibrates), size, t in zip(cases, sizes, timed, strict=True)
            if calibrates
        ]
    )
    predictions = [
        Prediction(
            family=name,
            batch_size=b,
            seq_len=s,
            predicted_bytes=size,
            flops=family.flops(b, s),
            predicted_s=overhead + size * per_byte + family.rows(b) * per_row,
            measured_s=t.seconds,
            relative_error=t.relative_error,
            calibrates=calibrates,
        )
        for (b, s, calibrates), size, t in zip(cases, sizes, timed, strict=True)
    ]
    constants = Calibration(
        kernel=family.kernel,
        family=name,
        format=family.dtype,
        overhead_s=overhead,
        bytes_per_s=1 / per_byte,
        row_s=per_row,
        flops_per_byte=predictions[0].flops / predictions[0].predicted_bytes,
        cases=len(FITTED_ON),
    )
    return constants, predictions


def calibrate(
    device: torch.device, say: Callable[[str], None] = lambda message: None
) -> tuple[tuple[Calibration, ...], tuple[Prediction, ...], Accuracy]:
    """Every calibrated family, and how far the unseen cases were off."""
    done = []
    for name in CALIBRATED:
        done.append(calibrated_family(name, suits(FAMILIES[name], device), device))
        off = [abs(p.ratio - 1) for p in done[-1][1] if not p.calibrates]
        say(f"{name}: predictions off by {median(off):.1%} (median), {max(off):.1%} (worst)")
    predictions = tuple(p for _, family in done for p in family)
    errors = [abs(p.ratio - 1) for p in predictions if not p.calibrates]
    accuracy = Accuracy(cases=len(errors), median_error=median(errors), worst_error=max(errors))
    return tuple(constants for constants, _ in done), predictions, accuracy
