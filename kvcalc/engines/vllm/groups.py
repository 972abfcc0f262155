"""vLLM's groups: layers that share a block table, and the bytes of one block of the pool they share.

Rules: vLLM 0.33.0 v1/core/kv_cache_planning.py: grouping 427-556, bytes per block 576, packing 897-1060,
promotion of windows 740-860, page unification 330-425.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kvcalc.engines.vllm.pages import Keep, Page, resized
from kvcalc.engines.vllm.settings import Settings
from kvcalc.formats import ceil_div
from kvcalc.problems import usage_error

Bucket = list[Page]
LOCAL = (Keep.WINDOW, Keep.CHUNK)
"""What sees the newest tokens alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers with one block table. Each draws whole blocks of the pool."""

    pages: tuple[Page, ...]

    @property
    def first(self) -> Page:
        return self.pages[0]

    @property
    def kinds(self) -> tuple[tuple[Page, int], ...]:
        """(page, how many are like it): layers of one kind share their streams, so identity tells pages apart."""
        found: dict[tuple[object, ...], tuple[Page, int]] = {}
        for page in self.pages:
            key = (id(page.streams), id(page.formats), page.whole_bytes, page.kind)
            found[key] = (page, found.get(key, (page, 0))[1] + 1)
        return tuple(found.values())

    def page_bytes(self, stage: int | None = None, stages: Sequence[int] = ()) -> int:
        """Sum of the pages (of one pipeline stage)."""
        return sum(p.page_bytes for p in self.pages if stage is None or stages[p.layer] == stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All groups, the bytes of one block on a rank of each pipeline stage, and how they came about."""

    groups: tuple[Group, ...]
    stage_block_bytes: tuple[int, ...]
    stages: tuple[int, ...]
    """Pipeline stage of every layer."""
    padding_layers: int

    @property
    def block_bytes(self) -> int:
        return max(self.stage_block_bytes)

    def smallest_block(self, max_model_len: int) -> int:
        """Tokens of the smallest block, as the log before 0.21 counts them; a lone state spans the whole context.

        So of Nemotron-3-Super's blocks of 8,320 tokens, 8,192 count where max_model_len is 8,192 (logs of 0.18).
        """
        return min((g.first.block_size or max_model_len for g in self.groups), default=max_model_len)


def pool(pages: Sequence[Page], settings: Settings, stages: tuple[int, ...]) -> Pool:
    """The groups of all layers; every group's blocks cost as much as the widest group's."""
    block_outermost = _block_outermost(pages, settings)
    pages = tuple(page for page in pages if page.page_bytes)  # a convolution of one column keeps nothing
    pages = pages if settings.separate_kinds else promoted(pages)
    groups, padding = _groups(pages, block_outermost)
    per_stage = tuple(
        max((g.page_bytes(stage, stages) for g in groups), default=0) for stage in range(settings.parallel.pipeline)
    )
    return Pool(groups=tuple(groups), stage_block_bytes=per_stage, stages=stages, padding_layers=padding)


def _block_outermost(pages: Sequence[Page], settings: Settings) -> bool:
    """Whether pages of different sizes lie side by side in a block (BLHNC) or each layer has its own region."""
    layout = settings.kv_cache_layout
    if layout is None:
        return any(p.stride != 1 for p in pages)
    return layout.startswith("B")


def _uniform(pages: Iterable[Page]) -> bool:
    """Whether all need the same number of token slots, whatever their page sizes (is_uniform_type).

    What is charged in full is so whatever its window was.
    """
    kinds = {
        (p.keep, p.block_size, p.span if p.keep is not Keep.FULL else None, p.latent if p.keep is Keep.WINDOW else None,
         p.page_bytes if p.keep is Keep.STATE else None)
        for p in pages
    }  # fmt: skip
    return len(kinds) == 1


def _groups(pages: tuple[Page, ...], block_outermost: bool) -> tuple[list[Group], int]:
    if not pages:
        return [], 0
    if _uniform(pages):
        return [Group(pages=pages)], 0
    if block_outermost and len({p.page_bytes for p in pages}) > 1:
        return _packed(pages), 0
    unified = _unify(pages)
    if unified is None:
        local = [p for p in pages if p.keep in LOCAL]
        fallback = promoted(pages)
        if local and all(p.keep is Keep.WINDOW and not p.latent for p in local) and _uniform(fallback):
            return [Group(pages=fallback)], 0
        raise usage_error(
            "vLLM cannot bring this model's pages to one size", help="another --block-size may make them divide"
        )
    return _equal_groups(unified)


