"""Names from the command line, from Python and from files: what cannot be one is unknown, and nothing worse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kvcalc

ASKED: dict[str, Callable[[str], object]] = {
    "model": kvcalc.find_model,
    "gpu": kvcalc.find_gpu,
    "engine": lambda name: kvcalc.allocate("qwen-72b", engine=name),
    "format": lambda name: kvcalc.size("qwen-72b", kv_cache_dtype=name),
    "variant": lambda name: kvcalc.compare("qwen-72b", variants=[name]),
}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "\udcff",
        "a\0b",
        "x" * 5000,
        "x/" + "y" * 5000,
        "x" * 5000 + ".json",
        "x" * 5000 + ".gguf",
        "\x1b[31m",
    ],
    ids=lambda name: ascii(name[:8]),
)
@pytest.mark.parametrize("what", ASKED)
def test_what_can_be_no_name_is_a_problem(what: str, name: str) -> None:
    with pytest.raises(kvcalc.KvcalcError) as caught:
        ASKED[what](name)
    assert all(len(problem.message) < 1000 for problem in caught.value.problems)
