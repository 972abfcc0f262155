"""The published JSON Schema and the loader accept and refuse the same documents."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml
from factories import SPEC

from kvcalc.problems import KvcalcError
from kvcalc.spec.catalog import shipped_raw
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.schema import model_schema
from kvcalc.spec.validate import validate
from kvcalc.spec.yamlio import load_yaml

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 63, 2**40, 2**40 + 1, 2**70, 1.5, "", "x", "full", "bf16", "x" * 101, [], ["full"],
    ["full"] * 17, [[]], {}, {"kind": "full"}, [{"attention": "full"}], [{}],
)  # fmt: skip


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value of a document."""
    keys: Any = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from places(node[key])


def test_schema_and_loader_agree_on_1000_mutations() -> None:
    chance = random.Random(20261124)
    check = jsonschema.Draft7Validator(model_schema())
    seeds = [
        yaml.safe_load(SPEC),
        *(dict(shipped_raw(name)) for name in ("deepseek-v3.2", "gemma-3-27b", "jamba-v0.1")),
    ]
    accepted = 0
    for _ in range(1000):
        raw = copy.deepcopy(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2))):
            container, key = chance.choice(list(places(raw)))
            match chance.randrange(4):
                case 0 if isinstance(container, dict):
                    del container[key]
                case 1 if isinstance(container, dict):
                    container[chance.choice(("extra", "", "head_dim", "count"))] = copy.deepcopy(chance.choice(VALUES))
                case _:
                    container[key] = copy.deepcopy(chance.choice(VALUES))
        document = load_yaml("x.json", json.dumps(raw).encode())
        try:
            validate(ModelSpec, document)
        except KvcalcError as error:
            told = [problem.message for problem in error.problems]
            assert not check.is_valid(raw), (told, raw)
        else:
            accepted += 1
            assert check.is_valid(raw), ([fault.message for fault in check.iter_errors(raw)], raw)
    assert 100 < accepted < 900
