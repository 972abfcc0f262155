"""kvcalc diff: files, models and git revisions."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from checks.spec_text import plain
from command_line import kvcalc, refused

# 512-wide, 12 layers: embedding and head 2 x 1000 x 512, attention 12 x (q 512x512 + k,v 2 x 128x512 + o 512x512),
# ffn 12 x 3 x 512x2048, norms (2 x 12 + 1) x 512.
WEIGHTS = "hidden_size: 512\nvocab_size: 1000\nffn:\n  dense: {kind: dense, intermediate_size: 2048}\n"
PARAMETERS = 2 * 1000 * 512 + 12 * (2 * 512 * 512 + 2 * 128 * 512) + 12 * 3 * 512 * 2048 + 25 * 512


def weighty(name: str = "tiny", **changed: int) -> str:
    return plain(name, more=WEIGHTS, **changed).replace("attention: full}", "attention: full, ffn: dense}")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits: a spec that doubles its KV heads, one that is renamed, one added, one removed, other YAML."""
    folder = tmp_path / "repository"
    (folder / "specs").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name in ("grows", "moves", "goes", "stays"):
        (folder / "specs" / f"{name}.yaml").write_text(weighty(name))
    (folder / "compose.yaml").write_text("services: {}\n")
    git(folder, "add", "."), git(folder, "commit", "-q", "-m", "one")
    (folder / "specs" / "grows.yaml").write_text(weighty("grows", kv_heads=4))
    git(folder, "mv", "specs/moves.yaml", "specs/moved.yaml")
    git(folder, "rm", "-q", "specs/goes.yaml")
    (folder / "specs" / "comes.yaml").write_text(weighty("comes", layers=3))
    (folder / "compose.yaml").write_text("services: {web: {}}\n")
    git(folder, "add", "."), git(folder, "commit", "-q", "-m", "two")
    monkeypatch.chdir(folder)
    return folder


def rows(*arguments: str) -> list[dict[str, str]]:
    ran = kvcalc("diff", *arguments, "-o", "csv")
    assert ran.code == 0, ran.err
    return list(csv.DictReader(io.StringIO(ran.out)))


def test_two_files(tmp_path: Path) -> None:
    for name, heads in (("old", 2), ("new", 8)):
        (tmp_path / f"{name}.yaml").write_text(weighty(name, kv_heads=heads))
    (row,) = rows(str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), "-b", "3", "-s", "1000")
    # 12 layers x 2 x heads x 64 x 2 B; three sequences of 1,000 tokens
    assert (row["old_bytes_per_token"], row["new_bytes_per_token"]) == ("6144", "24576")
    assert (row["old_bytes"], row["new_bytes"]) == (str(3 * 1000 * 6144), str(3 * 1000 * 24576))


def test_gpus_are_what_the_planner_finds(tmp_path: Path) -> None:
    """`ideal` allows nothing for overheads, so that a GPU holds weights and cache to the byte."""
    (tmp_path / "a.yaml").write_text(weighty("a"))
    (tmp_path / "b.yaml").write_text(weighty("b", context=8192))
    h200 = 150_109_880_320  # what the driver gives to a program
    batch = (h200 - 2 * PARAMETERS) // (4096 * 6144)
    ideal = ("--gpu", "h200", "--engine", "ideal")
    (row,) = rows(str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), "-b", str(batch), *ideal)
    assert (row["old_h200_gpus"], row["new_h200_gpus"]) == ("1", "2")
    (row,) = rows(str(tmp_path / "a.yaml"), str(tmp_path / "a.yaml"), "-b", str(batch + 1), *ideal)
    assert row["old_h200_gpus"] == "2"


PLAN = "model: {model}\ngpu: [h200, a100-40gb]\nbatch_size: {batch}\nseq_len: 1000\nengine: ideal\n"


