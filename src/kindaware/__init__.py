"""Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kindaware._triton.text_encoding import use_utf8

if TYPE_CHECKING:
    from kindaware._batch.request_info import RequestInfo
    from kindaware._config.args import InstanceArgs
    from kindaware._config.model_spec import ModelSpec, TensorSpec
    from kindaware._device_placement import DevicePlacement
    from kindaware._errors import ConfigError, KindAwareError, RequestError
    from kindaware._hooks.graphed import graphed
    from kindaware._hooks.step_results import Done, Next
    from kindaware._model import KindAwareModel
    from kindaware._placement.device_map import place_module
    from kindaware._placement.placement import Placement
    from kindaware._serving.options import Servable
    from kindaware._serving.serve import serve
    from kindaware._serving.served_models import ServedModels

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DevicePlacement",
    "Done",
    "InstanceArgs",
    "KindAwareError",
    "KindAwareModel",
    "ModelSpec",
    "Next",
    "Placement",
    "RequestError",
    "RequestInfo",
    "Servable",
    "ServedModels",
    "TensorSpec",
    "graphed",
    "place_module",
    "serve",
]

_MODULES = {
    "graphed": "kindaware._hooks.graphed",
    "place_module": "kindaware._placement.device_map",
    "serve": "kindaware._serving.serve",
    "ConfigError": "kindaware._errors",
    "DevicePlacement": "kindaware._device_placement",
    "Done": "kindaware._hooks.step_results",
    "InstanceArgs": "kindaware._config.args",
    "KindAwareError": "kindaware._errors",
    "KindAwareModel": "kindaware._model",
    "ModelSpec": "kindaware._config.model_spec",
    "Next": "kindaware._hooks.step_results",
    "Placement": "kindaware._placement.placement",
    "RequestError": "kindaware._errors",
    "RequestInfo": "kindaware._batch.request_info",
    "Servable": "kindaware._serving.options",
    "ServedModels": "kindaware._serving.served_models",
    "TensorSpec": "kindaware._config.model_spec",
}
"""Where the public names are. They are imported when they are first used: the command line and clients start
without torch, and a model's process without what serves."""


if not TYPE_CHECKING:  # else type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import one of the public names."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Here, so that it holds for model.py from its first line after the import.
use_utf8()
