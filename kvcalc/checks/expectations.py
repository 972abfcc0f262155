"""KV2xx: published figures that the spec must reproduce, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from operator import is_

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.checks.rule import Hit, Rule, in_a_file
from kvcalc.checks.subject import ModelFile
from kvcalc.footprint import Workload, growth, sequence_bytes, workload_for
from kvcalc.formats import STATE_ROLES, TOKEN_ROLES, Role
from kvcalc.problems import KvcalcError, Severity
from kvcalc.spec.model import Expectation
from kvcalc.streams import Stream
from kvcalc.tensors import Component


@dataclass(frozen=True, slots=True)
class Quantity:
    """One word of `quantity:`; `of_workload` where batch size and lengths matter."""

    compute: Callable[[ModelFile, Expectation], Fraction]
    explain: Callable[[ModelFile, Expectation], str]
    """Our figure with its numbers put in."""
    unit: str
    of_workload: bool


def _workload(file: ModelFile, expected: Expectation) -> Workload:
    """The expectation's workload.

    Raises:
        KvcalcError: unknown format, or no length is known.
    """
    return workload_for(
        file.layout,
        batch_size=expected.batch_size,
        seq_len=expected.seq_len,
        encoder_len=expected.encoder_len,
        formats=parse_kv_cache_dtype(expected.kv_cache_dtype),
    )[0]


def _streams(file: ModelFile, roles: frozenset[Role]) -> Iterator[tuple[int, Stream]]:
    """(layers, stream) of the streams with these roles."""
    for group in file.layout.groups:
        for stream in group.logical_streams:
            if stream.role in roles:
                yield group.count, stream


def _per_token(roles: frozenset[Role]) -> Quantity:
    """Sum over layers and growing streams of the bytes of a row."""

    def terms(file: ModelFile, expected: Expectation) -> Iterator[tuple[int, Fraction, Stream]]:
        formats = parse_kv_cache_dtype(expected.kv_cache_dtype)
        for group in file.layout.groups:
            for stream in group.logical_streams:
                if stream.role in roles and stream.extent.grows:
                    grown = growth((group,), formats, keep=partial(is_, stream))
                    yield group.count, Fraction(grown.step_bytes, grown.step_tokens * group.count), stream

    def explain(file: ModelFile, expected: Expectation) -> str:
        shown = [
            f"{n} layers x {_text(each)} B ({s.name} {s.heads} x {s.width})" for n, each, s in terms(file, expected)
        ]
        return " + ".join(shown) or "no stream grows"

    def compute(file: ModelFile, expected: Expectation) -> Fraction:
        return sum((n * each for n, each, _ in terms(file, expected)), Fraction(0))

    return Quantity(compute, explain, "B", of_workload=False)


def _elements_per_token() -> Quantity:
    def terms(file: ModelFile) -> Iterator[tuple[int, Stream]]:
        return ((layers, s) for layers, s in _streams(file, KV_ROLES) if s.extent.grows)

    def explain(file: ModelFile, expected: Expectation) -> str:
        shown = [
            f"{n} layers x {s.heads} x {s.width}{f' / {s.extent.period}' if s.extent.period > 1 else ''} ({s.name})"
            for n, s in terms(file)
        ]
        return " + ".join(shown) or "no stream grows"

    def compute(file: ModelFile, expected: Expectation) -> Fraction:
        return sum((Fraction(n * s.heads * s.width, s.extent.period) for n, s in terms(file)), Fraction(0))

    return Quantity(compute, explain, "elements", of_workload=False)


def _bytes(roles: frozenset[Role], *, any_length: bool = False) -> Quantity:
    """Logical bytes of a workload; states are the same at any length."""

    def workload(file: ModelFile, expected: Expectation) -> Workload:
        known = not any_length or expected.seq_len is not None or file.layout.context is not None
        return _workload(file, expected if known else replace(expected, seq_len=1))

    def compute(file: ModelFile, expected: Expectation) -> Fraction:
        load = workload(file, expected)
        one = sequence_bytes(
            file.layout.groups, load.seq_len, load.formats, load.encoder_len, lambda stream: stream.role in roles
        )
        return Fraction(load.batch_size * one)

    def explain(file: ModelFile, expected: Expectation) -> str:
        load = workload(file, expected)
        terms = [
            f"{layers} x {size:,}"
            for layers, stream in _streams(file, roles)
            if (size := stream.bytes(load.seq_len, load.formats, load.encoder_len))
        ]
        return f"batch {load.batch_size:,} x ({' + '.join(terms) or '0'}) at {load.seq_len:,} tokens"

    return Quantity(compute, explain, "B", of_workload=True)


def _params(active: bool) -> Quantity:
    def parts(file: ModelFile) -> Mapping[Component, int]:
        from kvcalc.weights.count import parameter_count

        count = file.memo.get("parameters") or file.memo.setdefault("parameters", parameter_count(file.spec))
        found: Mapping[Component, int] = count.active_by_component if active else count.by_component
        return found

    def explain(file: ModelFile, expected: Expectation) -> str:
        return " + ".join(f"{part} {value:,}" for part, value in parts(file).items())

    def compute(file: ModelFile, expected: Expectation) -> Fraction:
        return Fraction(sum(parts(file).values()))

    return Quantity(compute, explain, "parameters", of_workload=False)


KV_ROLES = TOKEN_ROLES - {Role.INDEX}
QUANTITIES: Mapping[str, Quantity] = {
    "kv_bytes_per_token": _per_token(KV_ROLES),
    "index_bytes_per_token": _per_token(frozenset({Role.INDEX})),
    "kv_elements_per_token": _elements_per_token(),
    "kv_bytes": _bytes(TOKEN_ROLES),
    "state_bytes": _bytes(STATE_ROLES, any_length=True),
    "logical_bytes": _bytes(TOKEN_ROLES | STATE_ROLES),
    "total_params": _params(active=False),
    "active_params": _params(active=True),
}
"""What `expect:` may state. Per-token figures are slopes beyond every window; indexer keys are counted apart."""


def _computed(file: ModelFile, expected: Expectation) -> Fraction | KvcalcError:
    """Our figure, or why there is none; two rules ask."""
    key = ("expectation", expected)
    if key not in file.memo:
        try:
            file.memo[key] = QUANTITIES[expected.quantity].compute(file, expected)
        except KvcalcError as error:
            file.memo[key] = error
    found: Fraction | KvcalcError = file.memo[key]
    return found


def _text(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value.numerator:,}/{value.denominator:,}"


def failed(file: ModelFile) -> Iterator[Hit]:
    """Both sides and the formula."""
    for index, expected in enumerate(file.spec.expect):
        ours = _computed(file, expected)
        if isinstance(ours, KvcalcError) or ours == expected.value:
            continue  # KV202 speaks of what cannot be computed
        quantity = QUANTITIES[expected.quantity]
        message = (
            f"{expected.quantity} is {_text(ours)} {quantity.unit}, not the expected {expected.value:,}"
            f"{_ratio(ours, expected.value)}"
        )
        hint = f"{_text(ours)} = {quantity.explain(file, expected)}; expected by {expected.source}"
        yield Hit(loc=("expect", index, "value"), message=message, help=hint)


def _ratio(ours: Fraction, theirs: int) -> str:
    if not ours or not theirs:
        return ""
    ratio = ours / theirs
    factor = ratio if ratio > 1 else 1 / ratio
    exact = "" if factor.denominator == 1 else "about "
    return f" ({exact}{float(factor):,.4g} times too {'large' if ratio > 1 else 'small'})" if factor >= 1.01 else ""


def not_computable(file: ModelFile) -> Iterator[Hit]:
    """An expectation that nothing can be compared with."""
    for index, expected in enumerate(file.spec.expect):
        ours = _computed(file, expected)
        if isinstance(ours, KvcalcError):
            problem = ours.problems[0]
            message = f"{expected.quantity}: {problem.message}"
            yield Hit(loc=("expect", index), message=message, help=in_a_file(problem.help))


def missing(file: ModelFile) -> Iterator[Hit]:
    """Nothing pins the bytes."""
    pinned = {"kv_bytes_per_token", "kv_elements_per_token", "kv_bytes", "logical_bytes", "state_bytes"}
    if not any(expected.quantity in pinned for expected in file.spec.expect):
        hint = "add a published figure under `expect:`, with its source"
        yield Hit(loc=(), message="no `expect:` figure pins the bytes of the cache", help=hint)


def twice(file: ModelFile) -> Iterator[Hit]:
    """Two figures for one quantity."""
    seen: dict[tuple[object, ...], tuple[int, int]] = {}
    for index, expected in enumerate(file.spec.expect):
        key = (
            expected.quantity, expected.batch_size, expected.seq_len, expected.encoder_len, expected.kv_cache_dtype,
        )  # fmt: skip
        if key not in seen:
            seen[key] = (index, expected.value)
            continue
        first, value = seen[key]
        line = file.document.marks[("expect", first)].line
        says = "the same" if value == expected.value else f"{value:,}"
        yield Hit(loc=("expect", index), message=f"{expected.quantity} is expected twice (line {line} says {says})")


def beyond_context(file: ModelFile) -> Iterator[Hit]:
    """A figure for a length that the model does not serve."""
    context = file.spec.max_position_embeddings
    for index, expected in enumerate(file.spec.expect):
        if context and expected.seq_len and expected.seq_len > context:
            message = f"seq_len {expected.seq_len:,} is beyond the context of {context:,} tokens"
            yield Hit(loc=("expect", index, "seq_len"), message=message)


def idle_workloads(file: ModelFile) -> Iterator[Hit]:
    """A workload beside a quantity that has none."""
    for index, expected in enumerate(file.spec.expect):
        if QUANTITIES[expected.quantity].of_workload:
            continue
        raw = file.document.data["expect"][index]
        for key in ("batch_size", "seq_len", "encoder_len"):
            if key in raw:
                message = f"{expected.quantity} does not depend on {key}"
                yield Hit(loc=("expect", index, key), key=True, message=message, help="remove it")


RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV201",
        name="expectation-fails",
        summary="a published figure that the spec's geometry does not give",
        why="Either the geometry or the figure is wrong. The help line shows our side with its numbers put "
        "in: a factor of 2 is usually K without V or bytes against elements, a factor of 256 vectors "
        "against bytes.",
        check=failed,
    ),
    Rule(
        code="KV202",
        name="expectation-not-computable",
        summary="an expectation that cannot be computed from the spec",
        why="A length that nobody gave, a format that does not exist, weights of which too little is said: "
        "the figure would stand there unchecked.",
        check=not_computable,
    ),
    Rule(
        code="KV203",
        name="no-expectation",
        summary="no published figure pins the bytes",
        why="A slip in any number of the spec goes unseen unless a figure from outside is there to disagree.",
        severity=Severity.INFO,
        check=missing,
    ),
    Rule(
        code="KV204",
        name="expected-twice",
        summary="two expectations for the same quantity and workload",
        why="At most one of them can hold, or one of them says nothing.",
        check=twice,
    ),
    Rule(
        code="KV205",
        name="beyond-context",
        summary="an expectation at a length beyond the model's context",
        why="Nobody can have measured it; the context or the length is wrong.",
        severity=Severity.WARNING,
        check=beyond_context,
    ),
    Rule(
        code="KV206",
        name="idle-workload",
        summary="a batch size or length beside a quantity that does not depend on it",
        why="Figures per token and parameter counts hold for every workload; a reader would take them for more.",
        severity=Severity.WARNING,
        check=idle_workloads,
    ),
)
