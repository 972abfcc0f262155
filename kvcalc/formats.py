"""KV storage formats and their exact bytes: how kept rows become bytes.

A row holds `heads x width` elements; a format says what they take with every byte of its metadata (scales,
zero points, full-precision tails). Which format a user's word such as `q8_0` means stands in cache_dtypes.py.

Sub-byte sizes are exact: bits are summed over one stream of one layer of one sequence, and rounded up to a
byte once, never per element.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import gcd
from typing import TYPE_CHECKING, Protocol, TypeVar

from kvcalc.problems import usage_error

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    IntLike = TypeVar("IntLike", int, NDArray[int64])
    """Formulas take Python integers (exact) or int64 arrays (sweeps)."""
else:
    IntLike = TypeVar("IntLike")


class Role(StrEnum):
    """What a stream holds. Formats and engines look at the role, never at the kind of attention."""

    KEY = "key"
    VALUE = "value"
    LATENT = "latent"
    """One vector that serves as key and as value (MLA, DeepSeek-V4)."""
    INDEX = "index"
    """Keys of a sparse-attention indexer."""
    CONV = "conv"
    """Last inputs of a causal convolution."""
    STATE = "state"
    """Recurrent state."""
    BUFFER = "buffer"
    """Inputs that wait to be compressed: an engine's working space, outside the logical bytes."""


STATE_ROLES = frozenset({Role.CONV, Role.STATE})
TOKEN_ROLES = frozenset({Role.KEY, Role.VALUE, Role.LATENT, Role.INDEX})


