"""The lines that guard order and memory on a device, and the library's source without one of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "_device/staging",
    "_batch/runner",
    "_device/cuda_graphs",
    "_batch/pipeline",
    "_triton/adapter",
    "_model",
    "_batch/warmup",
    "_batch/padding",
    "_execute/stream_runner",
    "_execute/streams",
    "_batch/outputs",
    "_device/modules",
    "_device_placement",
    "_device/runtime",
    "_triton/bls",
    "_triton/bls_stream",
    "_hooks/event_loop",
    "_placement/device_map",
)
"""The runtime and its callers."""

_STATEMENTS = {
    "activate",
    "begin",
    "begin_call",
    "begin_forward",
    "clear",
    "copy",
    "eval",
    "forget_answers",
    "join_into",
    "protect",
    "put",
    "record",
    "release_frames",
    "release_memory",
    "replay",
    "reset",
    "set_device",
    "settle",
    "synchronize",
    "to",
    "wait",
}
"""Calls that are dropped where nobody uses their result."""

_EXPRESSIONS = {"clone", "contiguous", "copy_", "detach", "resolve_neg", "to"}
"""Methods of tensors whose result is replaced by the tensor itself."""

_KEEPERS = {"_exposed"}
"""What gives back what it was given to keep; left out where its result is used."""

_CONDITIONS = {"fault", "is_fault", "_borrowed", "_is_pending"}
"""What a condition asks for that becomes always true, and always false."""

_STATES = {"_free", "_is_pending", "_with_batch", "_with_call"}
"""Attributes whose assignments outside of the constructor are dropped."""

_STORING = {"_device/staging", "_device/cuda_graphs", "_batch/padding"}
"""Modules in which what is put into tensors, or into what holds them, is dropped too."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one module.

    Attributes:
        module: path of the module in the package, such as `_device/staging`.
        number: which of its changes.
        line: where.
        text: what is changed, and how.
    """

    module: str
    number: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.text}"


class _Mutator(ast.NodeTransformer):
    """Goes through a module and makes the change of one number; without a number it only lists them."""

    def __init__(self, module: str, chosen: int | None = None) -> None:
        self.found: list[tuple[int, str]] = []
        self._module = module
        self._chosen = chosen
        self._is_constructor = False

    def _is_chosen(self, node: ast.AST, text: str) -> bool:
        self.found.append((node.lineno, text))  # type: ignore[attr-defined]  # statements and expressions only
        return len(self.found) - 1 == self._chosen

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, self._is_constructor = self._is_constructor, node.name == "__init__"
        self.generic_visit(node)
        self._is_constructor = before
        return node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        kept = [
            item
            for item in node.items
            if not self._is_chosen(node, f"with {ast.unparse(item.context_expr)}: only its body")
        ]
        self.generic_visit(node)
        node.items = kept
        return node if kept else node.body

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        names = _STATEMENTS | ({"add"} if self._module in _STORING else set())
        if isinstance(node.value, ast.Call) and _name_of(node.value.func) in names:
            if self._is_chosen(node, f"{_shown(node)}: dropped"):
                return ast.copy_location(ast.Pass(), node)
            self.generic_visit(node.value)  # its arguments, and not the call a second time
            return node
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._visit_assignment(node, node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return self._visit_assignment(node, [node.target])

    def _visit_assignment(self, node: ast.stmt, targets: list[ast.expr]) -> ast.AST:
        is_state = any(isinstance(one, ast.Attribute) and one.attr in _STATES for one in targets)
        if self._module in _STORING:
            is_state = is_state or any(isinstance(one, ast.Subscript) for one in targets)
        if is_state and not self._is_constructor and self._is_chosen(node, f"{_shown(node)}: dropped"):
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _name_of(node.func) == "add" and isinstance(node.func, ast.Attribute):
            is_kept = _name_of(node.func.value) in _KEEPERS
            if is_kept and self._is_chosen(node, f"{_shown(node)}: not kept"):
                return self.visit(node.args[0])  # type: ignore[no-any-return]  # a node
        if any(_is_copy(one) for one in node.keywords) and self._is_chosen(node, f"{_shown(node)}: no copy"):
            node.keywords = [one for one in node.keywords if not _is_copy(one)]
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in _EXPRESSIONS
        text = f"{_shown(node)}: without .{_name_of(node.func)}()"
        if is_method and self._is_chosen(node, text):
            assert isinstance(node.func, ast.Attribute)  # as just asked
            return self.visit(node.func.value)  # type: ignore[no-any-return]  # a node
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._visit_condition(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._visit_condition(node)

    def _visit_condition(self, node: ast.If | ast.IfExp) -> ast.AST:
        names = {_name_of(part) for part in ast.walk(node.test)}
        if names & _CONDITIONS:
            for value in (True, False):
                if self._is_chosen(node, f"if {_shown(node.test)}: always {value}"):
                    node.test = ast.copy_location(ast.Constant(value), node.test)
        return self.generic_visit(node)


def _is_copy(keyword: ast.keyword) -> bool:
    return keyword.arg == "copy" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True


def _name_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


def find_mutations(package: Path) -> Iterator[Mutation]:
    """List all changes.

    Args:
        package: the folder of the library's source.
    """
    for module in MODULES:
        mutator = _Mutator(module)
        mutator.visit(ast.parse((package / f"{module}.py").read_text()))
        for number, (line, text) in enumerate(mutator.found):
            yield Mutation(module, number, line, text)


def apply(mutation: Mutation, package: Path) -> None:
    """Make one change in a copy of the library's source."""
    path = package / f"{mutation.module}.py"
    tree = _Mutator(mutation.module, mutation.number).visit(ast.parse(path.read_text()))
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
