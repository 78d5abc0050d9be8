"""The changes that a test has to notice, and the library's source with one of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutated_modules import DEVICE, LOGIC, MODULES

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
"""Calls that are dropped where nobody uses their result. With the operators of LOGIC all are, but those that
build lists, whose length any test would notice."""

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

_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
"""Comparisons, and those that differ from them at the boundary alone."""


_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one module.

    Attributes:
        module: path of the module in the package, such as `_device/staging`.
        number: which of its changes.
        line: where.
        text: the function, what is changed in it, and how.
    """

    module: str
    number: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.text}"

    @property
    def key(self) -> str:
        """The name without the line, which changes."""
        return f"{self.module}.py {self.text}"


class _Mutator(ast.NodeTransformer):
    """Goes through a module and makes the change of one number; without a number it only lists them."""

    def __init__(self, module: str, chosen: int | None = None) -> None:
        self.found: list[tuple[int, str]] = []
        self._module = module
        self._chosen = chosen
        self._has_device = DEVICE in MODULES[module]
        self._has_logic = LOGIC in MODULES[module]
        self._names: list[str] = []

    def _is_chosen(self, node: ast.AST, text: str) -> bool:
        text = f"{'.'.join(self._names)}: {text}"
        earlier = sum(one.partition(" (again, ")[0] == text for _, one in self.found)
        text += f" (again, {earlier})" if earlier else ""
        self.found.append((node.lineno, text))  # type: ignore[attr-defined]  # statements and expressions only
        return len(self.found) - 1 == self._chosen

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_named(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_named(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_named(node)

    def _visit_named(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()
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
        if not isinstance(node.value, ast.Call):
            return self.generic_visit(node)
        name = _name_of(node.value.func)
        is_storing = name == "add" and self._module in _STORING
        if (self._has_logic and name != "append") or name in _STATEMENTS or is_storing:
            if self._is_chosen(node, f"{_shown(node)}: dropped"):
                return ast.copy_location(ast.Pass(), node)
            self.generic_visit(node.value)  # its arguments, and not the call a second time
            return node
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._visit_assignment(node, node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return self._visit_assignment(node, [node.target])

    def _visit_assignment(self, node: ast.Assign | ast.AugAssign, targets: list[ast.expr]) -> ast.AST:
        is_state = any(isinstance(one, ast.Attribute) and one.attr in _STATES for one in targets)
        if self._module in _STORING:
            is_state = is_state or any(isinstance(one, ast.Subscript) for one in targets)
        if self._has_logic:
            is_element = any(isinstance(one, ast.Attribute | ast.Subscript) for one in targets)
            is_state = is_state or is_element or isinstance(node, ast.AugAssign)
        is_constructor = bool(self._names) and self._names[-1] == "__init__"
        if is_state and not is_constructor and self._is_chosen(node, f"{_shown(node)}: dropped"):
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not self._has_device:
            return self.generic_visit(node)
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
        for value in self._constants_for(node):
            if self._is_chosen(node, f"if {_shown(node.test)}: always {value}"):
                node.test = ast.copy_location(ast.Constant(value), node.test)
        is_choice = self._has_logic and bool(node.orelse) and not isinstance(node.test, ast.BoolOp)
        if is_choice and self._is_chosen(node, f"if {_shown(node.test)}: the contrary"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return self.generic_visit(node)

    def _constants_for(self, node: ast.If | ast.IfExp) -> tuple[bool, ...]:
        """Choose what a condition becomes; what nearly every call would notice is left out."""
        names = {_name_of(part) for part in ast.walk(node.test)}
        if "TYPE_CHECKING" in names:
            return ()  # of imports that nothing runs
        if self._has_device and names & _CONDITIONS:
            return True, False
        is_any = isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or)
        if not self._has_logic or node.orelse or is_any:
            return ()
        is_all = isinstance(node.test, ast.BoolOp)
        if is_all or isinstance(node.body[-1], _LEAVING) or _asks_for_none(node.test, ast.IsNot):
            return (False,)
        return (True,) if _asks_for_none(node.test, ast.Is) else (True, False)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        if not self._has_logic:
            return self.generic_visit(node)
        kept = [
            one
            for one in node.values
            if _guards_others(one, node)
            or not self._is_chosen(node, f"{_shown(node)}: without {_shown(one)}")
        ]
        self.generic_visit(node)
        if len(kept) == len(node.values):
            return node
        node.values = kept
        return node if len(kept) > 1 else kept[0]

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for place, operator in enumerate(node.ops):
            other = _BOUNDARIES.get(type(operator))
            if self._has_logic and other and self._is_chosen(node, f"{_shown(node)}: {other.__name__}"):
                node.ops[place] = other()
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if self._has_logic:
            node.ifs = [
                one for one in node.ifs if not self._is_chosen(one, f"for all, not only if {_shown(one)}")
            ]
        return self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        is_answer = isinstance(node.value, ast.Compare) or (
            isinstance(node.value, ast.UnaryOp) and isinstance(node.value.op, ast.Not)
        )
        if self._has_logic and is_answer and self._is_chosen(node, f"{_shown(node)}: the contrary"):
            assert node.value is not None  # as just asked
            node.value = ast.UnaryOp(ast.Not(), node.value)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        caught = node.type
        if self._has_logic and caught is not None:
            many = caught.elts if isinstance(caught, ast.Tuple) else [caught]
            kept = [
                one
                for one in many
                if not self._is_chosen(node, f"except {_shown(caught)}: not {_shown(one)}")
            ]
            if len(kept) < len(many):
                node.type = ast.copy_location(ast.Tuple(kept, ast.Load()), caught)
        return self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        is_bare = bool(self._has_logic and node.finalbody) and self._is_chosen(
            node, f"finally {_shown(node.finalbody[0])}: not after an exception"
        )
        self.generic_visit(node)
        if not is_bare:
            return node
        behind, node.finalbody = node.finalbody, []
        return [*([node] if node.handlers else node.body), *behind]


def _asks_for_none(test: ast.expr, operator: type[ast.cmpop]) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], operator)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


def _guards_others(one: ast.expr, node: ast.BoolOp) -> bool:
    """Whether an operand asks for None so that the others need not, or is zero in the place of None."""
    if isinstance(node.op, ast.Or) and isinstance(one, ast.Constant) and not one.value:
        return True
    operator = ast.IsNot if isinstance(node.op, ast.And) else ast.Is
    if not (isinstance(one, ast.Compare) and _asks_for_none(one, operator)):
        return False
    asked = ast.unparse(one.left)
    return any(asked in ast.unparse(other) for other in node.values if other is not one)


def _is_copy(keyword: ast.keyword) -> bool:
    return keyword.arg == "copy" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True


def _name_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 50 else text[:47] + "..."


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


def mutate(mutation: Mutation, source: str) -> ast.Module:
    """Return a module's syntax tree with one change, in which all lines keep their numbers."""
    tree = ast.parse(source)
    _Mutator(mutation.module, mutation.number).visit(tree)
    return ast.fix_missing_locations(tree)


def apply(mutation: Mutation, package: Path) -> None:
    """Make one change in a copy of the library's source."""
    path = package / f"{mutation.module}.py"
    path.write_text(ast.unparse(mutate(mutation, path.read_text())))
