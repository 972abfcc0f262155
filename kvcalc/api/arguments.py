"""Arguments as a Python user writes them: names, paths, numbers or text like `"32K"`, into what the rooms take."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Union

from kvcalc.problems import usage_error
from kvcalc.units import MAX_COUNT, parse_byte_rate, parse_bytes, parse_count, parse_duration_ns

if TYPE_CHECKING:
    from kvcalc.cache_dtypes import FormatChoice
    from kvcalc.engines.base import Engine
    from kvcalc.roofline import Calibration
    from kvcalc.spec.hardware import HardwareSpec
    from kvcalc.spec.model import ModelSpec

Path: TypeAlias = Union[str, "os.PathLike[str]"]
Model: TypeAlias = Union[str, "os.PathLike[str]", Mapping[str, Any], "ModelSpec"]
"""A shipped name, a hub id, a path (spec, config.json, its folder, .gguf), their content, or a spec in hand. A name or
path may end in what is changed of the model, as in `"qwen-72b@gqa:8"`."""
Gpu: TypeAlias = Union[str, "os.PathLike[str]", "HardwareSpec"]
"""A shipped name or alias, a path to a YAML file, or a spec in hand."""
Count: TypeAlias = int | str
"""A whole number, or text as on the command line: `"32K"` = 32,768 and `"32k"` = 32,000."""
Axis: TypeAlias = Count | Sequence[int]
"""Several counts: a sequence, or a range as text, as in `"1:256:*2"`."""
Bytes: TypeAlias = int | str
"""Bytes, or text as in `"80GiB"`."""
Rate: TypeAlias = int | str
"""Bytes per second, or text as in `"7GB/s"`."""
Seconds: TypeAlias = float | str
"""Seconds, or text as in `"50ms"`."""
Share: TypeAlias = float | str | Fraction
"""A share above 0 and up to 1; 0.92 is read as 92/100."""
Dtype: TypeAlias = Union[str, "FormatChoice"]
EngineName: TypeAlias = Union[str, "Engine"]
"""A name, with a version behind `@` if wanted, as in `"vllm@0.19"`."""


_PACKAGE = os.path.dirname(os.path.dirname(__file__))
"""Warnings name the user's line, not one in here."""


class KvcalcWarning(UserWarning):
    """What an import took on whose word."""


def model_spec(model: Model, *, assume: str | None = None, hub: bool = False) -> ModelSpec:
    """The spec of a model.

    Raises:
        KvcalcError: unknown, unreadable, or refused.
    """
    from kvcalc.spec.model import ModelSpec

    if isinstance(model, ModelSpec):
        return model
    if isinstance(model, Mapping):
        spec, remarks = _of_content(model, assume)
    elif isinstance(model, str | os.PathLike):
        spec, remarks = _of_text(os.fspath(model), assume, hub)
    else:
        raise usage_error(f"{model!r:.60} is no model", help="give a name, a path, its content or a spec")
    say(remarks)
    return spec


def say(remarks: Iterable[str]) -> None:
    """What an import took on whose word, as Python warnings."""
    for remark in remarks:
        if sys.version_info >= (3, 12):
            warnings.warn(remark, KvcalcWarning, skip_file_prefixes=(_PACKAGE,))
        else:
            warnings.warn(remark, KvcalcWarning, stacklevel=5)


def _of_text(text: str, assume: str | None, hub: bool) -> tuple[ModelSpec, tuple[str, ...]]:
    """A name or path, or a what-if of one."""
    from kvcalc.importers.find import find_model
    from kvcalc.variants import as_if, split_what_if

    name, changes = split_what_if(text)
    spec, remarks = find_model(name, assume=assume, hub=hub)
    return (spec if changes is None else as_if(spec, changes)), remarks


