"""Variables of the old code that are named like an input, and hold something else."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from kindaware._authoring.port.old_model import LIFE_CYCLE, read_old_model
from kindaware._authoring.port.symbols import names_in, text_of


def without_shadows(text: str, path: str, inputs: Iterable[str]) -> str:
    """Return the text with an underscore behind variables that would take the place of an input.

    Inputs are parameters of the hook. A variable of the same name is left alone where it is that input.
    """
    for name in inputs:
        methods = read_old_model(text, path).methods.items()
        functions = [one for method, one in methods if method == "execute" or method not in LIFE_CYCLE]
        nodes = [node for one in functions for node in ast.walk(one)]
        if any(_is_another(one, name) for one in nodes):
            text = _renamed(text, nodes, name)
    return text


def _is_another(node: ast.AST, name: str) -> bool:
    """Whether a node assigns anything but the input of that name to the variable."""
    if isinstance(node, ast.Assign):
        is_target = any(name in names_in(one, ast.Store) for one in node.targets)
        texts = {text_of(one) for one in ast.walk(node.value)}
        return is_target and name not in texts | names_in(node.value)
    targets = [getattr(node, "target", None)] if isinstance(node, (ast.For, ast.comprehension)) else []
    return any(name in names_in(one, ast.Store) for one in targets if one is not None)


def _renamed(text: str, nodes: Iterable[ast.AST], name: str) -> str:
    lines = text.splitlines(keepends=True)
    places = {(one.lineno, one.col_offset) for one in nodes if isinstance(one, ast.Name) and one.id == name}
    places |= {(one.lineno, one.col_offset) for one in nodes if isinstance(one, ast.arg) and one.arg == name}
    for line, column in sorted(places, reverse=True):
        code = lines[line - 1].encode()
        if code[column:].startswith(name.encode()):
            lines[line - 1] = (
                code[:column] + f"{name}_".encode() + code[column + len(name.encode()) :]
            ).decode()
    return "".join(lines)
