"""Everything that this machine can prove, in one report."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import torch

from kernels_ref.byte_proof import check_kind, check_model, longest_that_fits
from kernels_ref.cpu_cases import cpu_checks
from kernels_ref.measure import measure_ceilings
from kernels_ref.reference import Random, run_reference
from kernels_ref.report import (
    Accuracy,
    ByteCheck,
    Calibration,
    KernelCheck,
    Machine,
    ModelCheck,
    Prediction,
    ReferenceCheck,
    VerifyReport,
)
from kernels_ref.samples import SAMPLES
from kvcalc.attention.base import Attention
from kvcalc.layout import HasLayout

Say = Callable[[str], None]

SAMPLE_TOKENS = 130
"""Not a multiple of any block, window or stride of the samples, and beyond KIVI's residual."""


def triton_version() -> str:
    """The version, or why there is none."""
    try:
        import triton
    except ImportError:
        return "not installed"
    return str(triton.__version__)


def _driver() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer[0] if answer else "unknown"


def describe(device: torch.device, command: str) -> Machine:
    """The device, the software, the date (UTC) and the command that every measured figure carries."""
    cuda = device.type == "cuda"
    return Machine(
        device=torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        cuda=cuda,
        driver=_driver() if cuda else "",
        torch=torch.__version__,
        triton=triton_version(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=command,
    )


def reference_check(name: str, kind: Attention, seed: int, device: torch.device) -> ReferenceCheck:
    """One kind's reference on a fresh random sequence."""
    run = run_reference(kind, SAMPLE_TOKENS, Random(seed, device))
    stated = {
        stream.name: (stream.extent.rows(SAMPLE_TOKENS, SAMPLE_TOKENS), stream.heads, stream.width)
        for stream in kind.streams()
    }
    return ReferenceCheck(
        kind=name,
        label=kind.label,
        tokens=SAMPLE_TOKENS,
        shapes_agree={stream: tuple(rows.shape) for stream, rows in run.cache.items()} == stated,
        relative_error=run.error,
    )


def _models(names: Sequence[str] | None) -> list[HasLayout]:
    from kvcalc.spec.catalog import find_model, shipped

    return [find_model(name) for name in (names if names is not None else shipped())]


def _model_checks(models: Sequence[HasLayout], device: torch.device, say: Say) -> list[ModelCheck]:
    """Each at the most tokens (a power of two) that fit three quarters of CUDA's free memory, or 1 GiB elsewhere."""
    room = int(torch.cuda.mem_get_info(device)[0] * 0.75) if device.type == "cuda" else 2**30
    checks = []
    for model in models:
        tokens = longest_that_fits(model, "bf16", room)
        say(f"model {model.layout().name}: {tokens:,} tokens")
        checks.append(check_model(model, "bf16", tokens, device))
    return checks


def verify(
    *,
    models: Sequence[str] | None = None,
    device: str | None = None,
    quick: bool = False,
    seed: int = 0,
    command: str = "",
    say: Say = lambda message: None,
) -> VerifyReport:
    """Runs every proof that this machine allows.

    `models`: names of shipped specs or files whose caches are allocated whole (None: every shipped model).
    `quick` leaves out timing. `seed` starts the random data. `say` hears of progress.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(seed)
    cuda = target.type == "cuda"
    machine = describe(target, command or " ".join(sys.argv))

    specs = _models(models)
    say("bytes: every stream of every kind in every format")
    generator = torch.Generator().manual_seed(seed)
    byte_checks: list[ByteCheck] = []
    for kind in SAMPLES.values():
        byte_checks += check_kind(kind, SAMPLE_TOKENS, target, generator)
    model_checks = _model_checks(specs, target, say)
    say("references: every kind")
    references = tuple(reference_check(name, kind, seed, target) for name, kind in SAMPLES.items())

    kernels: tuple[KernelCheck, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    accuracy: Accuracy | None = None
    ceilings = None
    if not quick:
        say("ceilings: read, copy, matrix product")
        ceilings = measure_ceilings(target)
        if not cuda:
            kernels = tuple(cpu_checks(ceilings))
    if ceilings is not None and cuda and triton_version() != "not installed":
        from kernels_ref.calibrate import calibrate
        from kernels_ref.kernel_cases import kernel_checks

        found = []
        for check in kernel_checks(target, ceilings):
            found.append(check)
            say(f"{check.case}: {check.share_of_ceiling:.1%} of {check.ceiling}, error {check.relative_error:.1e}")
        kernels = tuple(found)
        say("calibrated predictions")
        calibrations, predictions, accuracy = calibrate(target, say)

    return VerifyReport(
        machine=machine,
        ceilings=ceilings,
        references=references,
        bytes=tuple(byte_checks),
        models=tuple(model_checks),
        kernels=kernels,
        calibrations=calibrations,
        predictions=predictions,
        accuracy=accuracy,
        proven=_proven(cuda, bool(kernels)),
        not_proven=_not_proven(cuda, quick),
    )


def _proven(cuda: bool, kernels: bool) -> tuple[str, ...]:
    where = "CUDA memory, with the allocator's own count" if cuda else "CPU memory"
    said = [
        f"bytes: every stream of every kind and format, stored for real in {where}",
        "meaning: decode from each kind's cache equals the computation without a cache (float64)",
    ]
    return (*said, "speed: streaming kernels against this machine's measured ceilings") if kernels else tuple(said)


def _not_proven(cuda: bool, quick: bool) -> tuple[str, ...]:
    missing = []
    if not cuda:
        missing.append(
            "the CUDA allocator's count, and the streaming kernels' speed: run on a machine with an NVIDIA GPU"
        )
    elif triton_version() == "not installed":
        missing.append("the speed of the kernels: pip install triton")
    elif quick:
        missing.append("speed: run without --quick")
    return tuple(missing)
