"""Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kindaware._triton.text_encoding import use_utf8

if TYPE_CHECKING:
    from kindaware._batch.request_info import RequestInfo
    from kindaware._config.args import InstanceArgs
    from kindaware._config.model_spec import ModelSpec, TensorSpec
    from kindaware._device_placement import DevicePlacement
    from kindaware._errors import ConfigError, KindAwareError, RequestError
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

_HOMES = {
    "ConfigError": "kindaware._errors",
    "DevicePlacement": "kindaware._device_placement",
    "InstanceArgs": "kindaware._config.args",
    "KindAwareError": "kindaware._errors",
    "KindAwareModel": "kindaware._model",
    "ModelSpec": "kindaware._config.model_spec",
    "Placement": "kindaware._placement.placement",
    "RequestError": "kindaware._errors",
    "RequestInfo": "kindaware._batch.request_info",
    "Servable": "kindaware._serving.options",
    "ServedModels": "kindaware._serving.served_models",
    "TensorSpec": "kindaware._config.model_spec",
    "place_module": "kindaware._placement.device_map",
    "serve": "kindaware._serving.serve",
}
"""Where each public name is, which is imported when it is first used.

Most need torch, whose import takes seconds. The command answers `--help` without it, and catches Ctrl-C in
that import.
"""


if not TYPE_CHECKING:  # else type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import one of the public names."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        """Return what completion offers: the public names, imported or not."""
        return sorted({*globals(), *__all__})


# Here, so that it holds for model.py from its first line after the import.
use_utf8()
