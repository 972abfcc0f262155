"""What a verification says: frozen, plain data that becomes one JSON file."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 5e-3
"""Relative error against the float64 reference that a 16-bit kernel must stay within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and how the figures were measured."""

    device: str
    cuda: bool
    driver: str
    torch: str
    triton: str
    python: str
    platform: str
    date: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Measured first, in the same run: what the machine can do at best."""

    read_bytes_per_s: float
    copy_bytes_per_s: float
    gemm_flops_per_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCheck:
    """Decode from the cache against the same output computed without one, in float64."""

    kind: str
    label: str
    tokens: int
    shapes_agree: bool
    """Whether the cache's tensors have the rows, heads and widths that kvcalc's streams state."""
    relative_error: float

    @property
    def ok(self) -> bool:
        """Whether the cache has the stated shapes, and decoding from it is right to double precision."""
        return self.shapes_agree and self.relative_error < 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteCheck:
    """One stream stored for real in one format."""

    kind: str
    stream: str
    format: str
    rows: int
    heads: int
    width: int
    predicted_bytes: int
    storage_bytes: int
    predicted_allocated: int | None
    """What torch's CUDA allocator should count; None without CUDA."""
    allocated: int | None
    relative_error: float
    """Of the values read back, |x' - x| / |x|."""
    largest_error: float
    """Largest |x' - x| as a share of the group's largest magnitude."""
    explained: float
    """What the format's own rounding explains of it."""

    @property
    def ok(self) -> bool:
        """Whether the bytes are the predicted integer, and the values come back as well as the format can."""
        exact = self.predicted_bytes == self.storage_bytes and self.predicted_allocated == self.allocated
        return exact and self.largest_error <= self.explained


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """Every layer of a shipped model's cache, allocated at true width for one sequence."""

    model: str
    kv_cache_dtype: str
    seq_len: int
    layers: int
    tensors: int
    predicted_bytes: int
    """kvcalc's footprint."""
    storage_bytes: int
    predicted_allocated: int | None
    allocated: int | None

    @property
    def ok(self) -> bool:
        """Whether storage and allocator agree with the prediction, to the byte."""
        return self.predicted_bytes == self.storage_bytes and self.predicted_allocated == self.allocated


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another implementation timed on the same data."""

    name: str
    seconds: float
    share_of_ceiling: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCheck:
    """One streaming kernel, timed and checked element by element."""

    case: str
    kernel: str
    attention: str
    format: str
    batch_size: int
    seq_len: int
    predicted_bytes: int
    """kvcalc's bytes of what the step reads, all sequences of the batch."""
    storage_bytes: int
    """Of the tensors that were read."""
    flops: int
    seconds: float
    bytes_per_s: float
    flops_per_s: float
    ceiling: str
    """`read` or `gemm bf16`."""
    share_of_ceiling: float
    target: float | None
    limited_by: str
    relative_error: float
    alternatives: tuple[Alternative, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it reads the predicted bytes and computes the right output; speed is no part of it."""
        return self.predicted_bytes == self.storage_bytes and self.relative_error <= TOLERANCE

    @property
    def reached(self) -> bool | None:
        """Whether this kernel, or another on the same data, reached the target; None where there is none."""
        best = max([self.share_of_ceiling, *(other.share_of_ceiling for other in self.alternatives)])
        return None if self.target is None else best >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """seconds = overhead + bytes / bytes_per_s + rows x row_s, fitted on its own cases.

    `rows` are sequences x KV heads (x 1 for a latent). Where the tensor cores bind, bytes stand for FLOPs: a kernel's
    FLOPs per byte are constant.
    """

    kernel: str
    family: str
    format: str
    overhead_s: float
    bytes_per_s: float
    row_s: float
    flops_per_byte: float
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A decode step predicted from kvcalc's bytes and the calibration, then measured."""

    family: str
    batch_size: int
    seq_len: int
    predicted_bytes: int
    flops: int
    predicted_s: float
    measured_s: float
    relative_error: float
    """Of the step's output, against float64."""
    calibrates: bool
    """True for the cases the constants were fitted on: they do not count as predictions."""

    @property
    def ratio(self) -> float:
        """Predicted over measured time."""
        return self.predicted_s / self.measured_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How far predictions were from measurements, over cases the calibration had not seen."""

    cases: int
    median_error: float
    worst_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was predicted, what was found on this machine, and what it could not show."""

    machine: Machine
    ceilings: Ceilings | None
    references: tuple[ReferenceCheck, ...]
    bytes: tuple[ByteCheck, ...]
    models: tuple[ModelCheck, ...]
    kernels: tuple[KernelCheck, ...]
    calibrations: tuple[Calibration, ...]
    predictions: tuple[Prediction, ...]
    accuracy: Accuracy | None
    proven: tuple[str, ...]
    not_proven: tuple[str, ...]
    """What this machine could not show, each with what it would take."""

    @property
    def disagreements(self) -> tuple[str, ...]:
        """What contradicts kvcalc; empty when all is well."""
        return (
            *(f"reference {c.kind}: error {c.relative_error:.1e}" for c in self.references if not c.ok),
            *(f"bytes {c.kind} {c.stream} {c.format}: {c.storage_bytes} B" for c in self.bytes if not c.ok),
            *(f"model {c.model}: {c.storage_bytes} B" for c in self.models if not c.ok),
            *(f"kernel {c.case}: error {c.relative_error:.1e}" for c in self.kernels if not c.ok),
        )
