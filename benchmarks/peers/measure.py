"""Runs the questions and keeps what came back, as plain data for the page."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub import Hub
from questions import BY_KEY, MODELS, Model, write_config
from tools import TOOLS, Tool, environment, planned_model

Json = dict[str, Any]
STEP, COUNT = 13, 10_000  # lengths 13, 26, ... 130,000
CATALOGUE_TOKENS = 32_768


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall and CPU seconds (user + system, with its children), and what it said."""

    wall: float
    cpu: float
    code: int
    out: str
    err: str


def run(command: list[str], env: dict[str, str], timeout: float = 300) -> Run:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=timeout)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, out, err = 124, "", f"no answer in {timeout:.0f} s"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.perf_counter() - started, cpu, code, out, err)


def judged(model: Model, said: Json) -> Json:
    """Answer, truth and their ratio; a refusal and a failure are what the tool says."""
    for verdict in ("refused", "failed"):
        if verdict in said:
            return {"verdict": verdict, "said": said[verdict]}
    kv, state = said["kv_bytes"], said["state_bytes"]
    if kv is None:
        return {"verdict": "none", "said": "no figure and no message"}
    right = kv == model.kv_bytes
    verdict = "right" if right and state == model.state_bytes else "state" if right else "wrong"
    ratio = round((kv + state) / (model.kv_bytes + model.state_bytes), 4)
    return {"verdict": verdict, "kv_bytes": kv, "state_bytes": state, "ratio": ratio, "said": said["via"]}


