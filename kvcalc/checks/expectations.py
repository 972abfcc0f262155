"""KV2xx: published figures that the spec must reproduce, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import ModelFile
from kvcalc.footprint import Footprint, footprint, workload_for
from kvcalc.formats import STATE_ROLES, Role
from kvcalc.layout import CacheLayout
from kvcalc.problems import KvcalcError, Severity
from kvcalc.spec.model import Expectation


@dataclass(frozen=True, slots=True)
class Computed:
    """A figure of ours, and how it comes about."""

    value: Fraction
    formula: str

    @property
    def text(self) -> str:
        return f"{self.value.numerator:,}" if self.value.denominator == 1 else f"{float(self.value):,}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One word of `quantity:`; `of_workload` where batch size and lengths matter."""

    compute: Callable[[ModelFile, Expectation], Computed]
    unit: str
    of_workload: bool


def _footprint(file: ModelFile, expected: Expectation, *, any_length: bool = False) -> Footprint:
    """Our figures for the expectation's workload.

    Raises:
        KvcalcError: unknown format, or no length is known.
    """
    length = expected.seq_len
    if length is None and any_length:
        length = file.spec.max_position_embeddings or 1
    workload, _ = workload_for(
        file.layout,
        batch_size=expected.batch_size,
        seq_len=length,
        encoder_len=expected.encoder_len,
        formats=parse_kv_cache_dtype(expected.kv_cache_dtype),
    )
    return footprint(file.layout, workload)


def _per_token(layout: CacheLayout, expected: Expectation, index: bool) -> Computed:
    """Slope of the token caches, beyond every window: sum over layers and growing streams of bytes of a row."""
    formats = parse_kv_cache_dtype(expected.kv_cache_dtype)
    total, terms = Fraction(0), []
    for group in layout.groups:
        for stream in group.logical_streams:
            if stream.role in STATE_ROLES or not stream.extent.grows or (stream.role is Role.INDEX) is not index:
                continue
            stored = stream.format(formats)
            # Whole periods beyond saturation: the slope is exact there.
            period = stream.extent.period * stored.period(stream.heads, stream.width)
            start = -(-stored.saturation * stream.extent.period // period) * period
            step = stream.bytes(start + period, formats) - stream.bytes(start, formats)
            slope = Fraction(step, period)
            total += group.count * slope
            each = f"{slope.numerator:,}" if slope.denominator == 1 else f"{slope.numerator:,}/{slope.denominator:,}"
            terms.append(f"{group.count} layers x {each} B ({stream.name} {stream.heads} x {stream.width})")
    return Computed(total, " + ".join(terms) or "no stream grows")


def _elements_per_token(file: ModelFile, expected: Expectation) -> Computed:
    total, terms = Fraction(0), []
    for group in file.layout.groups:
        for stream in group.logical_streams:
            if stream.role in STATE_ROLES or not stream.extent.grows or stream.role is Role.INDEX:
                continue
            total += Fraction(group.count * stream.heads * stream.width, stream.extent.period)
            per = f" / {stream.extent.period}" if stream.extent.period > 1 else ""
            terms.append(f"{group.count} layers x {stream.heads} x {stream.width}{per} ({stream.name})")
    return Computed(total, " + ".join(terms) or "no stream grows")


def _bytes(pick: Callable[[Footprint], int], keep: Callable[[str], bool]) -> Callable[..., Computed]:
    state_roles = {role.value for role in STATE_ROLES}

    def compute(file: ModelFile, expected: Expectation) -> Computed:
        counted = _footprint(file, expected, any_length=not keep("key"))
        terms = []
        for part in counted.groups:
            per_layer = sum(s.bytes for s in part.streams if keep("state" if s.role in state_roles else "key"))
            if per_layer:
                terms.append(f"{len(part.layers)} x {per_layer:,}")
        where = f"batch {counted.batch_size:,} x ({' + '.join(terms) or '0'}) at {counted.seq_len:,} tokens"
        return Computed(Fraction(pick(counted)), where)

    return compute


def _params(active: bool) -> Callable[[ModelFile, Expectation], Computed]:
    def compute(file: ModelFile, expected: Expectation) -> Computed:
        from kvcalc.weights.count import parameter_count

        count = parameter_count(file.spec)
        parts = count.active_by_component if active else count.by_component
        terms = " + ".join(f"{part} {value:,}" for part, value in parts.items())
        return Computed(Fraction(count.active if active else count.total), terms)

    return compute


QUANTITIES: Mapping[str, Quantity] = {
    "kv_bytes_per_token": Quantity(lambda file, e: _per_token(file.layout, e, index=False), "B", False),
    "index_bytes_per_token": Quantity(lambda file, e: _per_token(file.layout, e, index=True), "B", False),
    "kv_elements_per_token": Quantity(_elements_per_token, "elements", False),
    "kv_bytes": Quantity(_bytes(lambda f: f.kv_bytes, lambda role: role != "state"), "B", True),
    "state_bytes": Quantity(_bytes(lambda f: f.state_bytes, lambda role: role == "state"), "B", True),
    "logical_bytes": Quantity(_bytes(lambda f: f.logical_bytes, lambda role: True), "B", True),
    "total_params": Quantity(_params(active=False), "parameters", False),
    "active_params": Quantity(_params(active=True), "parameters", False),
}
"""What `expect:` may state. Per-token figures are slopes beyond every window; indexer keys are counted apart."""


def failed(file: ModelFile) -> Iterator[Hit]:
    """Both sides and the formula."""
    for index, expected in enumerate(file.spec.expect):
        quantity = QUANTITIES[expected.quantity]
        try:
            ours = quantity.compute(file, expected)
        except KvcalcError:
            continue  # KV202 says so
        if ours.value != expected.value:
            message = (
                f"{expected.quantity} is {ours.text} {quantity.unit}, not the expected {expected.value:,}"
                f"{_ratio(ours.value, expected.value)}"
            )
            hint = f"{ours.text} = {ours.formula}; expected by {expected.source}"
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
        try:
            QUANTITIES[expected.quantity].compute(file, expected)
        except KvcalcError as error:
            problem = error.problems[0]
            yield Hit(loc=("expect", index), message=f"{expected.quantity}: {problem.message}", help=problem.help)


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
