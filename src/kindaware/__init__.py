"""Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""

from kindaware._args import InstanceArgs
from kindaware._device_map import place_module
from kindaware._device_placement import DevicePlacement
from kindaware._errors import ConfigError, KindAwareError, RequestError
from kindaware._model import KindAwareModel
from kindaware._placement import Placement
from kindaware._request_info import RequestInfo
from kindaware._spec import ModelSpec, TensorSpec

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
