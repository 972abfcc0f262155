"""Serving engines, listed once. Adding one is a file here and its line in `_MODULES`."""

from __future__ import annotations

from importlib import import_module

from kvcalc.engines.base import Engine
from kvcalc.engines.checks import version_key
from kvcalc.problems import did_you_mean, usage_error

_MODULES = {
    "ideal": "ideal",
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "tensorrt_llm",
    "lmdeploy": "lmdeploy",
    "llama.cpp": "llamacpp",
    "transformers": "hf_transformers",
}
"""Name on the command line -> module, imported when asked for."""

_ALIASES = {"llamacpp": "llama.cpp", "llama-cpp": "llama.cpp", "trtllm": "tensorrt-llm", "trt-llm": "tensorrt-llm",
            "hf": "transformers"}  # fmt: skip

NAMES = tuple(_MODULES)


def find_engine(text: str) -> Engine:
    """The engine of `vllm` or `vllm@0.19`.

    Raises:
        KvcalcError: unknown name, or no version behind the `@`.
    """
    from dataclasses import replace

    name, at, version = text.strip().partition("@")
    wanted = name.lower().replace("_", "-")
    module = _MODULES.get(_ALIASES.get(wanted, wanted))
    if module is None:
        near = did_you_mean(name, NAMES)
        raise usage_error(f"unknown engine {name[:40]!r}", help=near or f"engines: {', '.join(NAMES)}")
    engine: Engine = import_module(f"kvcalc.engines.{module}").ENGINE
    if not at:
        return engine
    version_key(version)
    return replace(engine, version=version.removeprefix("v"))


def all_engines() -> tuple[Engine, ...]:
    """Every engine, in the order of the list."""
    return tuple(find_engine(name) for name in NAMES)