def promoted(pages: Sequence[Page]) -> tuple[Page, ...]:
    """Windows and chunks charged in full, as without the hybrid manager, where full attention stands beside them."""
    if _uniform(pages) or not any(p.keep is Keep.FULL for p in pages):
        return tuple(pages)
    sizes = {p.block_size for p in pages if p.keep is Keep.FULL}
    block = sizes.pop() if len(sizes) == 1 else None
    return tuple(replace(resized(p, block or p.block_size), keep=Keep.FULL) if p.keep in LOCAL else p for p in pages)


def _unify(pages: Sequence[Page]) -> tuple[Page, ...] | None:
    """One page size for all: more tokens per block where it divides, padding elsewhere; None where neither can."""
    largest = max(p.page_bytes for p in pages)
    found: list[Page] = []
    for page in pages:
        if page.page_bytes == largest:
            found.append(page)
        elif page.keep is Keep.STATE:
            found.append(replace(page, page_bytes=largest))
        elif largest % page.page_bytes == 0:
            found.append(resized(page, page.block_size * (largest // page.page_bytes)))
        elif not page.latent or page.keep is Keep.WINDOW:
            found.append(replace(page, page_bytes=largest))
        else:
            return None
    return tuple(found)


def _equal_groups(pages: Sequence[Page]) -> tuple[list[Group], int]:
    """Groups of equally many layers: the smallest kind's count, or the largest's when that is below 1.5 times it."""
    buckets: dict[tuple[object, ...], Bucket] = {}
    for page in pages:
        # Full attention that once was a window merges with plain full attention.
        key = page.kind[2:] if page.keep is Keep.FULL else page.kind
        buckets.setdefault(key, []).append(page)
    counts = [len(bucket) for bucket in buckets.values()]
    size = max(counts) if 2 * max(counts) < 3 * min(counts) else min(counts)
    groups: list[Group] = []
    for bucket in buckets.values():
        number = ceil_div(len(bucket), size)
        groups += [Group(pages=tuple(bucket[i::number])) for i in range(number)]
    return groups, sum(-count % size for count in counts)


def _by_page_size(bucket: Bucket) -> dict[int, Bucket]:
    sizes: dict[int, Bucket] = {}
    for page in bucket:
        sizes.setdefault(page.page_bytes, []).append(page)
    return sizes


def _even_count(sizes: Mapping[int, Bucket]) -> int | None:
    """Pages of each size, where there are as many of each."""
    counts = {len(part) for part in sizes.values()}
    return counts.pop() if len(counts) == 1 else None


def _packed(pages: Sequence[Page]) -> list[Group]:
    """Pages of different sizes side by side: repeating patterns are split into groups of equal width."""
    buckets: list[Bucket] = []
    for page in pages:
        for bucket in buckets:
            if _uniform([*bucket, page]):
                bucket.append(page)
                break
        else:
            buckets.append([page])
    sized = [_by_page_size(bucket) for bucket in buckets]
    even = [_even_count(sizes) for sizes in sized]
    floor = max((count for count, sizes in zip(even, sized, strict=True) if count and len(sizes) > 1), default=0)
    repeats = _approximate_gcd([count for count in even if count], floor) if floor else None

    def split(index: int) -> int:
        count = even[index]
        return ceil_div(count, repeats) if count and repeats else 1

    def recycled(index: int) -> bool:
        first, *_ = buckets[index]
        return first.keep is Keep.STATE or (repeats is None and first.keep is Keep.WINDOW)

    def widest(index: int, number: int) -> int:
        return sum(ceil_div(len(part), number) * size for size, part in sized[index].items())

    anchor = max(widest(i, len(b) if recycled(i) else split(i)) for i, b in enumerate(buckets))
    groups: list[Group] = []
    for index, bucket in enumerate(buckets):
        number = split(index)
        if recycled(index):
            first, *_ = bucket
            number = max(number, ceil_div(len(bucket), anchor // first.page_bytes))
        if number == 1:
            groups.append(Group(pages=tuple(bucket)))
            continue
        if even[index] is None:
            raise usage_error(
                "vLLM cannot deal out windows (or states) of several page sizes over the blocks of this layout",
                help="leave kv_cache_layout to vLLM",
            )
        rows = list(zip(*sized[index].values(), strict=True))
        groups += [Group(pages=tuple(p for row in rows[i::number] for p in row)) for i in range(number)]
    return groups


def _approximate_gcd(values: Sequence[int], floor: int) -> int:
    """The size from `floor` on to whose multiples all values are rounded up with the least padding; the largest of
    equals."""
    sizes = range(floor, max(values) + 1)
    return min(sizes, key=lambda size: (sum(-value % size for value in values), -size))
