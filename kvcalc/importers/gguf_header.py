"""The header of a GGUF file: its metadata, read from the front of the file, bounded; tensors are never touched.

Layout (ggml docs/gguf.md, versions 2 and 3): magic, version u32, tensor count u64, key count u64, then for each key a
string (u64 length, bytes), a type u32 and a value; an array is a type u32, a count u64 and its values.

The gguf package's own reader maps the whole file and makes objects of every vocabulary entry (seconds, and it needs
the tensors to be there); here vocabularies are skipped over, so a header takes milliseconds, however hostile.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from kvcalc.problems import KvcalcError, Problem

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 10_000
MAX_ITEMS = 2_000_000
"""Entries of all arrays that are read one by one: a vocabulary has a quarter of a million."""
KEPT_ITEMS = 20_000
"""Longer arrays of numbers are skipped over: no array of geometry has more entries than a model has layers."""
MAX_TEXT = 2**20
"""Bytes. Longer texts are skipped over, and so is what comes when as much as MAX_TEXTS has been kept."""
MAX_TEXTS = 2**25
MAX_KEY = 2**16
STRING, ARRAY = 8, 9
_SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
"""GGUF value type -> how struct reads it."""


@dataclass(slots=True)
class _Reader:
    path: str
    file: BinaryIO
    size: int
    items: int = 0
    """Entries of arrays so far."""
    texts: int = 0
    """Bytes of texts so far."""

    def fail(self, message: str) -> NoReturn:
        place = f"byte {self.file.tell():,}"
        raise KvcalcError(
            Problem(
                code="KV804",
                message=f"GGUF: {message} (at {place})",
                path=self.path,
                help="is the file whole? fetch it again",
            )
        )

    def _within(self, count: int) -> int:
        if count > self.size - self.file.tell():
            self.fail(f"{count:,} bytes are wanted beyond the end of the file")
        return count

    def take(self, count: int) -> bytes:
        return self.file.read(self._within(count))

    def skip(self, count: int) -> None:
        self.file.seek(self._within(count), 1)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, limit: int) -> str | None:
        """A string; None where it is longer than `limit`, or than what is left for all (skipped over)."""
        length = int(self.number("<Q"))
        if length > limit or self.texts + length > MAX_TEXTS:
            self.skip(length)
            return None
        self.texts += length
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == STRING:
            return self.text(MAX_TEXT)
        if kind == ARRAY:
            return self.array()
        return self.fail(f"value type {kind} is not known")

    def array(self) -> list[Any] | None:
        kind, count = int(self.number("<I")), int(self.number("<Q"))
        form = _SCALARS.get(kind, "")
        if form and count > KEPT_ITEMS:
            self.skip(count * struct.calcsize(form))
            return None
        self.items += count
        if self.items > MAX_ITEMS:
            self.fail(f"{self.items:,} entries of arrays")
        if form:
            return list(struct.unpack(f"<{count}{form[-1]}", self.take(count * struct.calcsize(form))))
        if kind != STRING:
            self.fail("an array of arrays" if kind == ARRAY else f"value type {kind} is not known")
        for _ in range(count):
            self.skip(int(self.number("<Q")))
        return None


def read_header(path: str) -> Mapping[str, Any]:
    """Key -> value of a GGUF file's metadata; long arrays and arrays of strings are None.

    Raises:
        KvcalcError: not a GGUF file, or a header that does not hold together (KV804).
    """
    try:
        with Path(path).open("rb") as file:
            return _metadata(_Reader(path, file, Path(path).stat().st_size))
    except OSError as error:
        message = f"{path[:200]} cannot be read: {error.strerror or error}"
        raise KvcalcError(Problem(code="KV001", message=message, path=path)) from None


def _metadata(reader: _Reader) -> Mapping[str, Any]:
    if reader.size < 4 or reader.take(4) != MAGIC:
        reader.fail("this is no GGUF file")
    version = int(reader.number("<I"))
    if version not in VERSIONS:
        reader.fail(f"version {version} is not read (known: 2 and 3, little-endian)")
    reader.number("<Q")
    count = int(reader.number("<Q"))
    if count > MAX_KEYS:
        reader.fail(f"{count:,} metadata keys")
    found: dict[str, Any] = {}
    for _ in range(count):
        key = reader.text(MAX_KEY)
        if key is None:
            reader.fail("a key of more than 65,536 bytes, or texts without end")
        if key in found:
            reader.fail(f"key {key[:60]!r} stands twice")
        found[key] = reader.value(int(reader.number("<I")))
    return found
