"""Triton's module `triton_python_backend_utils`: how it is found and checked."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import torch

from kindaware._errors import ConfigError, KindAwareError, message
from kindaware._hooks.interruption import is_stub

PB_UTILS = "triton_python_backend_utils"


def find_pb_utils() -> ModuleType | None:
    """Return Triton's module in a stub process, or a stand-in for it in a test; else None.

    The stub imports the module before model.py, so it is looked up and never imported here.
    Source: python_backend `pb_stub.cc`, Stub::Initialize.
    """
    module = sys.modules.get(PB_UTILS)
    return module if module is not None and hasattr(module, "InferenceResponse") else None


def check_pb_utils(pb_utils: ModuleType) -> None:
    """Refuse a module that shadows the server's, and a numpy version that the stub can't read.

    Raises:
        ConfigError: names the package to uninstall or install.
    """
    _check_shadow(pb_utils)
    # With numpy 2, stubs before 24.11 read garbage through as_numpy without raising anything.
    probe = torch.arange(8.0)
    read = pb_utils.Tensor.from_dlpack("probe", probe).as_numpy()
    if read.shape != (8,) or read.tolist() != probe.tolist():
        import numpy

        raise ConfigError.of(
            "this server's Python backend and numpy",
            expected="a tensor read through both to keep its values",
            got=f"{read.tolist()} for {probe.tolist()} with numpy {numpy.__version__}",
            remedy="install 'numpy<2' in the environment of the stub, or use Triton 24.11 or newer",
        )


def is_stand_in(pb_utils: ModuleType) -> bool:
    """Whether this is a complete stand-in for tests."""
    return not is_stub() and hasattr(getattr(pb_utils, "Tensor", None), "from_dlpack")


def _check_shadow(pb_utils: ModuleType) -> None:
    """Refuse an installed module of the same name, which shadows the server's, last on sys.path.

    Raises:
        ConfigError: names the package to uninstall, or the file to delete.
    """
    if is_stand_in(pb_utils):
        return
    loaded = Path(pb_utils.__file__ or "")
    # In the order of sys.path, so the server's own copy is the last.
    copies = [
        found
        for folder in sys.path
        for found in (Path(folder, PB_UTILS + ".py"), Path(folder, PB_UTILS, "__init__.py"))
        if found.is_file()
    ]
    if copies and copies[-1].resolve() == loaded.resolve() and hasattr(pb_utils, "Tensor"):
        return
    owners = importlib.metadata.packages_distributions().get(PB_UTILS, [])
    remedy = f"pip uninstall {' '.join(owners)}" if owners else f"delete or rename {loaded}"
    raise ConfigError.of(
        f"module {PB_UTILS}",
        expected=f"the server's own, {copies[-1]}" if len(copies) > 1 else "the server's own",
        got=str(loaded),
        remedy=remedy + ", which takes the place of the server's module",
    )


def require_pb_utils(what: str) -> ModuleType:
    """Return Triton's module.

    Args:
        what: what needs it, for the message.

    Raises:
        KindAwareError: this process is neither a stub nor a test with a stand-in.
    """
    pb_utils = find_pb_utils()
    if pb_utils is None:
        raise KindAwareError(
            message(
                what,
                expected="to be called by Triton's Python backend",
                got=f"a process without {PB_UTILS}",
                remedy="serve it with 'kindaware serve', or test it with kindaware.testing.ModelHarness",
            )
        )
    return pb_utils
