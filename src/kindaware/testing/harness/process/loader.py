"""From a model's directory, or a class, to `TritonPythonModel`, as the stub does it."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kindaware._errors import ConfigError
from kindaware.testing.harness.process.modules import ModuleSpace
from kindaware.testing.stand_in import Host, attach_classes, new_c_module, new_module

PB_UTILS = "triton_python_backend_utils"
C_PB_UTILS = "c_python_backend_utils"
_CLASS = "TritonPythonModel"
_ALIKE = 0.7
"""How alike a name must be to count as a misspelling of it."""


@dataclass(frozen=True)
class ModelCode:
    """Where a model's class comes from.

    Attributes:
        file: model.py, or None where the class was given.
        given: the class, or None where it is imported.
        directory: the model's own directory, or None.
        version: name of the version's directory.
        model_directory: what stands for the model's own directory where there is none.
    """

    file: Path | None
    given: type | None
    directory: Path | None
    version: str
    model_directory: str = ""

    @property
    def version_directory(self) -> str:
        """What `get_model_dir()` returns."""
        return str(Path(self.directory or self.model_directory) / self.version)


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles every time, since a test may write the same file twice within the clock's resolution."""

    def path_stats(self, path: str) -> Any:
        raise OSError(path)


def find_code(
    model: Any, version: str | None, filename: str, allowed: Collection[int] | None = None
) -> ModelCode:
    """Find model.py.

    Args:
        model: a model's directory, or a class.
        version: the version; by default the highest of the directory.
        filename: `default_model_filename`.
        allowed: the versions that `version_policy` names; None is any.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(model, type):
        return ModelCode(None, model, None, version or "1")
    directory = Path(model).absolute()
    if not directory.is_dir():
        raise _missing(directory, "a model's directory, <model>/<version>/model.py", "no such directory")
    if version is None:
        version = _find_version(directory, filename, allowed)
    file = directory / version / filename
    if not file.is_file():
        raise _missing(directory, f"{version}/{filename} in it", "no such file")
    if file.suffix != ".py":
        raise _missing(directory, "default_model_filename that ends in .py", filename)
    return ModelCode(file, None, directory, version)


def _find_version(directory: Path, filename: str, allowed: Collection[int] | None) -> str:
    numbers = [path.name for path in directory.iterdir() if path.is_dir() and path.name.isdigit()]
    if not numbers:
        remedy = ""
        if (directory / filename).is_file():
            remedy = f"put {filename} into the directory of a version, {directory / '1'}"
        raise _missing(directory, f"a version, such as {Path('1', filename)}, in it", "none", remedy)
    found = [number for number in numbers if allowed is None or int(number) in allowed]
    if not found:
        raise _missing(directory, f"a version of its version_policy, {allowed}, in it", f"{sorted(numbers)}")
    return max(found, key=int)


def _missing(directory: Path, expected: str, got: str, remedy: str = "") -> ConfigError:
    return ConfigError.of(
        f"model {directory}", expected=expected, got=got, remedy=remedy or "correct the path, or add it"
    )


@dataclass(frozen=True)
class LoadedCode:
    """A model's class with the modules that it lives among.

    Attributes:
        model_class: `TritonPythonModel`.
        space: to be entered when its code runs.
        pb_utils: the stand-in, bound to its host.
    """

    model_class: Any
    space: ModuleSpace
    pb_utils: ModuleType


def load_code(code: ModelCode, host: Host) -> LoadedCode:
    """Import model.py anew, then complete the stand-in; as one process of a server does.

    Source: python_backend `pb_stub.cc`, Stub::Initialize (commit f9088ff).

    Raises:
        AttributeError: it has no `TritonPythonModel`.
        BaseException: what the import raises.
    """
    pb_utils, c_pb_utils = new_module(host), new_c_module(host)
    modules = {PB_UTILS: pb_utils, C_PB_UTILS: c_pb_utils}
    if code.file is None or code.directory is None:
        attach_classes(pb_utils, c_pb_utils, host)
        return LoadedCode(code.given, ModuleSpace(modules), pb_utils)
    # The stub imports model.py as a module of its version, such as `1.model`.
    package = ModuleType(code.version)
    package.__path__ = [str(code.file.parent)]
    modules[code.version] = package
    space = ModuleSpace(modules, (code.file.parent, code.directory))
    with space.entered():
        module = _import(f"{code.version}.{code.file.stem}", code.file)
    attach_classes(pb_utils, c_pb_utils, host)
    if not hasattr(module, _CLASS):
        raise AttributeError(
            f"module '{module.__name__}' has no attribute '{_CLASS}'{_hint_of_class(module, code.file)}"
        )
    return LoadedCode(module.TritonPythonModel, space, pb_utils)


def _hint_of_class(module: ModuleType, file: Path) -> str:
    """Name the class that was probably meant; the server's text ends before it."""
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.ClassDef):
            likeness = difflib.SequenceMatcher(None, node.name, _CLASS).ratio()
            if likeness > _ALIKE or hasattr(vars(module).get(node.name), "execute"):
                place = f"{file.name}:{node.lineno}"
                return f" ({place} defines {node.name}; Triton looks for {_CLASS} alone: rename it)"
    return ""


def _import(name: str, file: Path) -> ModuleType:
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, file, loader=_SourceLoader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    # A module may have put another object in its own place.
    return sys.modules.get(name, module)
