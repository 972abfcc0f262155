"""Asks one tool, inside that tool's own environment; needs nothing but the standard library and the tool.

    python ask.py TOOL command ARG...               the tool's own command line
    python ask.py TOOL answers QUESTIONS            a JSON line for each: the bytes that it says, or its refusal
    python ask.py TOOL sweep FOLDER STEP COUNT      one JSON line: the sum over COUNT lengths, and the seconds it took

QUESTIONS is a JSON file: a list of [folder of a config.json, hub id, tokens].

A tool that insists on the hub is given the loopback one of the environment variable PEERS_HUB. A refusal is what the
tool says itself, by an exit code or an error of its own; any other exception is a failure.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REAL_HUB = "https://huggingface.co"
HUB = os.environ.get("PEERS_HUB", REAL_HUB)
Json = dict[str, Any]


class Refused(Exception):
    """The tool says that it has no answer."""


@dataclass(frozen=True)
class Adapter:
    """How one tool is asked: its command line, the bytes of one sequence, and the same for many lengths."""

    command: Callable[[Sequence[str]], object]
    answer: Callable[[Path, str, int], Json]
    sweep: Callable[[Path, Sequence[int]], int]
    refusals: tuple[str, ...] = ()  # names of the exceptions by which it refuses


def config(folder: Path) -> Json:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def printed(command: Callable[[Sequence[str]], object], arguments: Sequence[str]) -> str:
    """What a command prints; a refusal where it ends with an exit code or a message."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command(arguments)
        except SystemExit as stop:
            code = stop.code
    if isinstance(code, str) or (isinstance(code, int) and code not in (0, 1)) or (code and not out.getvalue().strip()):
        said = code if isinstance(code, str) else err.getvalue().strip() or out.getvalue().strip()
        raise Refused(" ".join(said.split()) or f"exit code {code}")
    return out.getvalue()


def with_argv(main: Callable[[], object], name: str) -> Callable[[Sequence[str]], object]:
    def command(arguments: Sequence[str]) -> object:
        sys.argv = [name, *arguments]
        return main()

    return command


