"""Types of the fields that spec files may set, with their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

STRICT: Final[dict[str, Any]] = {"extra": "forbid", "strict": True}
"""What pydantic reads from a dataclass's `__pydantic_config__`: no unknown keys, no conversions."""

Size = Annotated[int, Ge(1), Le(2**40)]
"""A positive dimension or count."""
Size0 = Annotated[int, Ge(0), Le(2**40)]
"""A dimension or count that may be absent."""
StateDtype = Literal["fp32", "bf16", "fp16", "fp8"]
"""Formats a recurrent or convolution state is held in: fixed by the model, not by --kv-cache-dtype."""
Name = Annotated[str, MinLen(1), MaxLen(100)]
Text = Annotated[str, MinLen(1), MaxLen(2000)]