def test_a_plan_file_gives_batch_length_format_and_gpus(tmp_path: Path) -> None:
    for name, heads in (("old", 2), ("new", 8)):
        (tmp_path / f"{name}.yaml").write_text(weighty(name, kv_heads=heads))
    sides = (str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"))
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.format(model="qwen-72b", batch=3) + "kv_cache_dtype: fp8\n")
    (row,) = rows(*sides, "--plan", str(plan))
    # 12 layers x 2 x heads x 64 x 1 B
    assert (row["old_bytes_per_token"], row["new_bytes_per_token"]) == ("3072", "12288")
    assert (row["old_bytes"], row["new_bytes"]) == (str(3 * 1000 * 3072), str(3 * 1000 * 12288))
    assert (row["old_h200_gpus"], row["new_a100-40gb_gpus"]) == ("1", "1")
    (row,) = rows(*sides, "--plan", str(plan), "-b", "5", "--kv-cache-dtype", "bf16")  # flags win, as in `plan -f`
    assert row["new_bytes"] == str(5 * 1000 * 24576)


def test_the_planner_says_where_no_number_of_gpus_is_enough(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(weighty("a"))
    a = str(tmp_path / "a.yaml")
    h200 = 150_109_880_320
    batch = 2 * h200 // (4096 * 6144)  # two GPUs full of cache, and no room for weights
    ran = kvcalc(
        "diff", a, "qwen-72b", "--gpu", "h200", "--gpus", "2", "-b", str(batch), "-s", "4K", "--engine", "ideal"
    )
    assert "GPUs (h200)     too few" in ran.out
    report = json.loads(kvcalc("diff", a, a, "--gpu", "h200", "--gpus", "2", "-b", str(batch), "-o", "json").out)
    assert report["models"][0]["new"]["needed"] == [{"gpu": "h200", "gpus": None, "label": None}]


def test_a_rate_is_served_by_sequences_and_a_trace_is_as_long_as_its_requests(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(weighty("a"))
    (tmp_path / "trace.csv").write_text("isl,osl\n600,200\n900,100\n")
    plan = tmp_path / "plan.yaml"
    plan.write_text("model: a.yaml\ngpu: h200\nrate: 100\nlengths: trace.csv\n")
    (row,) = rows(str(tmp_path / "a.yaml"), str(tmp_path / "a.yaml"), "--plan", str(plan))
    assert (row["new_seq_len"], row["new_h200_gpus"]) == ("1000", "1")
    assert int(row["new_batch"]) > 0


def test_weights_that_cannot_be_counted_leave_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(plain("a"))
    a = str(tmp_path / "a.yaml")
    ran = kvcalc("diff", a, a, "--gpu", "h200", "-o", "csv")
    (row,) = csv.DictReader(io.StringIO(ran.out))
    assert (row["new_bytes"], row["new_h200_gpus"]) == (str(4096 * 6144), "")
    assert ran.err == "warning: a: hidden_size and vocab_size and ffn not given, so its weights cannot be counted\n"


def test_two_plans_have_a_workload_each(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(weighty("a"))
    for batch in (3, 4):
        (tmp_path / f"{batch}.yaml").write_text(PLAN.format(model="a.yaml", batch=batch))
    old, new = str(tmp_path / "3.yaml"), str(tmp_path / "4.yaml")
    ran = kvcalc("diff", old, new, "-o", "markdown")
    assert f"| {new}: a | batch | 3 | 4 | +1 (+33.33 %) |" in ran.out
    assert "| B of the batch | 18,432,000 (17.58 MiB) | 24,576,000 (23.44 MiB) | +6,144,000 (+33.33 %) |" in ran.out
    assert "| GPUs (h200) | 1 (TP1) | 1 (TP1) | as before |" in ran.out
    assert "plans bring their own workload" in refused("diff", old, new, "-b", "8")
    assert "cannot be compared with a plan" in refused("diff", old, "qwen-72b")


def test_a_plan_at_a_revision_reads_its_model_there(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "plans").mkdir()
    (repository / "plans" / "p.yaml").write_text(PLAN.format(model="../specs/grows.yaml", batch=1))
    git(repository, "add", "."), git(repository, "commit", "-q", "-m", "three")
    (repository / "specs" / "grows.yaml").write_text(weighty("grows", kv_heads=8))
    (repository / "plans" / "p.yaml").write_text(PLAN.format(model="../specs/grows.yaml", batch=2))
    git(repository, "commit", "-q", "-am", "four")
    (row,) = rows("HEAD~1:plans/p.yaml", "plans/p.yaml")
    assert (row["old_bytes"], row["new_bytes"]) == (str(1000 * 12288), str(2 * 1000 * 24576))
    assert row["model"] == "plans/p.yaml: grows"
    monkeypatch.chdir(repository / "plans")
    (row,) = rows("HEAD~1:p.yaml", "HEAD:p.yaml")
    assert (row["old_bytes"], row["new_bytes"]) == (str(1000 * 12288), str(2 * 1000 * 24576))
    monkeypatch.chdir(repository)
    found = {row["model"]: row["new_bytes"] for row in rows("--rev", "HEAD~1..HEAD", "-s", "1000")}
    assert found == {"grows": str(1000 * 24576), "plans/p.yaml: grows": str(2 * 1000 * 24576)}


def test_what_changes_no_byte_is_planned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvcalc.plan import resolving

    asked: list[object] = []
    answer = resolving.answer
    monkeypatch.setattr(resolving, "answer", lambda *given, **more: asked.append(given) or answer(*given, **more))
    for name, text in (("old", weighty("a")), ("new", weighty("a").replace("paper, table 1", "paper, table 2"))):
        (tmp_path / f"{name}.yaml").write_text(text)
    rows(str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), "--gpu", "h200")
    assert len(asked) == 1


def test_revisions_show_every_model_that_differs(repository: Path) -> None:
    found = {
        row["model"]: (row["old_bytes_per_token"], row["new_bytes_per_token"]) for row in rows("--rev", "HEAD~1..HEAD")
    }
    assert found == {
        "grows": ("6144", "12288"), "moves": ("6144", "6144"), "goes": ("6144", ""), "comes": ("", "1536"),
    }  # fmt: skip
    assert [row["model"] for row in rows("--rev", "main~1...main", "specs/grows.yaml")] == ["grows"]


def test_a_file_at_a_revision_beside_the_working_tree(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = rows("HEAD~1:specs/grows.yaml", "specs/grows.yaml")
    assert (row["old_bytes_per_token"], row["new_bytes_per_token"]) == ("6144", "12288")
    monkeypatch.chdir(repository / "specs")  # paths are relative to where the user stands
    assert rows("HEAD~1:grows.yaml", "grows.yaml") == [row]


def test_markdown_fits_a_comment(repository: Path) -> None:
    ran = kvcalc("diff", "--rev", "HEAD~1..HEAD", "specs/grows.yaml", "--gpu", "h200", "-o", "markdown")
    assert (ran.code, ran.err) == (0, "")
    assert "| grows | B/token | 6,144 | 12,288 | +6,144 (+100 %) |" in ran.out
    assert "| grows | B of the batch | 25,165,824 (24 MiB) | 50,331,648 (48 MiB) | +25,165,824 (+100 %) |" in ran.out
    assert "| grows | GPUs (h200) | 1 (TP1) | 1 (TP1) | as before |" in ran.out


def test_exit_code_says_whether_bytes_change(repository: Path) -> None:
    assert kvcalc("diff", "--rev", "HEAD~1..HEAD", "--exit-code").code == 1
    assert kvcalc("diff", "--rev", "HEAD..HEAD", "--exit-code").code == 0
    assert kvcalc("diff", "specs/moved.yaml", "specs/stays.yaml", "--exit-code").code == 0


def test_json_has_both_sides(repository: Path) -> None:
    report = json.loads(kvcalc("diff", "HEAD~1:specs/grows.yaml", "specs/grows.yaml", "-o", "json").out)
    (model,) = report["models"]
    assert (model["old"]["logical_bytes"], model["new"]["logical_bytes"]) == (4096 * 6144, 4096 * 12288)


def test_nothing_of_a_repository_is_run(repository: Path, tmp_path: Path) -> None:
    """Hooks, monitors, filters and diff drivers of the repository's configuration stay asleep."""
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "diff.external",
        "diff.x.textconv",
        "diff.x.command",
        "filter.x.smudge",
        "core.pager",
    ):
        git(repository, "config", key, str(trap))
    (repository / ".gitattributes").write_text("*.yaml diff=x filter=x\n")
    assert len(rows("--rev", "HEAD~1..HEAD")) == 4
    assert rows("HEAD~1:specs/grows.yaml", "HEAD:specs/grows.yaml")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("qwen-72b",), ("qwen-72b", "qwen-7b", "yi-34b"), ("HEAD:none.yaml", "qwen-72b"),
        ("nope:x.yaml", "qwen-72b"),
        ("--rev", "HEAD"), ("--rev", "nope..HEAD"), ("--rev", "--output=x..HEAD"), ("-x:specs/grows.yaml", "qwen-72b"),
        ("qwen-72b", "qwen-7b", "--gpu", "h2000"), ("qwen-72b", "qwen-7b", "-s", "0"), ("HEAD:specs", "qwen-72b"),
        ("HEAD:compose.yaml", "qwen-72b"), ("qwen-72b", "qwen-7b", "--engine", "vllm"),
        ("qwen-72b", "qwen-7b", "--gpu", "h200", "--engine", "nobody"), ("HEAD:../../etc/passwd", "qwen-72b"),
        ("qwen-72b", "qwen-7b", "--plan", "nowhere.yaml"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(repository: Path, arguments: tuple[str, ...]) -> None:
    refused("diff", *arguments)


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in refused("diff", "--rev", "a..b")


def test_a_spec_that_does_not_hold_at_a_revision_has_its_place(repository: Path) -> None:
    (repository / "specs" / "grows.yaml").write_text(weighty("grows").replace("head_dim: 64", "head_dim: 0"))
    git(repository, "commit", "-q", "-am", "three")
    assert ":specs/grows.yaml:5:80: KV013" in refused("diff", "--rev", "HEAD~1..HEAD")


def test_what_did_not_hold_before_does_not_hide_its_repair(repository: Path) -> None:
    """A pull request that mends a spec, or gives a plan its model back, has a comment to show."""
    (repository / "specs" / "grows.yaml").write_text(weighty("grows").replace("head_dim: 64", "head_dim: 0"))
    (repository / "p.yaml").write_text(PLAN.format(model="./specs/none.yaml", batch=1))
    git(repository, "add", "."), git(repository, "commit", "-q", "-m", "three")
    (repository / "specs" / "grows.yaml").write_text(weighty("grows"))
    (repository / "p.yaml").write_text(PLAN.format(model="./specs/grows.yaml", batch=1))
    git(repository, "commit", "-q", "-am", "four")
    ran = kvcalc("diff", "--rev", "HEAD~1..HEAD", "-o", "csv")
    assert ran.code == 0
    found = {
        row["model"]: (row["old_bytes_per_token"], row["new_bytes_per_token"])
        for row in csv.DictReader(io.StringIO(ran.out))
    }
    assert found == {"grows": ("", "6144"), "p.yaml: grows": ("", "6144")}
    assert ":specs/grows.yaml:5:80: " in ran.err
    assert ":p.yaml:1:8: git: path 'specs/none.yaml' does not exist" in ran.err
    assert ran.err.count(": not counted\n") == 2


def test_nothing_that_differs_says_so_and_a_path_that_nothing_has_is_refused(repository: Path) -> None:
    assert "no spec or plan differs" in kvcalc("diff", "--rev", "HEAD..HEAD").out
    for there in ("compose.yaml", "specs/stays.yaml", "specs/goes.yaml", "*.md"):
        assert kvcalc("diff", "--rev", "HEAD~1..HEAD", there).code == 0
    assert "no file 'spec' in either revision" in refused("diff", "--rev", "HEAD~1..HEAD", "spec")
