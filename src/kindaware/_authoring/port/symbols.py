"""What an expression of the old code stands for: an input, an output, a response, the device, and so on."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any


class Symbol(ast.expr):
    """An expression of Triton's API, in place of the code that made it.

    Args:
        kind: what it is, such as `array`.
        name: of the tensor, key or error code that it is about.
        value: an expression in it, such as the values of an output.
        parts: the outputs of a response.
        hint: the variable that the old code kept it in.
    """

    _fields = ("value", "parts")

    def __init__(
        self,
        kind: str,
        name: str = "",
        value: ast.expr | None = None,
        parts: list[ast.expr] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.name = name
        self.value = value
        self.parts = parts or []
        self.hint = hint

    def __deepcopy__(self, memo: dict[int, Any]) -> Symbol:
        value, parts = copy.deepcopy(self.value, memo), copy.deepcopy(self.parts, memo)
        return Symbol(self.kind, self.name, value, parts, self.hint)


VALUES = frozenset({"array", "tensor", "input", "capsule"})
"""Kinds that are an input of the request, in one form or another."""


def is_symbol(node: Any, *kinds: str) -> bool:
    """Return whether a node is a symbol, of one of these kinds if any are given."""
    return isinstance(node, Symbol) and (not kinds or node.kind in kinds)


def symbols_in(node: ast.AST) -> Iterator[Symbol]:
    """Yield the symbols in a tree."""
    return (one for one in ast.walk(node) if isinstance(one, Symbol))


def dotted(node: ast.AST) -> str:
    """Return a name such as `torch.utils.dlpack.from_dlpack` as text; empty for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def self_attribute(node: Any) -> str:
    """Return NAME of an expression `self.NAME`; empty for anything else."""
    is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if is_own else ""


def text_of(node: Any) -> str:
    """Return a text constant; empty for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def names_in(node: ast.AST, context: type[ast.expr_context] = ast.Load) -> set[str]:
    """Return the plain names that a tree reads, or stores with `ast.Store`."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, context)}


def mentions(node: ast.AST, test: Callable[[ast.AST], bool]) -> bool:
    """Return whether any node of a tree passes a test."""
    return any(test(one) for one in ast.walk(node))


def expression(code: str) -> ast.expr:
    """Return an expression from its text."""
    return ast.parse(code, mode="eval").body
