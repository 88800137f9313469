"""Files with one fault each: what cosmic-ray's operators make of them, and statements left out."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parent.parent.parent
WITHOUT = ("Variable", "Invert", "UAdd_", "USub_Not", "Delete_")
"""Parts of the names of operators that need options, or whose faults nobody makes."""
ARITHMETIC = {
    "Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul", "Div_Mul", "Mod_FloorDiv", "Pow_Mul",
    "BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift", "RShift_LShift",
}  # fmt: skip


class LeaveOut(Operator):  # type: ignore[misc]  # it has no types
    """Leaves out a call, a `raise`, or an assignment to a part of something."""

    def mutation_positions(self, node: Any) -> Any:
        if node.type == "simple_stmt":
            statement = node.children[0]
            part = statement.type == "expr_stmt" and statement.children[0].type == "atom_expr"
            if part or statement.type in ("atom_expr", "raise_stmt", "del_stmt"):
                yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse(node.get_first_leaf().prefix + "pass\n")

    @classmethod
    def examples(cls) -> Any:
        return ()


@dataclass(frozen=True)
class Mutant:
    """One fault in one file."""

    path: str
    """From the root of the repository."""
    line: int
    operator: str
    occurrence: int

    def source(self) -> str | None:
        """Return the file with the fault; None if it would be no fault, or no Python."""
        before = (ROOT / self.path).read_text("utf-8")
        after = mutate_code(before, operators()[self.operator], self.occurrence)
        try:
            return None if after is None or _meaning(after) == _meaning(before) else after
        except SyntaxError:
            return None


def statement(path: str, line: int) -> range:
    """Return the lines of the statement that a line is part of, without the statements in it."""
    lines = range(line, line + 1)
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.stmt):
            inner = [part.lineno for part in ast.walk(node) if isinstance(part, ast.stmt)]
            end = min(
                [*(start for start in inner if start > node.lineno), (node.end_lineno or 0) + 1]
            )
            if node.lineno <= line < end:  # the innermost comes last
                lines = range(node.lineno, end)
    return lines


def operators() -> dict[str, Any]:
    """Return the operators by name."""
    names = [
        name
        for name in operator_names()
        if not any(part in name for part in WITHOUT)
        and (
            "ReplaceBinaryOperator" not in name
            or name.partition("ReplaceBinaryOperator_")[2] in ARITHMETIC
        )
    ]
    return {**{name: get_operator(name)() for name in sorted(names)}, "LeaveOut": LeaveOut()}


def places(path: str) -> list[list[Mutant]]:
    """Return every place of a file where there can be a fault, with the faults there can be."""
    nodes = list(ast_nodes(get_ast((ROOT / path).read_text("utf-8"))))
    by_place: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
    for name, operator in operators().items():
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            by_place[start].append(Mutant(path, start[0], name, occurrence))
    return [by_place[place] for place in sorted(by_place)]


def module_of(path: str) -> str:
    """Return the name under which a file is imported."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] in ("stores", "integrations") else parts)


class _Meaning(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        node.annotation = ast.Constant("")
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ast.Pass()
        return self.generic_visit(node)


def _meaning(source: str) -> str:
    return ast.dump(_Meaning().visit(ast.parse(source)))
