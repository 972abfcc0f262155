"""The tools that are asked: which version, how installed, and the commands that are timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from questions import BY_KEY, Model

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
NODE_HOME = Path("node_modules/fitllm-engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool, pinned to the version whose answers and code were read.

    `adapter` is its name in ask.py (none: it could not be installed when this was written, and is tried again).
    `size` and `plan` are the arguments of its own command line for the two questions that are timed.
    """

    name: str
    version: str
    packages: tuple[str, ...] = ()
    adapter: str | None = None
    npm: bool = False
    script: str = ""  # its own console script; none where ask.py must put the loopback hub in first
    home: str = ""  # the folder it is installed in; tools may share one
    needs_gb: float = 0.2
    note: str = ""
    sized: tuple[str, ...] = ("Llama-3.1-70B",)
    size: Callable[[Model, Path], list[str]] | None = None
    sweeps: bool = True  # 10,000 lengths of the models that it is sized with
    sweep_note: str = ""
    plan: list[str] | None = None
    plan_note: str = ""

    def place(self, root: Path) -> Path:
        return root / (self.home or self.name)

    def python(self, root: Path) -> Path:
        return self.place(root) / "bin" / "python"

    def ask(self, root: Path, mode: str, *arguments: object) -> list[str]:
        """The process that asks it: `command`, `answer` or `sweep` of ask.py or ask.mjs."""
        rest = [str(argument) for argument in arguments]
        if mode == "command" and self.script:
            return [str(self.place(root) / "bin" / self.script), *rest]
        if not self.npm:
            return [str(self.python(root)), str(HERE / "ask.py"), str(self.adapter), mode, *rest]
        home, script = self.place(root) / NODE_HOME, HERE / "ask.mjs"
        if mode == "command":
            return ["node", "--import", script.as_uri(), str(home / "bin" / "fitllm.mjs"), *rest]
        return ["node", str(script), str(home), mode, *rest]

    def install(self, root: Path) -> str | None:
        """Install it where it is missing; the reason where that is not possible."""
        place, pins = self.place(root), root / f".{self.name}-{self.version}"
        if pins.exists() and self.name != "kvcalc":  # this checkout has changed under the same version
            return None
        if (free := shutil.disk_usage(root).free / 1e9) < self.needs_gb:
            return f"needs {self.needs_gb} GB of disk, {free:.1f} are free"
        if self.npm:
            if not (shutil.which("npm") and shutil.which("node")):
                return "npm is not here"
            place.mkdir(parents=True, exist_ok=True)
            steps = [["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *self.packages]]
        else:
            quiet = ["install", "--quiet", "--disable-pip-version-check"]
            steps = [
                [sys.executable, "-m", "venv", str(place)],
                [str(place / "bin" / "python"), "-m", "pip", *quiet, *self.packages],
            ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=1800)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.lower().startswith(("error:", "npm err"))]
                return (lines or ["the installer failed"])[0].strip()[:120]
        pins.write_text("\n".join(self.packages), encoding="utf-8")
        return None

    def megabytes(self, root: Path) -> int:
        """Of what it brings, without pip and setuptools; zero where it is not installed."""
        place = self.place(root)
        found = place / NODE_HOME if self.npm else next(place.glob("lib/python*/site-packages"), place)
        own = (
            path
            for path in found.glob("*")
            if not path.name.startswith(("pip", "setuptools", "pkg_resources", "_dist"))
        )
        files = (file for path in own for file in ([path] if path.is_file() else path.rglob("*")))
        return round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6)


def config_file(folder: Path) -> str:
    return str(folder / "config.json")


def kvcalc_version() -> str:
    import kvcalc

    return kvcalc.__version__


