"""kvcalc schema"""

from __future__ import annotations

import sys


def schema() -> None:
    """The JSON Schema (draft-07) of a model spec, for editors and other tools.

    Example: kvcalc schema > model-spec.schema.json
    """
    from kvcalc.spec.schema import model_schema, schema_text

    sys.stdout.write(schema_text(model_schema()))