def kvcalc() -> Adapter:
    def command(arguments: Sequence[str]) -> object:
        from kvcalc.__main__ import main

        sys.argv = ["kvcalc", *arguments]
        main()
        return 0

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        path = str(folder / "config.json")
        said = json.loads(printed(command, ["size", path, "-b", "1", "-s", str(tokens), "-o", "json"]))["models"][0]
        return {"kv_bytes": said["kv_bytes"], "state_bytes": said["state_bytes"], "via": "size FILE -o json"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        import kvcalc as api

        plane = api.sweep(config(folder), batch_size=[1], seq_len=lengths).planes[0]
        return sum(int(block.cache_bytes.sum()) for block in plane.blocks())

    return Adapter(command, answer, sweep)


def kvfit() -> Adapter:
    import kvfit.hf
    from kvfit.cli import main

    kvfit.hf.HF_BASE = HUB

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        arguments = [hub_id, "--hardware", "h200", "--gpus", "8", "--context", str(tokens), "--kv-dtype", "bf16"]
        arguments.append("--allow-context-overflow")
        cache = json.loads(printed(main, [*arguments, "--json"]))["cache"]
        state = sum(part["bytes"] for part in cache["components"] if re.search("state|conv|recurrent", part["name"]))
        total = cache["bytes_per_sequence"]
        return {"kv_bytes": int(total - state), "state_bytes": int(state), "via": "--json"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        raw = config(folder)
        return sum(int(kvfit.estimate_cache(raw, context_tokens=s).total_bytes) for s in lengths)

    return Adapter(main, answer, sweep, ("UnsupportedArchitecture",))


def hf_mem() -> Adapter:
    import httpx2
    from hf_mem.cli import main

    build = httpx2.AsyncClient.build_request

    def redirected(self: Any, method: str, url: Any, **kwargs: Any) -> Any:
        return build(self, method, str(url).replace(REAL_HUB, HUB), **kwargs)

    setattr(httpx2.AsyncClient, "build_request", redirected)  # noqa: B010
    command = with_argv(main, "hf-mem")

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        arguments = ["--model-id", hub_id, "--experimental", "--max-model-len", str(tokens), "--batch-size", "1"]
        said = printed(command, [*arguments, "--kv-cache-dtype", "bfloat16", "--json-output"])
        kv = json.loads(said.splitlines()[-1])["kv_cache"]
        return {"kv_bytes": kv, "state_bytes": 0, "via": "--json-output"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size as size

        raw = config(folder)
        return sum(size(raw, "BF16", s) for s in lengths)

    return Adapter(command, answer, sweep, ("RuntimeError",))


def llm_d_planner() -> Adapter:
    os.environ["HF_ENDPOINT"] = HUB
    from planner.cli.planner_cli import main

    command = with_argv(main, "planner")

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        said = printed(command, ["plan", "--model", hub_id, "--max-model-len", str(tokens), "--batch-size", "1"])
        detail = json.loads(said[said.index("{") :])["kv_cache_detail"]
        return {"kv_bytes": int(detail["per_token_memory_bytes"] * tokens), "state_bytes": 0, "via": "plan"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        from planner.capacity_planner import KVCacheDetail
        from transformers import AutoConfig

        raw = AutoConfig.from_pretrained(folder)
        return sum(int(KVCacheDetail("", raw, s, 1).per_request_kv_cache_bytes) for s in lengths)

    return Adapter(command, answer, sweep)


def llm_mem_planner() -> Adapter:
    from llm_mem_planner import cli

    def size(dims: Any, tokens: int) -> int:
        """Latent and indexer keys, which it counts apart."""
        index = cli.estimate_nsa_index_cache_gib(dims, batch=1, seq_len=tokens) or 0.0
        latent = cli.estimate_kv_cache_gib(dims, batch=1, seq_len=tokens, kv_dtype_bytes=2)
        return round(float(latent + index) * 2**30)

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        arguments = ["--config", str(folder / "config.json"), "--seq-len", str(tokens), "--kv-dtype", "bfloat16"]
        printed(cli.main, arguments)  # refuses what it does not know; prints three decimals of GiB
        return {"kv_bytes": size(cli.load_dims(config(folder)), tokens), "state_bytes": 0, "via": "internal function"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        dims = cli.load_dims(config(folder))
        return sum(size(dims, s) for s in lengths)

    return Adapter(cli.main, answer, sweep)


def aiconfigurator(fallback: bool = False) -> Adapter:
    from aiconfigurator_core.sdk.memory import NaiveKVCacheEstimator, estimate_kv_cache
    from aiconfigurator_core.sdk.perf_database import get_latest_database_version

    def estimate(folder: Path) -> Json:
        """The public function; memory enough that weights never use it up."""
        return estimate_kv_cache(  # type: ignore[no-any-return]
            str(folder),
            "h200_sxm",
            "vllm",
            get_latest_database_version("h200_sxm", "vllm"),
            max_num_tokens=8192,
            max_batch_size=1,
            memory_fraction_kind="of_total",
            memory_fraction_value=0.9,
            kvcache_quant_mode="bfloat16",
            gpu_memory_capacity_bytes_override=2**43,
            allow_naive_fallback=fallback,
        )

    def curve(folder: Path) -> Callable[[int], int]:
        from aiconfigurator_core.sdk.config_builders import build_model_config
        from aiconfigurator_core.sdk.models import get_model

        made = build_model_config(
            tp_size=1, pp_size=1, attention_dp_size=1, moe_tp_size=1, moe_ep_size=1, kvcache_quant_mode="bfloat16"
        )
        return get_model(str(folder), made, "vllm").get_kvcache_bytes_per_sequence  # type: ignore[no-any-return]

    def smallest_budget(folder: Path, tokens: int) -> int:
        """The fallback knows tokens of a budget, not bytes of tokens: the least budget that holds them."""
        naive = NaiveKVCacheEstimator.from_model_path(str(folder), tp_size=1, pp_size=1, allow_hf_config_download=False)
        low, high = 0, 2**50
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (low, middle) if naive.get_kvcache_max_tokens(middle) >= tokens else (middle, high)
        return high

    def answer(folder: Path, hub_id: str, tokens: int) -> Json:
        """Its class of the model; with the fallback, what the public function falls back to."""
        if fallback and estimate(folder)["source"] != "native":
            return {"kv_bytes": smallest_budget(folder, tokens), "state_bytes": 0, "via": "the naive estimator"}
        return {"kv_bytes": int(curve(folder)(tokens)), "state_bytes": 0, "via": "get_kvcache_bytes_per_sequence"}

    def sweep(folder: Path, lengths: Sequence[int]) -> int:
        size = curve(folder)
        return sum(int(size(s)) for s in lengths)

    def command(arguments: Sequence[str]) -> object:
        if arguments[0] == "estimate-kv-cache":  # no subcommand says it: the API, as a process
            print(json.dumps(estimate(Path(arguments[1]))))
            return 0
        from aiconfigurator.main import main

        return main(list(arguments))

    return Adapter(command, answer, sweep, ("ValueError", "UnsupportedModelError"))


ADAPTERS: dict[str, Callable[[], Adapter]] = {
    "kvcalc": kvcalc,
    "kvfit": kvfit,
    "hf-mem": hf_mem,
    "llm-d-planner": llm_d_planner,
    "llm-mem-planner": llm_mem_planner,
    "aiconfigurator": aiconfigurator,
    "aiconfigurator-fallback": lambda: aiconfigurator(fallback=True),
}


def answered(adapter: Adapter, folder: Path, hub_id: str, tokens: int) -> Json:
    try:
        return adapter.answer(folder, hub_id, tokens)
    except Refused as said:
        return {"refused": str(said)}
    except Exception as error:
        words = f"{type(error).__name__}: {error.__cause__ or error}".splitlines()[0]
        if type(error).__name__ in adapter.refusals:
            return {"refused": words}
        traceback.print_exc()
        return {"failed": words}


def swept(adapter: Adapter, folder: Path, step: int, count: int) -> Json:
    lengths = range(step, step * count + 1, step)
    adapter.sweep(folder, lengths[:1])  # imports and the config are not the sweep
    started, cpu = time.perf_counter(), time.process_time()
    total = adapter.sweep(folder, lengths)
    return {"sum": total, "wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def main() -> None:
    warnings.simplefilter("ignore")
    tool, mode, *rest = sys.argv[1:]
    adapter = ADAPTERS[tool]()
    if mode == "command":
        sys.exit(adapter.command(rest))  # type: ignore[arg-type]
    if mode == "answers":
        for folder, hub_id, tokens in json.loads(Path(rest[0]).read_text(encoding="utf-8")):
            print(json.dumps(answered(adapter, Path(folder), hub_id, tokens)), flush=True)
    else:
        print(json.dumps(swept(adapter, Path(rest[0]), int(rest[1]), int(rest[2]))))


if __name__ == "__main__":
    main()
