"""The two modules, in their two phases."""

from __future__ import annotations

from types import ModuleType

from kindaware.testing.stand_in._host import Host


def new_module(host: Host) -> ModuleType:
    """Make `triton_python_backend_utils` as model.py finds it while it is imported."""
    raise NotImplementedError


def attach_classes(module: ModuleType, host: Host) -> ModuleType:
    """Add what the server adds after the import of model.py; gives `c_python_backend_utils`."""
    raise NotImplementedError
