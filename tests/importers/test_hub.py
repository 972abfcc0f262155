"""The hub importer against a local HTTP server that plays the hub."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub")

CONFIG = json.dumps(
    {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
     "num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": 10, "intermediate_size": 16}
).encode()  # fmt: skip
PINNED = "c0ffee" * 6 + "abcd"
PIN = """
import sys
from kvcalc.importers.hub import fetch_config
from kvcalc.problems import KvcalcError
try:
    print(fetch_config("org/small", sys.argv[1]).parent.name)
except KvcalcError as error:
    print("PROBLEM", error.problems[0].code, error.problems[0].message)
"""
ASK = """
import sys
from kvcalc.importers.load import load_foreign, spec_of
from kvcalc.problems import KvcalcError
try:
    spec = spec_of(load_foreign(sys.argv[1], hub=True))
    print(spec.name, spec.hub_id, spec.layout().groups[0].label)
except KvcalcError as error:
    print("PROBLEM", error.problems[0].code, error.problems[0].message)
"""


class Hub(BaseHTTPRequestHandler):
    """Knows one model; counts what it was asked for."""

    asked: list[str] = []  # noqa: RUF012 - emptied by the fixture

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        Hub.asked.append(f"{self.command} {self.path}")
        models = {"/org/small/": CONFIG, "/org/huge/": b"x" * (2**22 + 1), "/org/broken/": b"{"}
        name, _, rest = self.path.partition("resolve/")
        revision, _, file = rest.partition("/")
        known = revision in ("main", PINNED) and file.startswith("config.json")
        content = models.get(name) if known else None
        if self.path.startswith("/org/gated/"):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            content = b""
        elif content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if name in models else "RepoNotFound")
            content = b""
        else:
            self.send_response(200)
            self.send_header("ETag", '"abc123"')
            self.send_header("X-Repo-Commit", PINNED if revision == PINNED else "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(model: str, endpoint: str, home: Path, script: str = ASK, **more: str) -> str:
    """huggingface_hub reads its variables when it is imported: so each question is a process."""
    path = ":".join(sys.path)
    env = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HF_ENDPOINT": endpoint, "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HOME": str(home), **more,
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script, model], env=env, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


def test_only_config_json_is_fetched_and_then_cached(hub: str, tmp_path: Path) -> None:
    expected = "small org/small GQA 4/2 x 16"
    assert ask("org/small", hub, tmp_path) == expected
    assert Hub.asked
    assert all(line.split("?")[0].endswith("/org/small/resolve/main/config.json") for line in Hub.asked)
    assert ask("org/small", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1") == expected


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/none", "no such repository"),
        ("org/gated", "access is restricted"),
        ("org/huge", "no config is so large"),
        ("org/broken", "YAML"),
        ("not an id", "is no hub id"),
    ],
)
def test_what_goes_wrong_is_a_problem(hub: str, tmp_path: Path, model: str, message: str) -> None:
    said = ask(model, hub, tmp_path)
    assert said.startswith("PROBLEM")
    assert message in said


def test_a_commit_is_asked_for(hub: str, tmp_path: Path) -> None:
    assert ask(PINNED, hub, tmp_path, PIN) == PINNED
    assert all(f"/org/small/resolve/{PINNED}/config.json" in line for line in Hub.asked)
    assert ask("d" * 40, hub, tmp_path, PIN) == f"PROBLEM KV805 org/small: no revision {'d' * 40}"


def test_without_a_network_or_a_cache_it_says_so(tmp_path: Path) -> None:
    assert ask("org/small", "http://127.0.0.1:9", tmp_path).startswith("PROBLEM KV805")
    assert ask("org/small", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1").startswith("PROBLEM KV805")
