"""The callable that `--from PACKAGE.MODULE:CALLABLE` names, imported and called."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from kindaware._errors import ConfigError, describe

_FORM = "PACKAGE.MODULE:CALLABLE, such as torchvision.models:resnet18"


@dataclass(frozen=True)
class Source:
    """A callable, and how model.py gets it.

    Attributes:
        text: as it was given.
        function: what runs: a module, or a function of tensors.
        module_name: what model.py imports it from.
        name: what it imports.
        call: the code that makes the module; empty for a function.
        file: to be copied beside model.py, since no package has it; None otherwise.
    """

    text: str
    function: Callable[..., Any]
    module_name: str
    name: str
    call: str
    file: Path | None

    @property
    def is_module(self) -> bool:
        """Whether it is a torch module, and not a function."""
        return isinstance(self.function, nn.Module)


def open_source(text: str) -> Source:
    """Import what a source names, and make the module if it is a class or factory.

    Args:
        text: `PACKAGE.MODULE:CALLABLE` or `FILE.py:CALLABLE`; arguments may follow in parentheses.

    Raises:
        ConfigError: there is none, it needs arguments, or what it gives is neither a module nor a function.
    """
    place, found, call = text.partition(":")
    name, args, kwargs = _read_call(call, text) if found else ("", [], {})
    if not (place and name):
        raise ConfigError.of(
            f"--from {text}", expected=f"{_FORM}, or a model.py", got="neither", remedy="write it like that"
        )
    module, file = _import(place, text)
    target = getattr(module, name, None)
    if not callable(target):
        public = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        names = difflib.get_close_matches(name, public) or public
        raise ConfigError.of(
            f"--from {text}",
            expected=f"a class or function of {place}",
            got=f"no {name}" if target is None else f"{type(target).__name__} {name}",
            remedy=f"choose one of {', '.join(names[:8])}" if names else "correct the name",
        )
    imported = "network" if file is not None and file.stem == "model" else module.__name__
    # A function that needs arguments, and got none, is one of tensors, and no factory.
    if not (call.endswith(")") or inspect.isclass(target)) and list_required(target):
        return Source(text, target, imported, name, "", file)
    made, code = _make(target, name, args, kwargs, text)
    return Source(text, made, imported, name, code, file)


def _read_call(call: str, text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return name and arguments of `Net(width=32)`."""
    try:
        node = ast.parse(call, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, [], {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = [ast.literal_eval(one) for one in node.args]
            kwargs = {one.arg or "": ast.literal_eval(one.value) for one in node.keywords}
            return node.func.id, args, kwargs
    except (SyntaxError, ValueError):
        pass
    raise ConfigError.of(
        f"--from {text}",
        expected="a name behind the colon, with plain numbers and text as arguments if it needs any",
        got=repr(call),
        remedy="write it like torchvision.models:resnet18 or 'nets:Net(width=32)'",
    )


def _import(place: str, text: str) -> tuple[ModuleType, Path | None]:
    """Return a module, and its file if no installed package has it."""
    file = Path(place)
    if place.endswith(".py"):
        if not file.is_file():
            raise ConfigError.of(
                f"--from {text}", expected="a file", got=f"no {place}", remedy="correct the path"
            )
        with _importable(file.absolute().parent):
            return _try_import(file.stem, text), file
    is_installed = _is_importable(place.partition(".")[0])
    with _importable(Path.cwd()):
        module = _try_import(place, text)
    path = getattr(module, "__file__", None)
    if is_installed or path is None:
        return module, None
    if "." in place or Path(path).name == "__init__.py":
        raise ConfigError.of(
            f"--from {text}",
            expected="an installed package, or a file: the server doesn't look into this directory",
            got=f"a package in {Path.cwd()}",
            remedy="install it first, with pip install -e .",
        )
    return module, Path(path)


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Have modules of a directory found while the block lasts."""
    before = list(sys.path)
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _try_import(name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name)
        raise ConfigError.of(
            f"--from {text}",
            expected=f"a module {name} that can be imported",
            got=describe(error),
            remedy="install its package, or go where its file is" if is_missing else "correct it first",
        ) from error


def list_required(target: Callable[..., Any]) -> list[str]:
    """Return the parameters that a callable can't do without; none where they can't be read."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return [one.name for one in plain if one.default is one.empty]


def _make(
    target: Callable[..., Any], name: str, args: list[Any], kwargs: dict[str, Any], text: str
) -> tuple[nn.Module, str]:
    """Return the module that a class or factory makes, and the code of the call."""
    is_torchvision = getattr(target, "__module__", "").startswith("torchvision.")
    if is_torchvision and "weights" in inspect.signature(target).parameters:
        # Some make the parts of a network with weights unless told not to.
        for option in ("weights", "weights_backbone"):
            if option in inspect.signature(target).parameters:
                kwargs.setdefault(option, None)
    code = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
    try:
        made = target(*args, **kwargs)
    except Exception as error:
        missing = list_required(target) if not (args or kwargs) else []
        example = f"'{text}({', '.join(f'{one}=...' for one in missing)})'"
        raise ConfigError.of(
            f"--from {text}",
            expected=f"a module from {name}({code})",
            got=describe(error),
            remedy=f"give its arguments, as --from {example}" if missing else "correct it, or its arguments",
        ) from error
    if not isinstance(made, nn.Module):
        raise ConfigError.of(
            f"--from {text}",
            expected="a torch module, a class or factory of one, or a function with parameters for tensors",
            got=f"{type(made).__name__} from {name}({code})",
            remedy="name another callable",
        )
    return made, f"{name}({code})".replace("'", '"')
