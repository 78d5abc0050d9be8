"""Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""

from kindaware._batch.request_info import RequestInfo
from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._device_placement import DevicePlacement
from kindaware._errors import ConfigError, KindAwareError, RequestError
from kindaware._model import KindAwareModel
from kindaware._placement.device_map import place_module
from kindaware._placement.placement import Placement
from kindaware._triton.text_encoding import use_utf8

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
    "TensorSpec",
    "place_module",
]

# Here, so that it holds for model.py from its first line after the import.
use_utf8()
