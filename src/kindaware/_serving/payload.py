"""How a class, module or function gets into a model's process: by import, or else by value."""

from __future__ import annotations

import inspect
import io
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import torch

from kindaware._errors import ConfigError, describe

PICKLE = "class.pickle"
CALLABLE = "callable.pt"
SCRIPT = "callable.torchscript"
PROGRAM = "callable.pt2"


def is_importable(thing: type) -> bool:
    """Return whether another process finds a class by its module's name in our `sys.path`.

    Not what was defined in a notebook, in the script that runs, or in a function.
    """
    module = sys.modules.get(thing.__module__)
    if module is None or module.__name__ == "__main__" or "<locals>" in thing.__qualname__:
        return False
    return _find(module, thing.__qualname__) is thing and _is_found(module)


def list_sys_path() -> list[str]:
    """Return `sys.path` with absolute paths, for a process in another directory."""
    return [os.path.abspath(one) for one in sys.path]


def pickle_class(thing: type, folder: Path) -> None:
    """Write a class by value: its code, and the globals that its code uses.

    Raises:
        ConfigError: cloudpickle is not installed, or can't do it.
    """
    cloudpickle = _import_cloudpickle()
    buffer = io.BytesIO()
    with _by_value(cloudpickle, sys.modules.get(thing.__module__)):
        try:
            _pickler(cloudpickle)(buffer, cloudpickle.DEFAULT_PROTOCOL).dump(thing)
        except Exception as error:
            raise _not_picklable(f"class {thing.__name__}", error) from error
    (folder / PICKLE).write_bytes(buffer.getbuffer())


def is_compiled(thing: Any) -> bool:
    """Return whether this is what `torch.compile` makes of a module."""
    return isinstance(thing, torch.nn.Module) and hasattr(thing, "_orig_mod")


def pickle_callable(function: Any, folder: Path) -> str:
    """Write a module or function by value, its tensors so that processes can share the file's memory.

    Returns:
        The name of the file.

    Raises:
        ConfigError: cloudpickle is not installed, or can't do it.
    """
    if isinstance(function, torch.jit.ScriptModule):
        torch.jit.save(function, str(folder / SCRIPT))
        return SCRIPT
    if isinstance(function, torch.export.ExportedProgram):
        torch.export.save(function, folder / PROGRAM)
        return PROGRAM
    cloudpickle = _import_cloudpickle()
    pickle = SimpleNamespace(__name__="cloudpickle", Pickler=_pickler(cloudpickle))
    home = inspect.getmodule(type(function) if isinstance(function, torch.nn.Module) else function)
    with _by_value(cloudpickle, home):
        try:
            torch.save(
                function,
                folder / CALLABLE,
                pickle_module=pickle,
                pickle_protocol=cloudpickle.DEFAULT_PROTOCOL,
            )
        except Exception as error:
            raise _not_picklable(getattr(function, "__qualname__", type(function).__name__), error) from error
    return CALLABLE


def list_sources(thing: Any) -> dict[str, str]:
    """Return by its name in tracebacks the source of code that lies in no file, such as a notebook's."""
    names = {code.co_filename for code in _list_code(thing)}
    texts = {name: "".join(linecache.getlines(name)) for name in names if not os.path.exists(name)}
    return {name: text for name, text in texts.items() if text}


def _list_code(thing: Any) -> Iterator[CodeType]:
    """Yield the code objects of a class's methods, or of a function or module."""
    owner = thing if inspect.isclass(thing) or inspect.isfunction(thing) else type(thing)
    for member in vars(owner).values() if inspect.isclass(owner) else [owner]:
        function = inspect.unwrap(member) if callable(member) else getattr(member, "__func__", None)
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _find(module: ModuleType | None, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


@contextmanager
def _by_value(cloudpickle: Any, module: ModuleType | None) -> Iterator[None]:
    """Have what a module defines pickled by value, if the server's process would not find the module."""
    if module is None or module.__name__ == "__main__" or _is_found(module):
        yield
        return
    if module.__name__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_found(module: ModuleType) -> bool:
    """Return whether an import with our `sys.path` finds this module, and not another of its name.

    pytest, for one, may have loaded it from a place that an import does not look at.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.builtin_module_names
    package, _, _ = module.__name__.rpartition(".")
    places = getattr(sys.modules.get(package), "__path__", None) if package else list_sys_path()
    spec = PathFinder.find_spec(module.__name__, places)
    if spec is None or spec.origin is None or not os.path.exists(spec.origin):
        return False
    return os.path.samefile(spec.origin, file)


def rebuild_code(rebuild: Callable[..., CodeType], parts: tuple[Any, ...], filename: str) -> CodeType:
    """Make a code object again, with the name of its file."""
    return rebuild(*parts).replace(co_filename=filename)


def _pickler(cloudpickle: Any) -> Any:
    """Return cloudpickle's pickler, but for the names of files: a traceback is to name the user's line."""

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # of an optional package
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, CodeType):
                rebuild, parts = self.dispatch_table[CodeType](thing)
                return rebuild_code, (rebuild, parts, thing.co_filename)
            return super().reducer_override(thing)

    return Pickler


def _import_cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        raise ConfigError.of(
            "kindaware.serve",
            expected="cloudpickle, which takes what no import finds into the server's process",
            got="it is not installed",
            remedy="pip install 'cloudpickle>=3', or define the class in a module and import it",
        ) from None
    return cloudpickle


def _not_picklable(subject: str, error: Exception) -> ConfigError:
    return ConfigError.of(
        subject,
        expected="code and globals that can be copied into the server's process",
        got=describe(error),
        remedy="make what can't be copied in load(), or define the class in a module and import it",
    )
