"""kvcalc explain"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

from kvcalc.cli.common import (
    BatchOption,
    DtypeOption,
    EncoderLenOption,
    Output,
    OutputOption,
    SeqLenOption,
    emit,
    warn,
    workload_of,
)
from kvcalc.render.document import Document

_RULE_CODE = re.compile(r"kv\d{1,3}", re.IGNORECASE)


class Told(NamedTuple):
    """What `emit` prints."""

    name: str
    report: Any
    view: Callable[[Any], Document]


def explain(
    subject: Annotated[str, typer.Argument(metavar="MODEL[@VARIANT]|GPU|KIND|FORMAT|CODE", help="What to explain.")],
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Why: the formula, the numbers put in, and the source.

    Example: kvcalc explain gemma-3-27b -s 128K
    """
    from kvcalc.problems import usage_error

    told = next(filter(None, (find(subject) for find in (_rule, _kind, _format, _gpu))), None)
    if told is None:
        told = _model(subject, batch_size, seq_len, kv_cache_dtype, encoder_len)
    elif (batch_size, seq_len, kv_cache_dtype, encoder_len) != ("1", None, "bf16", None):
        raise usage_error(f"{subject[:60]} is no model: a batch, a length or a format says nothing of it")
    emit(*told, output)


def _rule(code: str) -> Told | None:
    """A rule of `kvcalc check`.

    Raises:
        KvcalcError: no such code, or the start of several.
    """
    if not _RULE_CODE.fullmatch(code):
        return None
    from kvcalc.checks.table import RULES, explain_rule, parse_codes
    from kvcalc.problems import usage_error
    from kvcalc.render.rules import rule_document

    (known,) = parse_codes([code])
    if known not in RULES:
        found = [f"{rule.code} {rule.name}" for rule in RULES.values() if rule.code.startswith(known)]
        raise usage_error(f"{known} is the start of {len(found)} codes", help=f"one of {', '.join(found)}")
    return Told("rule", explain_rule(known), rule_document)


def _kind(name: str) -> Told | None:
    from kvcalc.attention import KINDS
    from kvcalc.explanation import explain_kind
    from kvcalc.render.explanations import kind_document

    return Told("kind", explain_kind(name), kind_document) if name in KINDS else None


def _format(name: str) -> Told | None:
    from kvcalc.cache_dtypes import find_cache_dtype
    from kvcalc.explanation import explain_format
    from kvcalc.render.explanations import format_document

    dtype = find_cache_dtype(name)
    return None if dtype is None else Told("format", explain_format(dtype), format_document)


def _gpu(name: str) -> Told | None:
    """An accelerator, unless a model has its name."""
    from kvcalc.spec.catalog import shipped
    from kvcalc.spec.hardware_catalog import shipped_accelerator, shipped_name

    gpu = None if name.lower() in shipped() else shipped_name(name)
    if gpu is None:
        return None
    from kvcalc.accelerators import explain_accelerator
    from kvcalc.render.accelerators import accelerator_document

    return Told("gpu", explain_accelerator(shipped_accelerator(gpu)), accelerator_document)


def _model(name: str, batch_size: str, seq_len: str | None, kv_cache_dtype: str, encoder_len: str | None) -> Told:
    from kvcalc.cli.models import find_what_if
    from kvcalc.explanation import explain_model
    from kvcalc.footprint import workload_for
    from kvcalc.render.explanations import model_document

    spec = find_what_if(name)
    workload, warnings = workload_for(spec, **workload_of(batch_size, seq_len, kv_cache_dtype, encoder_len))
    warn(*warnings)
    return Told("explanation", explain_model(spec, workload), model_document)
