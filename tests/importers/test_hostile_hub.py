"""A hub that means harm: bodies without end, drips, bombs, redirects, and words for the terminal."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub")

CONFIG = json.dumps(
    {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
     "num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": 10, "intermediate_size": 16}
).encode()  # fmt: skip
MIB = 2**20


class Server(BaseHTTPRequestHandler):
    """Answers `/org/NAME/...` as ACTS says; keeps the headers of what it was asked."""

    asked: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012 - emptied by the fixture

    def do_HEAD(self) -> None:
        self.act()

    def do_GET(self) -> None:
        self.act()

    def act(self) -> None:
        Server.asked.append((f"{self.command} {self.path}", {k.lower(): v for k, v in self.headers.items()}))
        try:
            ACTS[self.path.split("/")[2]](self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def head(self, status: int = 200, **headers: str) -> None:
        """Status line and headers; `_` stands for `-`."""
        self.send_response(status)
        for name, value in {"ETag": '"abc123"', "X_Repo_Commit": "0" * 40, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, content: bytes) -> None:
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def endless(server: Server) -> None:
    """No length, and no end."""
    server.head(Connection="close")
    while server.command == "GET":
        server.wfile.write(b" " * MIB)
    server.close_connection = True


def longer_than_said(server: Server) -> None:
    """One MiB by its header on HEAD; on GET no length, and four."""
    server.head(**({"Content_Length": str(MIB)} if server.command == "HEAD" else {"Connection": "close"}))
    server.body(CONFIG[:-1] + b" " * 4 * MIB + b"}")
    server.close_connection = True


def drip(server: Server) -> None:
    """A byte every now and then: no read ever times out."""
    server.head(Content_Length="100000")
    for _ in range(600 if server.command == "GET" else 0):
        server.wfile.write(b" ")
        time.sleep(0.1)


def silent(server: Server) -> None:
    """Takes the question and says nothing."""
    time.sleep(30)


def bomb(server: Server) -> None:
    """64 MiB of blanks in 64 KiB."""
    packed = gzip.compress(CONFIG[:-1] + b" " * 64 * MIB + b"}")
    server.head(Content_Encoding="gzip", **({"Content_Length": str(len(packed))} if server.command == "GET" else {}))
    server.body(packed)


def to_file(server: Server) -> None:
    server.head(302, Location=f"file://{__file__}", Content_Length="0")


def to_other_host(server: Server) -> None:
    """As a hub sends large files to where they are stored: the other host must not see the token."""
    port = server.server.server_port  # type: ignore[attr-defined]
    server.head(302, Location=f"http://localhost:{port}/org/good/resolve/main/config.json", Content_Length="0")


def round_in_circles(server: Server) -> None:
    server.head(302, Location=server.path, Content_Length="0")


def good(server: Server) -> None:
    server.head(Content_Length=str(len(CONFIG)))
    server.body(CONFIG)


def web_page(server: Server) -> None:
    content = b"<!doctype html><title>Please log in</title>"
    server.head(Content_Type="text/html", Content_Length=str(len(content)))
    server.body(content)


def words_for_the_terminal(server: Server) -> None:
    server.head(
        500, X_Error_Message="\x1b]0;owned\x07\x1b[31mred", X_HF_Warning="topic; \x1b[2Jwiped", Content_Length="0",
        Content_Disposition='attachment; filename="\x1b[2J.json"',
    )  # fmt: skip


def warns(server: Server) -> None:
    server.head(X_HF_Warning="topic; \x1b[2Jwiped", Content_Length=str(len(CONFIG)))
    server.body(CONFIG)


ACTS: Mapping[str, Callable[[Server], None]] = {
    act.__name__: act
    for act in (
        endless, longer_than_said, drip, silent, bomb, to_file, to_other_host, round_in_circles, good, web_page,
        words_for_the_terminal, warns,
    )
}  # fmt: skip

ASK = """
import sys
from kvcalc.importers import hub
hub.DEADLINE_S = float(sys.argv.pop())
from kvcalc.cli import run
run()
"""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Server.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(act: str, endpoint: str, home: Path, deadline: float = 60) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), "HF_ENDPOINT": endpoint,
           "HF_HOME": str(home / "hf"), "HF_TOKEN": "hf_secret", "HOME": str(home)}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", ASK, "size", f"org/{act}", "--hub", "-s", "1", "-q", str(deadline)],
        env=env, capture_output=True, text=True, timeout=60, check=False, cwd=home,
    )  # fmt: skip


def stored(home: Path) -> int:
    """Bytes of the largest file that was written."""
    return max((path.lstat().st_size for path in home.rglob("*") if path.is_file()), default=0)


REFUSED = {
    "endless": "no config is so large",
    "longer_than_said": "no config is so large",
    "bomb": "no config is so large",
    "to_file": "KV805",
    "round_in_circles": "KV805",
    "web_page": "KV801",
    "words_for_the_terminal": "the hub answered",
}


@pytest.mark.parametrize("act", REFUSED)
def test_it_is_refused(act: str, endpoint: str, tmp_path: Path) -> None:
    ran = ask(act, endpoint, tmp_path)
    assert (ran.returncode, ran.stdout) == (2, ""), ran
    assert REFUSED[act] in ran.stderr
    assert ran.stderr.count("\n") <= 4
    assert "\x1b" not in ran.stderr
    assert "\x07" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert stored(tmp_path) <= MIB


@pytest.mark.parametrize("act", ["drip", "silent"])
def test_it_is_not_waited_for(act: str, endpoint: str, tmp_path: Path) -> None:
    started = time.monotonic()
    ran = ask(act, endpoint, tmp_path, deadline=3)
    assert "no config.json within 3.0 s" in ran.stderr
    assert ran.returncode == 2
    assert time.monotonic() - started < 20


def test_another_host_is_not_shown_the_token(endpoint: str, tmp_path: Path) -> None:
    ran = ask("to_other_host", endpoint, tmp_path)
    # 2 layers x 2 (K and V) x 2 heads x 16 x 2 B
    assert (ran.returncode, ran.stdout) == (0, "256\n"), ran
    shown = {(headers["host"].partition(":")[0], headers.get("authorization")) for _, headers in Server.asked}
    assert shown == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


def test_what_a_hub_says_beside_its_answer_is_not_printed(endpoint: str, tmp_path: Path) -> None:
    ran = ask("warns", endpoint, tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "256\n"), ran
    assert "wiped" not in ran.stderr


def test_nothing_but_config_json_is_asked_for(endpoint: str, tmp_path: Path) -> None:
    ask("good", endpoint, tmp_path)
    assert {line.split("?")[0] for line, _ in Server.asked} == {
        f"{verb} /org/good/resolve/main/config.json" for verb in ("HEAD", "GET")
    }
