"""The changes, one small one at a time: cosmic-ray's operators, and a few for what this house computes with."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core_rooms import ROOT

COSMIC_RAY = (
    "AddNot", "ExceptionReplacer", "NumberReplacer", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop",
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not",
    *(f"ReplaceBinaryOperator_{change}" for change in (
        "Add_Sub", "Sub_Add", "Mul_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul")),
    *(f"ReplaceComparisonOperator_{change}" for change in (
        "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")),
)  # fmt: skip
"""One change for each operator of Python: `a < b` becomes `a <= b`, and by AddNot its opposite."""
SWAPPED: Mapping[str, str] = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    path: str
    line: int
    operator: str
    was: str
    """The line, without its indentation; `became` likewise."""
    became: str
    source: str

    @property
    def module(self) -> str:
        parts = Path(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def __str__(self) -> str:
        return f"  {self.path}:{self.line} {self.operator}\n    - {self.was}\n    + {self.became}"


def mutants(path: str) -> Iterator[Mutant]:
    """Every change of a file by the operators; docstrings, annotations and equal code left out."""
    source = (ROOT / path).read_text("utf-8")
    lines, seen, annotated = source.splitlines(), {source}, _annotations(source)
    for operator, changed in (*_by_cosmic_ray(source), *_by_names(source)):
        if changed in seen:
            continue
        seen.add(changed)
        after = changed.splitlines()
        line = next(i for i, pair in enumerate(zip(lines, after, strict=False)) if pair[0] != pair[1])
        # frozen, slots, keyword-only is how the house writes, not what it computes; annotations are read by mypy;
        # and cosmic-ray takes the `*` of a signature for a product
        if lines[line].startswith("@dataclass(") or _annotations(changed) != annotated:
            continue
        yield hand_made(path, line + 1, changed, operator)


def hand_made(path: str, line: int, source: str, operator: str = "hand-made") -> Mutant:
    """The mutant that has `source` in place of the file's, which differs in this line."""
    was = (ROOT / path).read_text("utf-8").splitlines()[line - 1].strip()
    return Mutant(path=path, line=line, operator=operator, was=was, became=source.splitlines()[line - 1].strip(),
                  source=source)  # fmt: skip


def _by_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    """Statement by statement of the module: the operators walk all they are given for every change."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    lines = source.splitlines(keepends=True)
    operators = [(name, get_operator(f"core/{name}")()) for name in COSMIC_RAY]
    for first, last in _statements(source):
        before, part, after = ("".join(lines[a:b]) for a, b in ((0, first), (first, last), (last, len(lines))))
        nodes = list(ast_nodes(get_ast(part)))
        for name, operator in operators:
            places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
            for occurrence, _ in enumerate(places):
                changed = mutate_code(part, operator, occurrence)
                if changed is not None:
                    yield name, before + changed + after


def _statements(source: str) -> Iterator[tuple[int, int]]:
    """First line (from 0) and the line behind the last of every statement of the module, with its decorators."""
    for node in ast.parse(source).body:
        decorators = getattr(node, "decorator_list", [])
        yield min([node.lineno, *(each.lineno for each in decorators)]) - 1, node.end_lineno or node.lineno


def _by_names(source: str) -> Iterator[tuple[str, str]]:
    """min for max, any for all, the opposite of a comprehension's condition and of `in`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SWAPPED:
            yield "SwapName", _replaced(source, node.func, SWAPPED[node.func.id])
        elif isinstance(node, ast.comprehension):
            for condition in node.ifs:
                yield "NotInComprehension", _replaced(source, condition, f"not ({ast.unparse(condition)})")
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            yield "NotIn", _replaced(source, node, f"(not ({ast.unparse(node)}))")


def _replaced(source: str, node: ast.expr, text: str) -> str:
    lines = source.splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset :].decode()
    # as many lines as before, so that what follows keeps its number
    return "".join([*lines[:first], before + text + "\\\n" * (last - first) + after, *lines[last + 1 :]])


def _annotations(source: str) -> list[str] | None:
    """Every annotation; None where the source is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    return [ast.unparse(node.annotation) for node in ast.walk(tree)
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation]  # fmt: skip


def in_bodies(path: str) -> frozenset[int]:
    """Lines of function bodies: defaults, decorators and tables of the module are not among them."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    return frozenset(found)
