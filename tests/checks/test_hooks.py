"""The pre-commit hooks and the GitHub action, run as their users run them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checks.spec_text import plain

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BAD = plain().replace("value: 6144", "value: 1")


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PRE_COMMIT", "GITHUB_"))}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        env={**kept, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", **environment},
    )  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    ran = run("git", *identity, *arguments, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that names our hooks as the docs say: with a sound spec, a bad one, a draft, and other YAML."""
    pytest.importorskip("pre_commit")
    ours, folder = tmp_path / "kvcalc", tmp_path / "repository"
    for path in (ours, folder):
        path.mkdir()
        git(path, "init", "-q")
    # `language: python` would fetch what kvcalc needs; here it is installed already. All else is as users get it.
    manifest = (ROOT / ".pre-commit-hooks.yaml").read_text().replace("language: python", "language: system")
    (ours / ".pre-commit-hooks.yaml").write_text(manifest)
    git(ours, "add", "."), git(ours, "commit", "-q", "-m", "hooks")
    hooks = [{"id": "kvcalc-check"}, {"id": "kvcalc-fix"}]
    config = {"repos": [{"repo": str(ours), "rev": git(ours, "rev-parse", "HEAD"), "hooks": hooks}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (folder / "kvcalc.toml").write_text('exclude = ["drafts/"]\n')
    (folder / "good.yaml").write_text(plain("good"))
    (folder / "bad.yaml").write_text(BAD.replace("name: tiny", "name: Bad"))
    (folder / "drafts").mkdir()
    (folder / "drafts" / "draft.yaml").write_text(BAD)
    (folder / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    git(folder, "add", ".")
    return folder


def pre_commit(folder: Path, hook: str) -> subprocess.CompletedProcess[str]:
    return run(
        str(BIN / "pre-commit"), "run", hook, "--all-files", cwd=folder, PRE_COMMIT_HOME=str(folder.parent / "home")
    )


def test_pre_commit_stops_a_bad_spec_and_passes_drafts_and_other_yaml_over(repository: Path) -> None:
    ran = pre_commit(repository, "kvcalc-check")
    assert ran.returncode == 1, ran
    assert "bad.yaml:9:43: KV201 kv_bytes_per_token is 6,144 B" in ran.stdout
    for other in ("good.yaml", "draft.yaml", "compose.yaml"):
        assert other not in ran.stdout
    (repository / "bad.yaml").write_text(plain("bad"))
    git(repository, "add", ".")
    assert pre_commit(repository, "kvcalc-check").returncode == 0


def test_pre_commit_repairs(repository: Path) -> None:
    (repository / "bad.yaml").write_text(plain("bad", context=4096).replace("4096", "4K"))
    git(repository, "add", ".")
    assert pre_commit(repository, "kvcalc-fix").returncode == 1  # files were changed by the hook
    assert (repository / "bad.yaml").read_text() == plain("bad")


def test_the_hooks_manifest_is_valid() -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib")
    hooks = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert [hook["id"] for hook in hooks] == ["kvcalc-check", "kvcalc-fix"]
    assert all(hook["entry"].split()[:2] == ["kvcalc", "check"] for hook in hooks)


def action_steps() -> list[dict[str, object]]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    steps: list[dict[str, object]] = action["runs"]["steps"]
    return steps


def step_environment(step: dict[str, object], inputs: dict[str, str], action_path: str = "/action") -> dict[str, str]:
    """What GitHub would put into the step's environment."""
    found: dict[str, str] = {}
    for key, value in step["env"].items():  # type: ignore[attr-defined]
        name = re.fullmatch(r"\$\{\{ (inputs\.(\w+)|github\.action_path) \}\}", value)
        assert name is not None
        found[key] = inputs[name[2]] if name[2] else action_path
    return found


def defaults() -> dict[str, str]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    return {name: spec["default"] for name, spec in action["inputs"].items()}


def test_inputs_reach_the_shell_as_variables_only() -> None:
    for step in action_steps():
        assert "${{" not in str(step["run"])  # text put into a script can run


def check_step(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    step = action_steps()[1]
    environment = step_environment(step, {**defaults(), **inputs})
    return run(
        "bash",
        "-eo",
        "pipefail",
        "-c",
        str(step["run"]),
        cwd=folder,
        GITHUB_STEP_SUMMARY=str(folder / "s.md"),
        **environment,
    )


def test_the_check_step_annotates_and_fails(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(BAD)
    ran = check_step(tmp_path)
    assert ran.returncode == 1
    assert ran.stdout.startswith("::error file=tiny.yaml,line=9,col=43,title=KV201 expectation-fails::")
    assert "KV201" in (tmp_path / "s.md").read_text()
    assert check_step(tmp_path, args="--ignore KV2 --select KV1,KV2").returncode == 0
    assert check_step(tmp_path, paths="tiny.yaml\n  s.md\n", args="--exit-zero").returncode == 0


def test_inputs_cannot_run_commands(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(plain())
    check_step(tmp_path, args="$(touch sprung) ; touch sprung", paths="`touch sprung` tiny.yaml; touch sprung")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("bin_folder", ["bin", "Scripts"])  # Scripts: on Windows
@pytest.mark.parametrize(("version", "installed"), [("", "/action"), ("kvcalc==1.2.3", "kvcalc==1.2.3")])
def test_the_install_step_installs_what_was_asked(
    tmp_path: Path, version: str, installed: str, bin_folder: str
) -> None:
    """With a stand-in for Python, as nothing may be fetched in a test."""
    python = tmp_path / "python"
    pip = f'#!/bin/bash\necho "$@" >> {shlex.quote(str(tmp_path / "log"))}\n'
    python.write_text(
        f'#!/bin/bash\nbin="$3/{bin_folder}"\nmkdir -p "$bin"\n'
        f'printf %s {shlex.quote(pip)} > "$bin/pip"\nchmod +x "$bin/pip"\n'
    )
    python.chmod(0o755)
    step = action_steps()[0]
    environment = step_environment(step, {**defaults(), "version": version, "python": str(python)})
    ran = run(
        "bash", "-eo", "pipefail", "-c", str(step["run"]), cwd=tmp_path, RUNNER_TEMP=str(tmp_path),
        GITHUB_PATH=str(tmp_path / "path"), **environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "log").read_text() == f"install --quiet {installed}\n"
    assert (tmp_path / "path").read_text() == f"{tmp_path}/kvcalc-venv/{bin_folder}\n"


# --- the examples of docs/check.md


def blocks(language: str) -> list[str]:
    page = (ROOT / "docs" / "check.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def example(start: str, language: str = "yaml") -> str:
    """The block whose first line starts so."""
    (found,) = [block for block in blocks(language) if block.startswith(start)]
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a bad spec on its second commit, and a plan."""
    (tmp_path / "model_specs").mkdir()
    (tmp_path / "plans").mkdir()
    weights = "hidden_size: 512\nvocab_size: 1000\nffn:\n  dense: {kind: dense, intermediate_size: 2048}\n"
    spec = tmp_path / "model_specs" / "tiny.yaml"
    spec.write_text(plain(more=weights).replace("attention: full}", "attention: full, ffn: dense}"))
    (tmp_path / "plans" / "prod.yaml").write_text("model: ../model_specs/tiny.yaml\ngpu: h200\nbatch_size: 8\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "."), git(tmp_path, "commit", "-q", "-m", "one")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    spec.write_text(spec.read_text().replace("num_key_value_heads: 2", "num_key_value_heads: 4"))
    git(tmp_path, "commit", "-q", "-am", "two")
    return tmp_path


def test_the_gitlab_example_makes_its_report(project: Path) -> None:
    job = yaml.safe_load(example("# .gitlab-ci.yml"))["specs"]
    install, *script = job["script"]
    assert install.startswith('pip install "kvcalc @ git+https://example.org/')  # it is installed here
    ran = run("bash", "-eo", "pipefail", "-c", "\n".join(script), cwd=project)
    assert ran.returncode == 1
    (found,) = json.loads((project / job["artifacts"]["reports"]["codequality"]).read_text())
    assert (found["check_name"], found["location"]["path"]) == ("KV201", "model_specs/tiny.yaml")


def test_the_makefile_example_fails_on_a_bad_spec(project: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    (project / "Makefile").write_text(example("# Makefile", "make"))
    ran = run("make", "specs", cwd=project)
    assert ran.returncode == 2
    assert "model_specs/tiny.yaml:9:43: KV201" in ran.stdout


def test_the_github_example_passes_paths_and_comments_what_changes(project: Path) -> None:
    steps = yaml.safe_load(example("# GitHub"))["jobs"]["specs"]["steps"]
    paths = next(step for step in steps if step.get("uses", "").startswith("OWNER/kvcalc"))["with"]["paths"]
    assert "file=model_specs/tiny.yaml,line=9" in check_step(project, paths=paths).stdout
    (comment,) = [step["run"] for step in steps if "run" in step]
    said = project / "gh"
    said.write_text('#!/bin/bash\necho "$@" > said\n')
    said.chmod(0o755)
    environment = {"PATH": f"{project}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}", "NUMBER": "7"}
    ran = run("bash", "-e", "-c", comment, cwd=project, GITHUB_BASE_REF="main", **environment)
    assert ran.returncode == 0, ran.stderr
    assert (project / "said").read_text() == "pr comment 7 --body-file diff.md\n"
    # 12 layers x 2 x 4 x 64 x 2 B, for 8 sequences of 4,096 tokens
    table = (project / "diff.md").read_text()
    assert "| tiny | B/token | 6,144 | 12,288 | +6,144 (+100 %) |" in table
    assert "| 201,326,592 (192 MiB) | 402,653,184 (384 MiB) |" in table
    assert "| tiny | GPUs (h200) | 1 (TP1) | 1 (TP1) | as before |" in table