class Bench:
    """The installed tools, the folder they stand in, and a folder for configs and caches."""

    def __init__(self, root: Path, tools: list[Tool], runs: int) -> None:
        self.root, self.runs = root, runs
        self.why_not = {tool.name: tool.install(root) for tool in tools}
        self.tools = [tool for tool in tools if tool.adapter and not self.why_not[tool.name]]
        self._scratch = tempfile.TemporaryDirectory()
        self.scratch = Path(self._scratch.name)

    def folder(self, model: Model) -> Path:
        return write_config(model, self.scratch / "configs")

    def machine(self) -> Json:
        return {
            "date": datetime.date.today().isoformat(),
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "load_before": round(os.getloadavg()[0], 2),
            "runs": self.runs,
        }

    def versions(self) -> list[Json]:
        return [
            {
                "tool": t.name,
                "version": t.version,
                "not_installed": self.why_not[t.name],
                "megabytes": 0 if self.why_not[t.name] else t.megabytes(self.root),
                "note": t.note,
            }
            for t in TOOLS
            if t.name in self.why_not
        ]

    def env(self, hub: str, name: str) -> dict[str, str]:
        return environment(hub, self.scratch / f"hub-{name}")

    def asked(self, tool: Tool, models: Sequence[Model], hub: str) -> list[Json]:
        """What one process of the tool says to each question, in the same order."""
        questions = [[str(self.folder(model)), model.hub_id, model.tokens] for model in models]
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.scratch) as file:
            json.dump(questions, file)
            file.flush()
            cache = f"{tool.home or tool.name}-{models[0].key}".replace(" ", "").replace("/", "-")
            done = run(tool.ask(self.root, "answers", file.name), self.env(hub, cache), timeout=1800)
        said: list[Json] = []
        for line in done.out.splitlines():
            with contextlib.suppress(ValueError):
                if isinstance(found := json.loads(line), dict):
                    said.append(found)
        gone = {"failed": (done.err.strip().splitlines() or ["said nothing"])[-1]}
        return [*said, *(gone for _ in range(len(models) - len(said)))]

    def answers(self) -> list[Json]:
        found = []
        for model in MODELS:
            with Hub([model]) as hub:
                for tool in self.tools:
                    print(f"{model.key}: {tool.name}", file=sys.stderr)
                    said = self.asked(tool, [model], hub)[0]
                    row = judged(model, said)
                    found.append({"tool": tool.name, "model": model.key, **row, "said": self.clean(row["said"])})
        return found

    def clean(self, text: str) -> str:
        """Without this machine's folders and ports, and bounded."""
        for folder in (self.scratch, self.root):
            text = text.replace(str(folder), "...")
        return re.sub(r"127\.0\.0\.1:\d+", "hub", text)[:200]

    def timed(self, rows: list[tuple[Json, list[str], dict[str, str]]], runs: int) -> list[Json]:
        """Medians of whole processes; the rows take turns, so that a busy minute meets them all."""
        taken: list[list[Run]] = [[] for _ in rows]
        for turn in range(runs + 1):
            print(f"turn {turn} of {runs}", file=sys.stderr)
            for each, (_, command, env) in zip(taken, rows, strict=True):
                each.append(run(command, env))
        found = []
        for (row, _, _), each in zip(rows, taken, strict=True):
            kept = each[1:]  # the first turn fills caches
            walls, cpus = [one.wall for one in kept], [one.cpu for one in kept]
            codes = sorted({one.code for one in kept})
            figures = {"wall": statistics.median(walls), "wall_min": min(walls), "cpu": statistics.median(cpus)}
            found.append({**row, **{name: round(value, 4) for name, value in figures.items()}, "exit_codes": codes})
        return found

    def sizing(self) -> list[Json]:
        """One sizing question as a whole process."""
        env, own = self.env("", "none"), self.tools[0]
        rows: list[tuple[Json, list[str], dict[str, str]]] = [
            ({"tool": "(python -c pass)", "model": ""}, [sys.executable, "-c", "pass"], env),
        ]
        with Hub([BY_KEY["Llama-3.1-70B"]], 20 * (self.runs + 1) * len(self.tools)) as hub:
            for key in ("Llama-3.1-70B", "DeepSeek-V3"):
                model = BY_KEY[key]
                folder = self.folder(model)
                shipped = own.ask(self.root, "command", "size", key.lower(), "-s", model.tokens, "-o", "json")
                rows.append(({"tool": "kvcalc, shipped spec", "model": key}, shipped, env))
                for tool in self.tools:
                    if tool.size and key in tool.sized:
                        command = tool.ask(self.root, "command", *tool.size(model, folder))
                        rows.append(({"tool": tool.name, "model": key}, command, self.env(hub, tool.name)))
            return self.timed(rows, self.runs)

    def plans(self) -> list[Json]:
        """How many GPUs: not the same work, which `plan_note` says."""
        model = planned_model()
        rows: list[tuple[Json, list[str], dict[str, str]]] = []
        with Hub([model], 20 * (self.runs + 1) * len(self.tools)) as hub:
            for tool in self.tools:
                if tool.plan:
                    filled = [part.replace("{config}", str(self.folder(model))) for part in tool.plan]
                    command = tool.ask(self.root, "command", *filled)
                    rows.append(({"tool": tool.name, "note": tool.plan_note}, command, self.env(hub, tool.name)))
            found = self.timed(rows, min(self.runs, 5))
            for row, (_, command, env) in zip(found, rows, strict=True):
                row["said"] = first_figure(run(command, env).out)
            return found

    def sweeps(self) -> list[Json]:
        """10,000 lengths in one process, imports left out; medians of processes."""
        found = []
        for tool in self.tools:
            for key in tool.sized if tool.sweeps else ():
                model = BY_KEY[key]
                with Hub([model]) as hub:
                    print(f"sweep of {key}: {tool.name}", file=sys.stderr)
                    extra = [model.hub_id] if tool.npm else []
                    asked = tool.ask(self.root, "sweep", self.folder(model), STEP, COUNT, *extra)
                    done = [run(asked, self.env(hub, tool.name)) for _ in range(min(self.runs, 7))]
                said: list[Json] = [json.loads(each.out.strip().splitlines()[-1]) for each in done if not each.code]
                if not said:
                    found.append({"tool": tool.name, "model": key, "failed": self.clean(done[-1].err[-200:])})
                    continue
                truth = model.kv_bytes // model.tokens * STEP * COUNT * (COUNT + 1) // 2
                figures = {name: round(statistics.median(one[name] for one in said), 5) for name in ("wall", "cpu")}
                row = {"tool": tool.name, "model": key, **figures, "right": said[0]["sum"] == truth}
                found.append({**row, "note": tool.sweep_note})
        return found

    def catalogue(self) -> list[Json]:
        """Each tool on the configs that aiconfigurator ships, a choice of models that is not ours, beside kvcalc.

        Nobody is the judge here. Index keys are counted in bf16 and, as engines keep them, in fp8 with a scale.
        """
        import kvcalc

        home = next((tool.place(self.root) for tool in self.tools if tool.name == "aiconfigurator"), None)
        models = shipped_configs(home) if home else []
        rows: list[Json] = []
        for model in models:
            row: Json = {"model": model.hub_id}
            try:
                with warnings.catch_warnings(action="ignore"):
                    for name, dtype in (("bf16", "bf16"), ("index_fp8", "bf16,index=fp8_ds_mla")):
                        path = str(self.folder(model) / "config.json")
                        found = kvcalc.size(path, seq_len=model.tokens, kv_cache_dtype=dtype).models[0]
                        row[name], row["state"] = found.logical_bytes, found.state_bytes
            except kvcalc.KvcalcError as error:
                row["refused"] = self.clean(error.problems[0].message)
            rows.append({"kvcalc": row, "model": row.pop("model"), "others": {}})
        with Hub(models, 40 * len(models) * len(self.tools)) as hub:
            for tool in self.tools:
                if tool.name == "kvcalc" or not models:
                    continue
                print(f"catalogue: {tool.name}", file=sys.stderr)
                for row, said in zip(rows, self.asked(tool, models, hub), strict=True):
                    row["others"][tool.name] = (
                        {"kv": said["kv_bytes"], "state": said["state_bytes"]}
                        if said.get("kv_bytes") is not None
                        else {"said": self.clean(said.get("refused") or said.get("failed") or "no figure")}
                    )
        return rows


def shipped_configs(home: Path) -> list[Model]:
    """The config.json files inside an installed aiconfigurator, each as a question of 32,768 tokens."""
    found = []
    for path in sorted(home.glob("lib/python*/site-packages/aiconfigurator_core/model_configs/*_config.json")):
        if not path.name.endswith("hf_quant_config.json"):
            hub_id = path.name.removesuffix("_config.json").replace("--", "/")
            config = json.loads(path.read_text("utf-8"))
            found.append(
                Model(
                    key=hub_id,
                    hub_id=hub_id,
                    tokens=CATALOGUE_TOKENS,
                    config=config,
                    kv_bytes=0,
                    arithmetic="",
                    source=path.name,
                    parameters=10**10,
                )
            )
    return found


def first_figure(text: str) -> str:
    """The line of a plan that says how many GPUs."""
    for pattern in (
        r"fewest +(.+?):",
        r"^ *(\d+ x dgx-\S+ \(\d+ GPUs\))",
        r"\|\s*1\s*\|.*?\|\s*(\d+) \(\d+=\d+x\d+\)\s*\|",
    ):
        if found := re.search(pattern, text, re.MULTILINE):
            return found[1]
    return ""
