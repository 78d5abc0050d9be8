"""Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kindaware._batch.request_info import RequestInfo
from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._device_placement import DevicePlacement
from kindaware._errors import ConfigError, KindAwareError, RequestError
from kindaware._model import KindAwareModel
from kindaware._placement.device_map import place_module
from kindaware._placement.placement import Placement
from kindaware._triton.text_encoding import use_utf8

if TYPE_CHECKING:
    from kindaware._serving.options import Servable
    from kindaware._serving.serve import serve
    from kindaware._serving.served_models import ServedModels

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DevicePlacement",
    "InstanceArgs",
    "KindAwareError",
    "KindAwareModel",
    "ModelSpec",
    "Placement",
    "RequestError",
    "RequestInfo",
    "Servable",
    "ServedModels",
    "TensorSpec",
    "place_module",
    "serve",
]

_LAZY = {
    "Servable": "kindaware._serving.options",
    "ServedModels": "kindaware._serving.served_models",
    "serve": "kindaware._serving.serve",
}
"""Public names that are imported when they are first used: a model's process has no use for them."""


if not TYPE_CHECKING:  # else type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import one of the names that models don't need."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value


# Here, so that it holds for model.py from its first line after the import.
use_utf8()
