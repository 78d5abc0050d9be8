"""model.py as its syntax tree shows it; nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

CLASS = "TritonPythonModel"
_HOOKS = ("forward", "stream", "begin")


@dataclass
class Code:
    """A model.py.

    Attributes:
        tree: its syntax tree.
        model_class: the class that Triton looks for; None where it isn't defined here.
    """

    tree: ast.Module
    model_class: ast.ClassDef | None = field(init=False)

    def __post_init__(self) -> None:
        self.model_class = next((one for one in self.classes() if one.name == CLASS), None)

    def classes(self) -> list[ast.ClassDef]:
        """Return the classes at the top level."""
        return [node for node in self.tree.body if isinstance(node, ast.ClassDef)]

    @property
    def defines_name(self) -> bool:
        """Whether the name that Triton looks for is defined or imported at the top level."""
        return self.model_class is not None or any(
            CLASS in _names_bound(node) for node in ast.walk(self.tree) if isinstance(node, ast.stmt)
        )

    @property
    def bases(self) -> set[str]:
        """Names of the class's bases in this file, and of theirs."""
        found: set[str] = set()
        open_ = [] if self.model_class is None else [self.model_class]
        by_name = {one.name: one for one in self.classes()}
        while open_:
            names = [_last_name(base) for base in open_.pop().bases]
            open_ += [by_name[name] for name in names if name in by_name and name not in found]
            found.update(names)
        return found

    @property
    def bases_are_known(self) -> bool:
        """Whether no base comes from elsewhere but the library's, so that this file says it all."""
        own = {one.name for one in self.classes()}
        return self.model_class is not None and self.bases <= {
            "KindAwareModel",
            "DevicePlacement",
            "object",
            *own,
        }

    @property
    def is_kindaware(self) -> bool:
        """Whether the class derives from the library's."""
        return "KindAwareModel" in self.bases

    @property
    def is_placed(self) -> bool:
        """Whether it keeps an `execute` of its own on `DevicePlacement`."""
        return "DevicePlacement" in self.bases

    def methods(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return the methods of the class and of its bases in this file, by name."""
        found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        bases = self.bases
        for one in self.classes():
            if one.name in bases or one is self.model_class:
                found.update(
                    (node.name, node)
                    for node in one.body
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                )
        return found

    def hook(self) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return what gets the inputs of a model of the library: `forward`, else `stream` or `begin`."""
        methods = self.methods()
        return next((methods[name] for name in _HOOKS if name in methods), None)

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Yield the calls of functions or methods of these names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _last_name(node.func) in names:
                yield node

    def mentions(self, name: str) -> bool:
        """Return whether a name or attribute occurs."""
        return any(_last_name(node) == name for node in ast.walk(self.tree))

    def texts(self) -> set[str]:
        """Return the literal texts."""
        nodes = ast.walk(self.tree)
        return {one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)}

    def mentions_text(self, text: str) -> bool:
        """Return whether a text occurs as a literal."""
        return text in self.texts()


def literal(node: ast.expr | None) -> str | None:
    """Return the text of a literal; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _names_bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [one.asname or one.name for one in node.names]
    if isinstance(node, ast.Assign):
        return [_last_name(target) for target in node.targets]
    return [node.name] if isinstance(node, ast.ClassDef) else []
