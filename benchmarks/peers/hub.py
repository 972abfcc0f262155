"""A model hub on the loopback interface, for tools that take a hub id and nothing else.

It serves each model's config.json and the header of a weight file without weights, answers at most `max_requests`
requests and lives no longer than the block that it is opened for.
"""

from __future__ import annotations

import json
import re
import struct
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from questions import Model

REVISION = "0" * 39 + "1"
BYTES_OF = {"BF16": 2, "F8_E4M3": 1, "U8": 1}
SHARD, INDEX = "model-00001-of-00001.safetensors", "model.safetensors.index.json"
LONGEST_ANSWER = 2**20

INFO = re.compile(r"/api/models/(?P<id>[^/]+/[^/?]+)(/revision/[^/?]+)?(\?.*)?")
TREE = re.compile(r"/api/models/(?P<id>[^/]+/[^/?]+)/tree/[^/?]+(\?.*)?")
FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>[^?]+)(\?.*)?")


def weights_header(model: Model) -> bytes:
    """A safetensors file's head that declares one tensor per layer, as many elements in all as the model has."""
    layers = len(layer_names(model))
    width, tensors, start = BYTES_OF[model.weight_dtype], {}, 0
    for index, name in enumerate(layer_names(model)):
        count = model.parameters * (index + 1) // layers - model.parameters * index // layers
        end = start + count * width
        tensors[name] = {"dtype": model.weight_dtype, "shape": [count], "data_offsets": [start, end]}
        start = end
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header


def layer_names(model: Model) -> list[str]:
    text = model.config.get("text_config")
    for fields in (text if isinstance(text, dict) else {}, model.config):
        count = fields.get("num_hidden_layers")
        if isinstance(count, int):
            return [f"model.layers.{index}.weight" for index in range(count)]
    return ["model.weight"]


def small_files(model: Model) -> dict[str, bytes]:
    """Config and index; where the config says that the repository brings a class, transformers' own or a plain one."""
    files = {
        "config.json": json.dumps(model.config).encode(),
        INDEX: json.dumps({"metadata": {}, "weight_map": dict.fromkeys(layer_names(model), SHARD)}).encode(),
    }
    auto_map = model.config.get("auto_map")
    if isinstance(auto_map, dict):
        module, name = auto_map["AutoConfig"].split(".")
        kind = repr(model.config.get("model_type"))
        base = f"CONFIG_MAPPING[{kind}] if {kind} in CONFIG_MAPPING else PretrainedConfig"
        body = f"Base = {base}\n\n\nclass {name}(Base):\n    model_type = {kind}\n"
        files[f"{module}.py"] = f"from transformers import CONFIG_MAPPING, PretrainedConfig\n\n{body}".encode()
    return files


def sizes(model: Model) -> dict[str, int]:
    """Bytes of each file, as the hub lists them."""
    weights = len(weights_header(model)) + model.parameters * BYTES_OF[model.weight_dtype]
    return {**{name: len(content) for name, content in small_files(model).items()}, SHARD: weights}


def listing(model: Model) -> list[dict[str, object]]:
    return [{"type": "file", "path": name, "size": size, "oid": REVISION} for name, size in sizes(model).items()]


def info(model: Model) -> dict[str, object]:
    return {
        "id": model.hub_id,
        "modelId": model.hub_id,
        "sha": REVISION,
        "siblings": [{"rfilename": name, "size": size} for name, size in sizes(model).items()],
        "safetensors": {"parameters": {model.weight_dtype: model.parameters}, "total": model.parameters},
        "config": {name: model.config.get(name) for name in ("architectures", "model_type")},
        "tags": [],
    }


class Handler(BaseHTTPRequestHandler):
    """One request; the models and what is left of the budget are the server's."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.server.spend():
            return self.reply(503, b"no more requests")
        for pattern, make in ((TREE, listing), (INFO, info)):
            if (found := pattern.fullmatch(self.path)) and (model := self.server.models.get(found["id"])):
                return self.reply(200, json.dumps(make(model)).encode(), {"Content-Type": "application/json"})
        if (found := FILE.fullmatch(self.path)) and (model := self.server.models.get(found["id"])):
            return self.file(model, found["file"])
        return self.reply(404, b"unknown", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def file(self, model: Model, name: str) -> None:
        size = sizes(model).get(name)
        if size is None:
            return self.reply(404, b"unknown", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
        kept = {"ETag": f'"{name}-{size}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        if name != SHARD:
            return self.reply(200, small_files(model)[name], kept)
        if self.command == "HEAD":
            return self.reply(200, b"", {**kept, "Content-Length": str(size)})
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self.reply(403, b"no weights here: ask for the header's range")
        first, last = int(asked[1]), min(int(asked[2]), size - 1)
        if not first <= last < first + LONGEST_ANSWER:
            return self.reply(416, b"range")
        body = weights_header(model)[first : last + 1].ljust(last + 1 - first, b"\0")
        return self.reply(206, body, {**kept, "Content-Range": f"bytes {first}-{last}/{size}"})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, models: Iterable[Model], max_requests: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {model.hub_id: model for model in models}
        self.left = max_requests
        self._lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is no news."""

    def spend(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0


class Hub:
    """`with Hub(models) as url:` serves these models until the block ends."""

    def __init__(self, models: Iterable[Model], max_requests: int = 2000) -> None:
        self._server = Server(models, max_requests)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
