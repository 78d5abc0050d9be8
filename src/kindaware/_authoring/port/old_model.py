"""A hand-written model.py of the Python backend, taken apart."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from kindaware._errors import ConfigError

CLASS = "TritonPythonModel"
MODULE = "triton_python_backend_utils"
LIFE_CYCLE = ("initialize", "execute", "finalize", "auto_complete_config")


@dataclass(frozen=True)
class OldModel:
    """The parts of a model.py.

    Attributes:
        lines: of the file.
        tree: the file, parsed.
        owner: the class `TritonPythonModel`.
        methods: of the class, by name.
        pb_utils: the name by which the file knows Triton's module; empty if it doesn't.
    """

    lines: list[str]
    tree: ast.Module
    owner: ast.ClassDef
    methods: dict[str, ast.FunctionDef]
    pb_utils: str

    def parameter(self, method: str) -> str:
        """Return the name of a method's parameter beside self; empty if it has none, or isn't there."""
        found = self.methods.get(method)
        names = [one.arg for one in found.args.args if one.arg != "self"] if found else []
        return names[0] if names else ""


def read_old_model(text: str, path: str) -> OldModel:
    """Take a model.py apart.

    Args:
        text: of the file.
        path: of the file, for messages.

    Raises:
        ConfigError: it isn't Python, or not the hand-written model of a Python backend.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ConfigError.of(
            path, expected="a model.py in Python", got=str(error), remedy="correct the file"
        ) from None
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    owner = next((one for one in classes if one.name == CLASS), None)
    if owner is None:
        raise ConfigError.of(
            path,
            expected=f"a class {CLASS}, as the Python backend wants it",
            got=f"classes {[one.name for one in classes]}",
            remedy="pass a model.py, or a callable as PACKAGE.MODULE:CALLABLE",
        )
    methods = {one.name: one for one in owner.body if isinstance(one, ast.FunctionDef)}
    if "execute" not in methods:
        is_async = any(isinstance(one, ast.AsyncFunctionDef) and one.name == "execute" for one in owner.body)
        raise ConfigError.of(
            f"{path} class {CLASS}",
            expected="a method execute, to be ported",
            got="an asynchronous one" if is_async else f"methods {list(methods)}",
            remedy="port it by hand: what its loop does for a request becomes async def forward, or "
            "async def stream where the model is decoupled, and its awaits stay"
            if is_async
            else "it needs no port if it derives from KindAwareModel",
        )
    return OldModel(text.splitlines(), tree, owner, methods, _alias(tree))


def _alias(tree: ast.Module) -> str:
    for one in ast.walk(tree):
        if isinstance(one, ast.Import):
            for name in one.names:
                if name.name == MODULE:
                    return name.asname or name.name
    return ""
