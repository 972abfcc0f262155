"""What adding a kind, a format or a model must bring along, and what each room may import."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml
from command_line import kvcalc
from core_rooms import ROOMS

from kvcalc.attention import KINDS
from kvcalc.cache_dtypes import CACHE_DTYPES
from kvcalc.cli.app import COMMANDS, Command
from kvcalc.spec.catalog import SPEC_FOLDER, shipped, shipped_model

ROOT = Path(__file__).parents[1]
KIND_FILES = sorted(
    path.stem
    for path in (ROOT / "kvcalc" / "attention").glob("*.py")
    if re.search(r'^    kind: Literal\["', path.read_text("utf-8"), flags=re.MULTILINE)
)
SPECS = {name: path.read_text("utf-8") for name, path in shipped().items()}
SCHEMA = SPEC_FOLDER / "model-spec.schema.json"


# --- a kind: its file, its line in the list, a spec, a twin


def test_one_file_per_kind_and_each_in_the_explicit_list() -> None:
    assert sorted(KINDS) == KIND_FILES
    for name, kind in KINDS.items():
        assert kind.__module__ == f"kvcalc.attention.{name}"


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_shipped_spec(name: str) -> None:
    assert any(isinstance(kind, KINDS[name]) for spec in SPECS for kind in shipped_model(spec).attention.values())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_twin_in_the_references(name: str) -> None:
    """kernels_ref/reference/<kind>.py with `run(kind, tokens, random)`: read, for torch need not be installed."""
    path = ROOT / "kernels_ref" / "reference" / f"{name}.py"
    assert path.is_file()
    runs = [
        node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "run"
    ]
    imported = [
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    if runs:
        assert [argument.arg for argument in runs[0].args.args] == ["kind", "tokens", "random"]
    else:
        assert "run" in imported


def test_references_are_of_kinds() -> None:
    helpers = {"__init__", "common", "headed"}
    assert {path.stem for path in (ROOT / "kernels_ref" / "reference").glob("*.py")} - helpers == set(KINDS)


@pytest.mark.parametrize("name", [*KINDS, *CACHE_DTYPES])
def test_every_kind_and_format_is_explained(name: str) -> None:
    ran = kvcalc("explain", name)
    assert ran.code == 0
    assert "source: " in ran.out
    assert len(ran.out.splitlines()) >= 3


def test_nothing_outside_a_kinds_own_file_asks_for_its_name() -> None:
    """No `== "mla"` and no isinstance of a kind's class downstream of the attention room."""
    classes = {kind.__name__ for kind in KINDS.values()}
    downstream = [
        path
        for path in (ROOT / "kvcalc").rglob("*.py")
        if path.relative_to(ROOT / "kvcalc").parts[0] not in ("attention", "importers", "checks", "spec")
    ]
    assert len(downstream) > 20
    for path in downstream:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Compare):
                words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                about_kind = "kind" in ast.unparse(node)
                assert not (about_kind and words & (set(KINDS) - {"full"})), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                origin = kvcalc_classes(path)
                assert not {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & classes & origin, (
                    f"{path}:{node.lineno}"
                )


def kvcalc_classes(path: Path) -> set[str]:
    """Names that a file imports from the attention room."""
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kvcalc.attention")
        for alias in node.names
    }


# --- a command


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_the_summary_of_a_command_is_the_first_sentence_of_its_docstring(command: Command) -> None:
    """Help and completion show the table's words, the command's own help the docstring's."""
    assert command.summary == (inspect.getdoc(command.body()) or "").split("\n\n")[0].replace("\n", " ")


# --- a model


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_tells_editors_its_schema_on_its_first_line(name: str) -> None:
    first = SPECS[name].splitlines()[0]
    assert first == "# yaml-language-server: $schema=./model-spec.schema.json"


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_short_and_pins_published_figures(name: str) -> None:
    spec = shipped_model(name)
    assert SPECS[name].count("\n") < 200
    assert spec.sources
    assert spec.expect
    assert all(expected.source for expected in spec.expect)
    assert spec.hub_id or spec.notes
    assert spec.hidden_size
    assert spec.vocab_size


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_of_partial_figures_says_so(name: str) -> None:
    spec = shipped_model(name)
    if all(source.kind != "config" for source in spec.sources):
        assert spec.notes, "only a verbatim config is beyond doubt"


def test_the_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA.read_text("utf-8") == kvcalc("schema").out, "run: kvcalc schema > model_specs/model-spec.schema.json"


def test_the_schema_is_valid_draft_07_and_accepts_every_shipped_spec() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)
    check = jsonschema.Draft7Validator(schema)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, text in SPECS.items():
        assert check.is_valid(yaml.load(text, loader)), name


# --- rooms


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a file imports while it runs (not for types alone)."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        todo += ast.iter_child_nodes(node)
    return found


ONLY_IN = {
    "torch": r"kernels_ref/",
    "triton": r"kernels_ref/",
    "typer": r"kvcalc/cli/",
    "rich": r"kvcalc/(cli|render)/",
    "numpy": r"kvcalc/(sweep|render/plot)|kernels_ref/",
    "matplotlib": r"kvcalc/render/plot",
    "pydantic": r"kvcalc/spec/(validate|schema|model)\.py",
    "huggingface_hub": r"kvcalc/importers/",
    "gguf": r"kvcalc/importers/",
    "kernels_ref": r"kernels_ref/|kvcalc/cli/verify\.py",
}


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_imports_stay_in_their_rooms(package: str) -> None:
    files = [path for room in ("kvcalc", "kernels_ref") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    strangers = [
        str(path.relative_to(ROOT))
        for path in files
        if package in imports_of(path) and not re.match(ONLY_IN[package], str(path.relative_to(ROOT)))
    ]
    assert strangers == []


def test_every_module_of_the_core_can_be_imported_by_itself() -> None:
    for path in (ROOT / "kvcalc" / "attention").glob("*.py"):
        importlib.import_module(f"kvcalc.attention.{path.stem}".removesuffix(".__init__"))


def test_files_are_rooms_not_halls() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for room in ("kvcalc", "kernels_ref")
        for path in (ROOT / room).rglob("*.py")
        if (lines := path.read_text("utf-8").count("\n")) > 430
    }
    assert long == {}


def test_the_table_of_rooms_is_the_order_that_imports_keep() -> None:
    """CONTRIBUTING.md lists every room, from the leaves up, as the contract of lint-imports has them from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    storey = {name: number for number, line in enumerate(reversed(layers)) for name in line.split(" : ")}
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*`.*?) \|", text, flags=re.MULTILINE)
    named = [re.findall(r"`(\w+)(?:\.py|/)`", row) for row in rows]
    assert sorted(name for row in named for name in row) == sorted(storey)
    heights = [[storey[name] for name in row] for row in named]
    assert all(max(below) <= min(above) for below, above in pairwise(heights))


# --- mutants that are explained


def test_every_explanation_is_of_a_line_that_is_still_there() -> None:
    files = [path for room in ROOMS.values() for path in room.files]
    lines = {path: [line.strip() for line in (ROOT / path).read_text("utf-8").splitlines()] for path in files}
    explained = tomllib.loads((ROOT / "tests" / "mutation" / "explained.toml").read_text("utf-8"))["mutant"]
    stale = [
        row["was"]
        for row in explained
        if not any(
            re.fullmatch(row["was"], line) for path in files if re.fullmatch(row["path"], path) for line in lines[path]
        )
    ]
    assert stale == []