def _of_content(data: Mapping[str, Any], assume: str | None) -> tuple[ModelSpec, tuple[str, ...]]:
    """A spec's or a config.json's content."""
    import json

    from kvcalc.checks.kinds import recognise
    from kvcalc.importers.find import remarks
    from kvcalc.importers.hf_config import read_document
    from kvcalc.importers.load import json_document, spec_of
    from kvcalc.spec.validate import validate_model

    try:
        text = json.dumps(dict(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise usage_error(f"the mapping is no plain data: {error}", help="as json.load or config.to_dict() give it")
    document = json_document("<mapping>", text.encode())
    kind = recognise(document.data)
    if kind is not None and kind.name == "model":
        return validate_model(document), ()
    found = read_document(document, assume=assume, name="model")
    return spec_of(found), remarks(found)


def gpu_spec(gpu: Gpu) -> HardwareSpec:
    """The accelerator.

    Raises:
        KvcalcError: unknown name, or a file that does not hold.
    """
    from kvcalc.spec.hardware import HardwareSpec
    from kvcalc.spec.hardware_catalog import find_hardware

    if isinstance(gpu, HardwareSpec):
        return gpu
    if not isinstance(gpu, str | os.PathLike):
        raise usage_error(f"{gpu!r:.60} is no GPU", help="give a name, a path or a spec")
    return find_hardware(os.fspath(gpu))


def count(value: Count, what: str, *, minimum: int = 1) -> int:
    """A whole number.

    Raises:
        KvcalcError: none, below `minimum`, or above 2^60.
    """
    if isinstance(value, str):
        return parse_count(value, what, minimum=minimum)
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise usage_error(f"{what} is a whole number, not {value!r:.60}", help='as in 32768 or "32K"')
    if not minimum <= number <= MAX_COUNT:
        raise usage_error(f"{what} must be at least {minimum} and at most 2^60, got {str(number)[:60]}")
    return number


def optional_count(value: Count | None, what: str, *, minimum: int = 1) -> int | None:
    """`count`, or None."""
    return None if value is None else count(value, what, minimum=minimum)


def axis(values: Axis, what: str) -> Sequence[int]:
    """Counts of one axis of a sweep.

    Raises:
        KvcalcError: no such range.
    """
    from kvcalc.sweep import parse_axis

    if isinstance(values, str):
        return parse_axis(values, what)
    if isinstance(values, Sequence):
        return [count(value, what) for value in values]
    return [count(values, what)]


def size_in_bytes(value: Bytes, what: str) -> int:
    """A size in bytes, of at least 0."""
    return parse_bytes(value) if isinstance(value, str) else count(value, what, minimum=0)


def bytes_per_s(value: Rate | None, what: str) -> int | None:
    """A rate in bytes per second, or None."""
    if value is None:
        return None
    return parse_byte_rate(value) if isinstance(value, str) else count(value, what)


def seconds(value: Seconds | None, what: str) -> float | None:
    """A duration in seconds, or None.

    Raises:
        KvcalcError: not more than 0.
    """
    if value is None:
        return None
    found = parse_duration_ns(value) / 10**9 if isinstance(value, str) else float(value)
    if not 0 < found < float("inf"):
        raise usage_error(f"{what} is more than 0, not {value!r:.40}", help='in seconds, or as in "50ms"')
    return found


def share(value: Share | None, what: str) -> Fraction | None:
    """An exact share, or None: a float is read by the digits that it prints."""
    from kvcalc.engines.sizing import parse_fraction

    if value is None:
        return None
    if isinstance(value, Fraction) and 0 < value <= 1:
        return value
    return parse_fraction(str(value), what)


def formats(dtype: Dtype) -> FormatChoice:
    """The formats of a cache."""
    from kvcalc.cache_dtypes import FormatChoice, parse_kv_cache_dtype

    return dtype if isinstance(dtype, FormatChoice) else parse_kv_cache_dtype(dtype)


class Asked(TypedDict):
    """A workload by the names of the rooms' arguments, for the command line as well."""

    batch_size: int
    seq_len: int | None
    encoder_len: int | None
    formats: FormatChoice


def workload(batch_size: Count, seq_len: Count | None, kv_cache_dtype: Dtype, encoder_len: Count | None) -> Asked:
    """The arguments of a workload, read.

    Raises:
        KvcalcError: no count, or an unknown format.
    """
    return {
        "batch_size": count(batch_size, "batch_size"),
        "seq_len": optional_count(seq_len, "seq_len"),
        "encoder_len": optional_count(encoder_len, "encoder_len", minimum=0),
        "formats": formats(kv_cache_dtype),
    }


def engine_of(engine: EngineName) -> Engine:
    """The engine.

    Raises:
        KvcalcError: unknown name, or no version behind the `@`.
    """
    from kvcalc.engines import find_engine

    return find_engine(engine) if isinstance(engine, str) else engine


def ceilings_of(calibration: Path | Calibration | None) -> Calibration | None:
    """Measured ceilings: as they are, or of a report of `kvcalc verify -o json`."""
    from kvcalc.calibration import load_calibration

    return load_calibration(os.fspath(calibration)) if isinstance(calibration, str | os.PathLike) else calibration
