"""What is asked of a spec, once it has been read: every command's question, through the Python API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from factories import SPEC
from fuzz.oracle import report_shown, shown

import kvcalc
from kvcalc.accelerators import explain_accelerator
from kvcalc.cache_dtypes import FormatChoice, parse_kv_cache_dtype
from kvcalc.engines import NAMES
from kvcalc.footprint import Workload, footprint
from kvcalc.render.accelerators import accelerator_document
from kvcalc.render.allocations import allocation_document
from kvcalc.render.comparison import compare_document
from kvcalc.render.differences import diff_document
from kvcalc.render.document import Document
from kvcalc.render.explanations import model_document
from kvcalc.render.fit import fit_document
from kvcalc.render.footprints import per_layer_document, size_document
from kvcalc.render.plan import plan_document
from kvcalc.render.roofline import roofline_document
from kvcalc.render.sweep import sweep_document
from kvcalc.render.tiers import tiers_document
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import shipped_accelerator
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import load_model

FORMATS: tuple[FormatChoice, ...] = tuple(map(parse_kv_cache_dtype, ("bf16", "fp8", "int4-g32,value=q8_0")))
ENCODER = 100


class Question(NamedTuple):
    report: str
    """Its name in JSON."""
    ask: Callable[..., Any]
    view: Callable[[Any], Document]
    arguments: Mapping[str, Any] = MappingProxyType({})
    """Beyond batch, length and format."""


def _compare(spec: ModelSpec, **workload: Any) -> Any:
    return kvcalc.compare(spec, variants=("mqa", "kv:int4-g32"), **workload)


def _diff(spec: ModelSpec, **workload: Any) -> Any:
    return kvcalc.diff(small(), spec, **workload)


MODEL: tuple[Question, ...] = (
    Question("size", kvcalc.size, size_document),
    Question("size", kvcalc.size, per_layer_document),
    Question("explanation", kvcalc.explain, model_document),
    Question("compare", _compare, compare_document),
    Question("diff", _diff, diff_document),
    Question("roofline", kvcalc.roofline, roofline_document, {"gpu": "h100-sxm"}),
    Question("roofline", kvcalc.roofline, roofline_document,
             {"gpu": "h100-sxm", "phase": "prefill", "tensor_parallel_size": 2}),
    *(Question("allocation", kvcalc.allocate, allocation_document, {"engine": name}) for name in NAMES),
    *(Question("allocation", kvcalc.allocate, allocation_document,
               {"engine": name, "tensor_parallel_size": 2, "gpu_memory": "80GiB"}) for name in NAMES),
)  # fmt: skip
SLOW: tuple[Question, ...] = (
    Question("tiers", kvcalc.tiers, tiers_document, {"gpu": "h100-sxm", "storage": "7GB/s"}),
    Question("diff", _diff, diff_document, {"gpu": "h100-sxm"}),
    Question("plan", kvcalc.plan, plan_document, {"gpu": "h200", "tpot": "50ms", "max_gpus": 8}),
    Question("fit", kvcalc.fit, fit_document, {"gpu": "h200", "gpus": 8}),
)
"""They search: a hundred times the others' time."""


def asked_of_model(spec: ModelSpec, number: int) -> None:
    """One of the questions that a user may ask of a spec; now and then also what must hold of its bytes."""
    formats = FORMATS[number % len(FORMATS)]
    if number % 8 == 7 and number % 128 != 127:
        _laws(spec, formats)
        return
    question = SLOW[number // 128 % len(SLOW)] if number % 128 == 127 else MODEL[number // 8 % len(MODEL)]
    workload = {"batch_size": 3, "seq_len": 2000, "encoder_len": ENCODER, "kv_cache_dtype": formats.name}
    found = question.ask(spec, **workload, **question.arguments)
    report_shown(question.report, found, thoroughly=number % 64 == 0)
    shown(question.view(found))


def _laws(spec: ModelSpec, formats: FormatChoice) -> None:
    """Three sequences take three times the bytes of one; a longer one no fewer; NumPy counts as Python does."""

    def bytes_of(batch: int, tokens: int) -> int:
        workload = Workload(batch_size=batch, seq_len=tokens, encoder_len=ENCODER, formats=formats)
        return footprint(spec.layout(), workload).logical_bytes

    lengths = (1, 63, 2000)
    sizes = [bytes_of(1, length) for length in lengths]
    assert sizes == sorted(sizes), f"fewer bytes for more tokens: {sizes}"
    triple = [bytes_of(3, length) for length in lengths]
    assert triple == [3 * size for size in sizes], "a batch is not the sum of its sequences"
    report = kvcalc.sweep(spec, batch_size=[1, 3], seq_len=lengths, kv_cache_dtypes=[formats], encoder_len=ENCODER)
    kept = [block.cache_bytes.tolist() for block in report.planes[0].blocks()]
    assert kept == [[sizes, triple]], f"swept {kept}, sized {[sizes, triple]}"
    shown(sweep_document(report))


def asked_of_hardware(spec: HardwareSpec, number: int) -> None:
    """One of the questions that a user may ask of an accelerator."""
    workload = {"batch_size": 3, "seq_len": 2000}
    questions: tuple[tuple[str, Callable[[], Any], Callable[[Any], Document]], ...] = (
        ("gpu", lambda: explain_accelerator(spec), accelerator_document),
        ("tiers", lambda: kvcalc.tiers(small(), spec, **workload), tiers_document),
        ("roofline", lambda: kvcalc.roofline(small(), spec, **workload), roofline_document),
        # (It searches.)
        ("fit", lambda: kvcalc.fit("qwen3-8b", spec, gpus=2, **workload), fit_document),
    )
    name, ask, view = questions[3 if number % 32 == 31 else number % 3]
    found = ask()
    report_shown(name, found, thoroughly=number % 64 < 4)
    shown(view(found))


@cache
def small() -> ModelSpec:
    return load_model("x.yaml", SPEC.encode())[0]


@cache
def gpu() -> HardwareSpec:
    return shipped_accelerator("h100-sxm")