def ceil_div(a: IntLike, b: int) -> IntLike:
    """Quotient rounded up."""
    return -(-a // b)


def round_up(a: IntLike, step: int) -> IntLike:
    """The next multiple of `step`, from `a` on."""
    return ceil_div(a, step) * step


def lesser(a: IntLike, b: int) -> IntLike:
    """`min(a, b)`, elementwise for arrays."""
    return a + (b - a) * (b < a)


def bytes_of(bits: IntLike) -> IntLike:
    """Whole bytes that hold `bits`: the one ceiling of an allocation unit."""
    return ceil_div(bits, 8)


class Format(Protocol):
    """How rows of one stream are stored."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def source(self) -> str: ...

    def bits(self, rows: IntLike, heads: int, width: int) -> IntLike:
        """Bits of `rows` rows of `heads x width` elements, metadata included."""
        ...

    def period(self, heads: int, width: int) -> int:
        """Rows after which the bytes repeat their step: the slope is exact over multiples of it."""
        ...

    @property
    def saturation(self) -> int:
        """From this many rows on, bytes grow evenly from period to period."""
        ...

    def formula(self, width: int) -> str:
        """The bytes as an expression in `rows`, `heads`, `width` (Python syntax, exact division)."""
        ...

    def misfit(self, width: int) -> str | None:
        """Why rows of this width cannot be stored so, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a row: `bits` per element and `group_bits` of metadata per started group.

    `group` None means one group for the whole stretch; `width` None means all of the row.
    """

    bits: int
    group: int | None = None
    group_bits: int = 0
    width: int | None = None

    def row_bits(self, width: int) -> int:
        """Bits of `width` elements and the metadata of their groups."""
        groups = ceil_div(width, self.group) if self.group else 1
        return width * self.bits + groups * self.group_bits

    def formula(self) -> str:
        """`row_bits` as an expression in `width` (Python syntax)."""
        size = "width" if self.width is None else str(self.width)
        text = f"{size} * {self.bits}"
        if self.group_bits:
            groups = f"ceil({size} / {self.group})" if self.group else "1"
            text += f" + {groups} * {self.group_bits}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """Each head's row is stored by itself: elements, then the metadata of its groups, then padding.

    bits = rows x heads x (sum over segments of (width x bits + groups x group_bits) + pad_bits)
    """

    name: str
    segments: tuple[Segment, ...]
    summary: str
    source: str
    pad_bits: int = 0
    block: int = 1
    """The row's width must be a multiple of it."""

    def row_bits(self, width: int) -> int:
        """Bits of one head's row of `width` elements."""
        return self.pad_bits + sum(s.row_bits(s.width or width) for s in self.segments)

    def bits(self, rows: IntLike, heads: int, width: int) -> IntLike:
        return rows * (heads * self.row_bits(width))

    def period(self, heads: int, width: int) -> int:
        return 8 // gcd(8, heads * self.row_bits(width))

    @property
    def saturation(self) -> int:
        return 0

    def formula(self, width: int) -> str:
        first, *others = self.segments
        if not (others or first.group_bits or self.pad_bits or first.bits % 8):
            return f"rows * heads * width * {first.bits // 8}"
        terms = [segment.formula() for segment in self.segments]
        terms += [str(self.pad_bits)] if self.pad_bits else []
        return f"ceil(rows * heads * ({' + '.join(terms)}) / 8)"

    def misfit(self, width: int) -> str | None:
        fixed = [segment.width for segment in self.segments if segment.width is not None]
        if fixed and sum(fixed) != width:
            return f"{self.name} stores rows of {' + '.join(map(str, fixed))} elements, this stream has {width}"
        if width % self.block:
            return f"{self.name} stores blocks of {self.block} elements; a width of {width} is no multiple"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualFormat:
    """KIVI: old rows quantised in groups, the newest kept in 16 bits.

    Keys are grouped along tokens, per channel; whole residuals of R tokens are quantised at a time, so
    `floor(S/R) * R` rows are codes. Values are grouped along the width, per token; the newest R stay full.
    Scale and minimum are 16 bits each per group.

    Source: KIVI (arXiv 2402.02750) section 4; jy-yuan/KIVI 876b4d2 models/llama_kivi.py:105-220,
    quant/new_pack.py:9-50.
    """

    name: str
    bits_per_code: int
    group: int
    residual: int
    along_tokens: bool
    summary: str
    source: str = "KIVI, arXiv 2402.02750 section 4; jy-yuan/KIVI 876b4d2 models/llama_kivi.py"
    full_bits: int = 16
    group_bits: int = 32

    def bits(self, rows: IntLike, heads: int, width: int) -> IntLike:
        if self.along_tokens:
            coded = rows // self.residual * self.residual
            metadata = coded // self.group * (heads * width * self.group_bits)
        else:
            coded = rows - lesser(rows, self.residual)
            metadata = coded * (heads * ceil_div(width, self.group) * self.group_bits)
        codes = coded * (heads * width * self.bits_per_code)
        return codes + metadata + (rows - coded) * (heads * width * self.full_bits)

    def period(self, heads: int, width: int) -> int:
        # Whole residuals are whole groups, and eight of them whole bytes whatever the code's width.
        return 8 * self.residual

    @property
    def saturation(self) -> int:
        return self.residual

    def formula(self, width: int) -> str:
        if self.along_tokens:
            coded = f"floor(rows / {self.residual}) * {self.residual}"
            groups = f"{coded} / {self.group} * heads * width"
        else:
            coded = f"max(rows - {self.residual}, 0)"
            groups = f"{coded} * heads * ceil(width / {self.group})"
        return (
            f"ceil(({coded} * heads * width * {self.bits_per_code} + {groups} * {self.group_bits}"
            f" + (rows - {coded}) * heads * width * {self.full_bits}) / 8)"
        )

    def misfit(self, width: int) -> str | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDtype:
    """A name for `--kv-cache-dtype`, and the format that each role (and width) of stream gets by it."""

    name: str
    default: Format | None
    summary: str
    source: str
    variants: tuple[tuple[Role, int | None, Format], ...] = ()
    """(role, width or None for any, format): the first match wins over the default."""

    def format(self, role: Role, width: int) -> Format:
        """The format for a stream of this role and width.

        Raises:
            KvcalcError: the stream cannot be stored in this dtype.
        """
        for wanted_role, wanted_width, candidate in self.variants:
            if wanted_role == role and wanted_width in (None, width):
                return _fitting(candidate, width)
        if self.default is None:
            roles = " and ".join(sorted({str(r) for r, _, _ in self.variants}))
            raise usage_error(
                f"{self.name} does not store {role} rows of {width} elements (only {roles})",
                help=f"give the {role} stream its own format, as in {role}=bf16",
            )
        return _fitting(self.default, width)

    def formats(self) -> Iterator[Format]:
        """Every format this name can stand for."""
        if self.default is not None:
            yield self.default
        yield from (candidate for _, _, candidate in self.variants)


def _fitting(candidate: Format, width: int) -> Format:
    misfit = candidate.misfit(width)
    if misfit:
        raise usage_error(misfit, help="choose another --kv-cache-dtype for this stream; see `kvcalc list formats`")
    return candidate
