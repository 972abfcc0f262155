"""A file is written whole or not at all: killed, interrupted, out of room, not permitted, or no file."""

from __future__ import annotations

import ast
import errno
import os
import random
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks.spec_text import plain
from reliability.processes import as_anybody, little_room, run

from kvcalc.files import TEMPORARY, inside_project, write_whole
from kvcalc.problems import KvcalcError

ROOT = Path(__file__).resolve().parents[2]

# --- who writes

WRITES_BY_ITSELF = {
    # The answer itself, on standard output, and what is said beside it.
    "kvcalc/cli/app.py": 1,
    # A job's summary is appended to, as GitHub asks.
    "kvcalc/cli/check.py": 1,
    "kvcalc/files.py": 2,
}


def writes(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that may write a file: open() for anything but reading, write_text() and its like."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "copyfile", "copy2"):
            yield node
        elif name in ("open", "fdopen"):
            modes = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
            texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
            if any(set(text) <= set("rwxabt+") and set(text) & set("wxa+") for text in texts):
                yield node


def test_every_file_is_written_by_write_whole() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): count
        for package in ("kvcalc", "kernels_ref")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (count := sum(1 for _ in writes(ast.parse(path.read_text("utf-8")))))
    }
    assert found == WRITES_BY_ITSELF


def test_the_search_for_writers_sees_them() -> None:
    assert len(list(writes(ast.parse("open(p, 'w'); Path(p).open(mode='ab'); p.write_text(t); open(p, 'rb')")))) == 3


