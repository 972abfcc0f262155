"""kvcalc explain"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from kvcalc.cli.common import (
    BatchOption,
    DtypeOption,
    EncoderLenOption,
    Output,
    OutputOption,
    SeqLenOption,
    emit,
    parsed_count,
    warn,
)

_RULE_CODE = re.compile(r"kv\d{1,3}", re.IGNORECASE)


def explain(
    subject: Annotated[str, typer.Argument(metavar="MODEL|GPU|KIND|FORMAT|CODE", help="What to explain.")],
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Why: the formula, the numbers put in, and the source.

    Example: kvcalc explain gemma-3-27b -s 128K
    """
    from kvcalc.attention import KINDS
    from kvcalc.cache_dtypes import find_cache_dtype, parse_kv_cache_dtype
    from kvcalc.cli.models import find_model
    from kvcalc.explanation import explain_format, explain_kind, explain_model
    from kvcalc.footprint import workload_for
    from kvcalc.render.explanations import format_document, kind_document, model_document
    from kvcalc.spec.catalog import shipped
    from kvcalc.spec.hardware_catalog import shipped_name

    if _RULE_CODE.fullmatch(subject):
        _explain_rule(subject, output)
        return
    if subject in KINDS:
        emit("kind", explain_kind(subject), kind_document, output)
        return
    dtype = find_cache_dtype(subject)
    if dtype is not None:
        emit("format", explain_format(dtype), format_document, output)
        return
    gpu = None if subject.lower() in shipped() else shipped_name(subject)
    if gpu is not None:
        from kvcalc.accelerators import explain_accelerator
        from kvcalc.render.accelerators import accelerator_document
        from kvcalc.spec.hardware_catalog import shipped_accelerator

        emit("gpu", explain_accelerator(shipped_accelerator(gpu)), accelerator_document, output)
        return
    spec = find_model(subject)
    workload, warnings = workload_for(
        spec,
        batch_size=parsed_count(batch_size, "--batch-size") or 1,
        seq_len=parsed_count(seq_len, "--seq-len"),
        encoder_len=parsed_count(encoder_len, "--encoder-len", minimum=0),
        formats=parse_kv_cache_dtype(kv_cache_dtype),
    )
    warn(*warnings)
    emit("explanation", explain_model(spec, workload), model_document, output)


def _explain_rule(code: str, output: Output) -> None:
    """A rule of `kvcalc check`; of a prefix, which rules there are."""
    from kvcalc.checks.table import RULES, explain_rule, parse_codes
    from kvcalc.problems import usage_error
    from kvcalc.render.rules import rule_document

    (known,) = parse_codes([code])
    if known not in RULES:
        found = [f"{rule.code} {rule.name}" for rule in RULES.values() if rule.code.startswith(known)]
        raise usage_error(f"{known} is the start of {len(found)} codes", help=f"one of {', '.join(found)}")
    emit("rule", explain_rule(known), rule_document, output)