TOOLS = (
    Tool(
        name="kvcalc",
        version=kvcalc_version(),
        packages=(str(CHECKOUT),),
        adapter="kvcalc",
        script="kvcalc",
        sized=("Llama-3.1-70B", "DeepSeek-V3"),
        size=lambda model, folder: ["size", config_file(folder), "-b", "1", "-s", str(model.tokens), "-o", "json"],
        plan=["plan", "llama-3.1-70b", "--gpu", "h200", "-b", "32", "-s", "32K"],
        plan_note="every layout of TP, PP, DP, EP, attention DP and context parallel; memory, with a bound of the "
        "time; proves that one GPU fewer does not hold it",
    ),
    Tool(
        name="kvfit",
        version="0.3.0",
        packages=("kvfit==0.3.0",),
        adapter="kvfit",
        size=lambda model, folder: [
            *[model.hub_id, "--hardware", "h200", "--gpus", "8", "--context", str(model.tokens)],
            *["--kv-dtype", "bf16", "--json"],
        ],
        sweep_note="its public function",
        plan=[
            *["meta-llama/Meta-Llama-3.1-70B", "--systems", "dgx-h200", "--max-nodes", "8"],
            *["--concurrent-users", "32", "--context", "32768", "--kv-dtype", "bf16"],
        ],
        plan_note="whole nodes with TP inside each; memory alone",
    ),
    Tool(
        name="hf-mem",
        version="0.5.6",
        packages=("hf-mem==0.5.6",),
        adapter="hf-mem",
        size=lambda model, folder: [
            *["--model-id", model.hub_id, "--experimental", "--max-model-len", str(model.tokens)],
            *["--batch-size", "1", "--kv-cache-dtype", "bfloat16", "--json-output"],
        ],
        sweep_note="an internal function; the public one reads the hub each time",
    ),
    Tool(
        name="llm-mem-planner",
        version="0.2.2",
        packages=("llm-mem-planner==0.2.2",),
        adapter="llm-mem-planner",
        script="llm-mem",
        sized=("DeepSeek-V3",),
        size=lambda model, folder: [
            *["--config", config_file(folder), "--seq-len", str(model.tokens), "--kv-dtype", "bfloat16"],
        ],
        sweep_note="an internal function",
    ),
    Tool(
        name="llm-d-planner",
        version="0.3.3",
        packages=("llm-d-planner[estimation]==0.3.3",),
        adapter="llm-d-planner",
        script="planner",
        needs_gb=0.6,
        size=lambda model, folder: ["plan", "--model", model.hub_id, "--max-model-len", str(model.tokens)],
        sweep_note="its public class",
    ),
    Tool(
        name="aiconfigurator",
        version="0.12.0",
        packages=("aiconfigurator==0.12.0",),
        adapter="aiconfigurator",
        needs_gb=2.0,
        size=lambda model, folder: ["estimate-kv-cache", str(folder)],
        note="the size is its Python function's: no subcommand prints bytes of a cache",
        sweep_note="a method of its model",
        plan=[
            *["cli", "recommend", "--model-path", "{config}", "--system", "h200_sxm", "--backend", "vllm"],
            *["--target-concurrency", "32", "--isl", "32000", "--osl", "768", "--ttft", "60000", "--tpot", "100"],
        ],
        plan_note="times from measured kernels, aggregated and disaggregated serving, at TTFT 60 s and TPOT 100 ms",
    ),
    Tool(
        name="aiconfigurator, fallback",
        version="0.12.0",
        packages=("aiconfigurator==0.12.0",),
        adapter="aiconfigurator-fallback",
        home="aiconfigurator",
        needs_gb=2.0,
        sized=(),
        sweeps=False,
        note="allow_naive_fallback=True, which is not its default",
    ),
    Tool(
        name="fitllm-engine",
        version="2.18.0",
        packages=("fitllm-engine@2.18.0",),
        adapter="fitllm-engine",
        npm=True,
        size=lambda model, folder: [
            *[model.hub_id, "--gpu", "H200", "--ctx", str(model.tokens), "--kv", "16", "--quant", "FP16", "--json"],
        ],
        sweep_note="its public function",
    ),
    Tool(
        name="aisimulate",
        version="0.13.0",
        packages=("aisimulate==0.13.0",),
        needs_gb=2.0,
        note="aiconfigurator's successor; what PyPI holds only points to NVIDIA's own index",
    ),
)


def environment(hub: str, scratch: Path) -> dict[str, str]:
    """What each process sees: the loopback hub, an empty cache of its own, no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    return {
        **kept,
        "PEERS_HUB": hub,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(scratch),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_COLOR": "1",
    }


def planned_model() -> Model:
    return BY_KEY["Llama-3.1-70B"]