# --- a fault at every step


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "target.txt"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_leaves_the_old_file_and_nothing_else(
    step: str, fault: BaseException, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KvcalcError if isinstance(fault, OSError) else KeyboardInterrupt):
        write_whole(str(target), b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == ["target.txt"]


def test_a_link_keeps_pointing_and_permissions_stay(target: Path) -> None:
    target.chmod(0o640)
    link = target.with_name("link")
    link.symlink_to(target.name)
    write_whole(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_to_nothing_makes_what_it_names(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to("made")
    write_whole(str(link), b"new")
    assert target.with_name("made").read_bytes() == b"new"


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(str(tmp_path / "new"), b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_a_file_to_its_owner(target: Path) -> None:
    os.chown(target, 12345, 12345)
    write_whole(str(target), b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (12345, 12345)


# --- what is no file


def problem(path: str) -> str:
    with pytest.raises(KvcalcError) as caught:
        write_whole(path, b"new")
    (found,) = caught.value.problems
    assert found.code == "KV001"
    return found.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "Is a directory"),
        ("none/x", "No such file"),
        ("target.txt/x", "Not a directory"),
        ("a\0b", "no file name"),
        ("x" * 300, "name too long"),
        ("", "No such file"),
    ],
)
def test_where_no_file_can_be(name: str, message: str, target: Path) -> None:
    assert message in problem(os.path.join(target.parent, name) if name else name)
    assert os.listdir(target.parent) == ["target.txt"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = os.urandom(300_000)  # more than a pipe holds
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # until the reader is there
        try:
            write_whole(str(pipe), content)
            break
        except KvcalcError:
            time.sleep(0.001)
    reader.join(30)
    assert read == [content]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert "No such device or address" in problem(str(pipe))  # and is not waited for


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_stays_one(device: str) -> None:
    if not Path(device).exists():
        pytest.skip("no such device on this system")
    if device == "/dev/null":
        write_whole(device, b"new")
    else:
        assert "No space left" in problem(device)
    assert stat.S_ISCHR(os.stat(device).st_mode)


def test_a_shells_substitution_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(plain("a"))
    line = f"{sys.executable} -m kvcalc check a.yaml --output-file >(cat > copy) -o concise; wait $!"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "copy").read_text() == "1 file checked, nothing found\n"


# --- out of room, not permitted: whole commands


FIXABLE = plain().replace("num_key_value_heads", "num_kv_heads")
"""`--fix` knows what a key of other people is called here."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "check --fix": ("check", "--isolated", "--fix", "spec.yaml"),
    "check --output-file": ("check", "--isolated", "spec.yaml", "-o", "sarif", "--output-file", "out.sarif"),
    "tiers --plot": ("tiers", "qwen-72b", "--gpu", "h200", "--plot", "out.svg"),
}
WRITTEN = {"check --fix": "spec.yaml", "check --output-file": "out.sarif", "tiers --plot": "out.svg"}


@pytest.fixture
def workshop() -> Iterator[Path]:
    """A folder that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for written in WRITTEN.values():
            (folder / written).write_text(FIXABLE)
        yield folder


def refused(command: str, folder: Path, **options: object) -> str:
    """Standard error of a command that could not write its file: the file is as it was, and alone."""
    code, _, err = run(COMMANDS[command], cwd=folder, **options)
    assert code in (1, 2), err
    assert b"Traceback" not in err
    assert b"internal error" not in err
    assert (folder / WRITTEN[command]).read_text() == FIXABLE
    assert sorted(os.listdir(folder)) == sorted(WRITTEN.values())
    return err.decode()


@pytest.mark.parametrize("command", COMMANDS)
def test_out_of_room(command: str, workshop: Path) -> None:
    said = refused(command, workshop, preexec_fn=little_room(64))
    assert "cannot be written: File too large" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_may_not_be_written(command: str, workshop: Path) -> None:
    workshop.chmod(0o555)
    said = refused(command, workshop, preexec_fn=as_anybody)
    workshop.chmod(0o777)
    assert "cannot be written: Permission denied" in said
    assert "its folder must be writable as well" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_with_room_it_is_written(command: str, workshop: Path) -> None:
    """So that the refusals above say something."""
    code, _, err = run(COMMANDS[command], cwd=workshop)
    assert code in (0, 1), err
    assert (workshop / WRITTEN[command]).read_text() != FIXABLE
    assert sorted(os.listdir(workshop)) == sorted(WRITTEN.values())


# --- killed

WRITER = """
import itertools, sys
from kvcalc.files import write_whole
for number in itertools.count():
    write_whole(sys.argv[1], (b"%07d\\n" % number) * 40_000)
"""


def test_killed_at_any_moment_the_file_is_whole(tmp_path: Path) -> None:
    """benchmarks/killing.py kills whole commands, many times."""
    path = tmp_path / "target"
    chance = random.Random(7)
    numbers = []
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.002)
        time.sleep(0.1 + chance.random() / 20)
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert content == content[:8] * 40_000
        numbers.append(int(content[:7]))
        left = [name for name in os.listdir(tmp_path) if name != "target"]
        assert len(left) <= 1, left
        for name in left:
            assert name.startswith(TEMPORARY)
            (tmp_path / name).unlink()
    assert max(numbers) > 0  # it was killed while it wrote, not before


# --- where a project ends


def test_a_project_ends_at_its_top_folder(tmp_path: Path) -> None:
    for name in ("project/specs", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "project" / "kvcalc.toml").touch()
    (tmp_path / "other" / "x").touch()
    (tmp_path / "project" / "specs" / "out").symlink_to(tmp_path / "other" / "x")
    (tmp_path / "project" / "specs" / "in").symlink_to(tmp_path / "project" / "kvcalc.toml")
    specs = tmp_path / "project" / "specs"

    def inside(name: str) -> bool:
        return inside_project(str(specs), str(specs / name))

    assert [inside(name) for name in ("x", "in", "../x", "out", "../../other/x", "../../project2", "a\0b")] == [
        True, True, True, False, False, False, False
    ]  # fmt: skip
    assert not inside_project(str(tmp_path / "other"), str(specs / "in"))


def test_the_filter_of_links_is_used(tmp_path: Path) -> None:
    """A link out of the project is reported, not read, and never repaired."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "kvcalc.toml").touch()
    secret = tmp_path / "secret.yaml"
    secret.write_text(FIXABLE + "password: [hunter2\n")
    (tmp_path / "project" / "x.yaml").symlink_to(secret)
    for more in ((), ("--fix",)):
        code, out, _ = run(("check", ".", *more), cwd=tmp_path / "project")
        assert code == 1
        assert b"KV001 a link out of the project is not followed" in out
        assert b"hunter2" not in out
    assert secret.read_text() == FIXABLE + "password: [hunter2\n"
