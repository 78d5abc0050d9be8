"""`TensorWrapper`: the library's values as Triton's tensors."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from kindaware._device.runtime import Runtime
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.dtypes import no_numpy

_NO_NUMPY = no_numpy()


class TensorWrapper:
    """Wraps tensors and arrays as Triton's tensors.

    Args:
        pb_utils: Triton's module, or a stand-in.
        runtime: the runtime of the device, for tensors that stay there.
    """

    def __init__(self, pb_utils: ModuleType, runtime: Runtime) -> None:
        self._pb_utils = pb_utils
        self._runtime = runtime

    def wrap(self, name: str, value: Value) -> Any:
        """Return Triton's tensor of a contiguous value."""
        memory, wrap = self.wrapper(value)
        return wrap(name, memory)

    def wrapper(self, value: Value) -> tuple[Any, Callable[[str, Any], Any]]:
        """Return a contiguous value in the form in which Triton takes it, and the function that wraps it.

        The value, or a slice of it along dimension 0, is passed to the function together with a name.
        """
        # On the CPU Triton takes an array without copying it, and copies a tensor that comes by DLPack.
        if not isinstance(value, torch.Tensor):
            return value, self._pb_utils.Tensor
        if value.device.type != "cpu" or value.dtype in _NO_NUMPY:
            return value, self._from_dlpack
        return value.numpy(), self._pb_utils.Tensor

    def _from_dlpack(self, name: str, tensor: torch.Tensor) -> Any:
        """Wrap a tensor as an object, never as a capsule, with the stream that computed it current.

        For an object the stub waits for that stream; for a capsule it doesn't.
        Source: python_backend `pb_tensor.cc`, PbTensor::FromDLPack.
        """
        with self._runtime.scope():
            return self._pb_utils.Tensor.from_dlpack(name, tensor)
