"""The fit behind a calibrated prediction."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")

pytest.importorskip("triton", reason="the calibration times triton kernels")

from kernels_ref.calibrate import CALIBRATED, FITTED_ON, JUDGED_ON, fit


def test_constants_that_made_the_times_are_found_again() -> None:
    points = [
        (size, rows, 10e-6 + size / 4e12 + rows * 100e-9)
        for size, rows in ((10**8, 32), (10**9, 8), (10**7, 256), (4 * 10**9, 64))
    ]
    overhead, per_byte, per_row = fit(points)
    assert overhead == pytest.approx(10e-6, rel=1e-6)
    assert 1 / per_byte == pytest.approx(4e12, rel=1e-6)
    assert per_row == pytest.approx(100e-9, rel=1e-6)


def test_no_constant_is_negative() -> None:
    # Times that fall with the rows: a least-squares plane would give a row a negative cost.
    points = [(10**9, 8, 260e-6), (10**9, 64, 250e-6), (2 * 10**9, 8, 520e-6), (2 * 10**9, 512, 490e-6)]
    assert min(fit(points)) >= 0.0


def test_predictions_are_judged_on_at_least_sixty_cases_that_the_fit_has_not_seen() -> None:
    assert not set(FITTED_ON) & set(JUDGED_ON)
    assert len(CALIBRATED) * len(JUDGED_ON) >= 60


def test_lengths_are_whole_blocks() -> None:
    assert all(tokens % 64 == 0 for _, tokens in (*FITTED_ON, *JUDGED_ON))
    assert torch.tensor(JUDGED_ON).amin() > 0
