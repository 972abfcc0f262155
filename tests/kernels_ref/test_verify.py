"""`verify`: what it proves on a CPU, what it says it cannot, and that it notices a wrong number."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the proof needs torch: pip install 'kvcalc[torch]'")
from typer.testing import CliRunner

from kernels_ref import byte_proof, obstacle
from kernels_ref.__main__ import main
from kernels_ref.report import VerifyReport
from kernels_ref.verify import verify
from kvcalc.cli.app import build_app
from kvcalc.footprint import footprint
from kvcalc.spec.catalog import shipped

MODELS = ("gpt2", "deepseek-v3.2", "gemma-3-4b", "jamba-v0.1")


@pytest.fixture(scope="module")
def report() -> VerifyReport:
    return verify(models=MODELS, device="cpu", quick=True)


def test_everything_agrees_on_a_cpu(report: VerifyReport) -> None:
    assert report.disagreements == ()
    assert [m.model for m in report.models] == list(MODELS)
    assert all(m.storage_bytes == m.predicted_bytes > 0 for m in report.models)
    assert report.machine.cuda is False


def test_what_a_cpu_cannot_prove_is_said_with_what_it_takes(report: VerifyReport) -> None:
    assert any("NVIDIA GPU" in line for line in report.not_proven)
    assert report.kernels == ()


def test_every_shipped_model_exists_for_real_at_a_length_that_fits() -> None:
    from kvcalc.spec.catalog import find_model

    checks = []
    for name in shipped():
        model = find_model(name)
        tokens = byte_proof.longest_that_fits(model, "bf16", 2**28)
        checks.append(byte_proof.check_model(model, "bf16", tokens, torch.device("meta")))
    assert len(checks) >= 12
    assert [check.model for check in checks if not check.ok] == []


def test_a_byte_too_many_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> object:
        found = footprint(*arguments)  # type: ignore[arg-type]
        return replace(found, logical_bytes=found.logical_bytes + 1)

    monkeypatch.setattr(byte_proof, "footprint", wrong)
    found = verify(models=["gpt2"], device="cpu", quick=True)
    assert len(found.disagreements) == 1
    assert "gpt2" in found.disagreements[0]


def test_the_command_prints_json_and_ends_with_zero() -> None:
    result = CliRunner().invoke(build_app(), ["verify", "--quick", "--device", "cpu", "gpt2", "-o", "json"])
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["report"] == "verify"
    # GPT-2: 12 layers x 2 x 12 heads x 64 x 2 B = 36,864 B per token, 1,024 tokens.
    assert body["models"][0]["storage_bytes"] == 36_864 * 1_024


def test_without_torch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    problem = obstacle(None)
    assert problem is not None
    assert "kvcalc[torch]" in (problem.problems[0].help or "")


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert obstacle(device) is not None


def test_the_module_writes_the_report_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, tables = tmp_path / "r.json", tmp_path / "r.md"
    arguments = ["kernels_ref", "gpt2", "--quick", "--device", "cpu", "--json", str(target), "--markdown", str(tables)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    assert json.loads(target.read_text())["schema_version"] == 1
    assert "| gpt2 |" in tables.read_text()
