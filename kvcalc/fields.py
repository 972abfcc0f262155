"""Types of the fields that spec files may set, with their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from kvcalc.problems import KvcalcError

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


@dataclass(frozen=True, slots=True)
class Written:
    """Marks a quantity that a file gives as the command line does: `32K`, `50ms`, `1.5GiB`.

    It stays as it is written, so that reports and errors show what the user wrote; whoever calculates reads it with
    `read`, and validation has tried that already.
    """

    read: Callable[[str], Any]
    """Raises KvcalcError."""
    types: tuple[type, ...]
    """What YAML may make of it."""
    pattern: str
    """For the JSON Schema."""
    examples: tuple[str | float, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def accept(value: object) -> object:
            said: dict[str, Any]
            if isinstance(value, bool) or not isinstance(value, self.types):
                names = {str: "text", int: "a whole number", float: "a number"}
                said = {"wanted": " or ".join(names[kind] for kind in self.types), "help": f"as in {self.examples[-1]}"}
                raise PydanticCustomError("kvcalc_type", "{wanted}", said)
            try:
                self.read(str(value))
            except KvcalcError as error:
                said = {"message": error.problems[0].message, "help": error.problems[0].help}
                raise PydanticCustomError("kvcalc_value", "{message}", said) from None
            return value

        return core_schema.no_info_plain_validator_function(accept)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        numbers = {int: {"type": "integer", "minimum": 0}, float: {"type": "number", "minimum": 0}}
        kinds = [numbers[kind] for kind in self.types if kind in numbers]
        text = {"type": "string", "pattern": self.pattern}
        return {"anyOf": [*kinds, text], "examples": list(self.examples)}
