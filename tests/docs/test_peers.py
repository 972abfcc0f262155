"""The page about other tools shows what was measured, and what was measured was judged rightly."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import pytest

import kvcalc

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))

import hub  # noqa: E402
import measure  # noqa: E402
import page  # noqa: E402
import questions  # noqa: E402
import tools  # noqa: E402

RESULTS = json.loads((ROOT / "benchmarks" / "peers-results.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "peers.md").read_text("utf-8")
GEMMA, NEXT = questions.BY_KEY["Gemma-3-27B"], questions.BY_KEY["Qwen3-Next-80B"]


@pytest.mark.parametrize("file", page.PAGES, ids=[file.name for file in page.PAGES])
def test_the_tables_are_those_of_the_results_on_file(file):
    text = file.read_text("utf-8")
    assert page.refreshed(text, RESULTS) == text, "run `python benchmarks/peers --page`"


def test_every_table_stands_on_one_page():
    shown = [found["name"] for file in page.PAGES for found in page.BLOCK.finditer(file.read_text("utf-8"))]
    assert sorted(shown) == sorted(page.TABLES)


def test_a_table_that_differs_is_rewritten():
    text = "above\n<!-- peers: truths -->\n| 10 KB |\n<!-- /peers -->\nbelow\n"
    now = page.refreshed(text, RESULTS)
    assert now.startswith("above\n")
    assert now.endswith("\nbelow\n")
    assert "10 KB" not in now
    assert "85,899,345,920" in now  # 2 x 80 layers x 64 heads x 128 x 2 B x 32,768


@pytest.mark.parametrize("model", questions.MODELS, ids=[model.key for model in questions.MODELS])
def test_kvcalc_gives_the_right_bytes_from_each_config(model, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        found = kvcalc.size(str(questions.write_config(model, tmp_path) / "config.json"), seq_len=model.tokens).models[
            0
        ]
    assert (found.kv_bytes, found.state_bytes) == (model.kv_bytes, model.state_bytes)


def test_the_versions_in_the_matrix_are_those_that_were_run():
    head = next(line for line in PAGE.splitlines() if line.startswith("| | kvcalc"))
    run = {tool.name: tool.version for tool in tools.TOOLS}
    named = dict(column.strip().rsplit(" ", 1) for column in head.strip("| ").split("|"))
    assert named == {name: run[name] for name in named}
    assert {row["tool"]: row["version"] for row in RESULTS["versions"]} == run


def test_counts_of_kvcalc_in_the_matrix():
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in PAGE.splitlines() if line.startswith("| ")
    }
    engines = [name for name in kvcalc.names("engines") if name != "ideal"]
    assert rows["accelerators known"] == str(len(kvcalc.names("gpus")))
    assert rows["what an engine allocates"] == f"blocks, pages and slots of {len(engines)} engines"


@pytest.mark.parametrize(
    ("said", "verdict", "ratio"),
    [
        ({"kv_bytes": 11_173_625_856, "state_bytes": 0, "via": "x"}, "right", 1.0),
        # a window of 1,024 on all 62 layers: 2 x 16 x 128 x 2 x 62 x 1,024
        ({"kv_bytes": 520_093_696, "state_bytes": 0, "via": "x"}, "wrong", 0.0465),
        ({"kv_bytes": None, "state_bytes": 0, "via": "x"}, "none", None),
        ({"refused": "unknown"}, "refused", None),
        ({"failed": "KeyError"}, "failed", None),
    ],
)
def test_answers_are_judged(said, verdict, ratio):
    found = measure.judged(GEMMA, said)
    assert (found["verdict"], found.get("ratio")) == (verdict, ratio)


def test_keys_and_values_without_the_state_are_a_verdict_of_their_own():
    assert measure.judged(NEXT, {"kv_bytes": NEXT.kv_bytes, "state_bytes": 0, "via": ""})["verdict"] == "state"


def test_nothing_of_this_machine_is_on_file():
    text = json.dumps(RESULTS, ensure_ascii=False)
    assert not re.search(r"127\.0\.0\.1|/tmp|/home|/root|/usr", text)


def fetched(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_the_loopback_hub_serves_a_config_and_a_header_and_no_weights():
    with hub.Hub([GEMMA]) as url:
        place = f"{url}/{GEMMA.hub_id}/resolve/main"
        assert json.loads(fetched(f"{place}/config.json")[1]) == GEMMA.config
        header = fetched(f"{place}/{hub.SHARD}", Range="bytes=0-7")
        assert header == (206, hub.weights_header(GEMMA)[:8])
        assert fetched(f"{place}/{hub.SHARD}")[0] == 403
        assert fetched(f"{place}/{hub.SHARD}", Range="bytes=0-99999999")[0] == 416
        assert fetched(f"{place}/../../../../etc/passwd")[0] == 404
        assert fetched(f"{url}/api/models/someone/else")[0] == 404


def test_the_loopback_hub_ends_after_its_last_request():
    with hub.Hub([GEMMA], max_requests=2) as url:
        place = f"{url}/{GEMMA.hub_id}/resolve/main/config.json"
        assert [fetched(place)[0] for _ in range(3)] == [200, 200, 503]
