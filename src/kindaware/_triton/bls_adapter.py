"""`CallAdapter`: builds Triton's requests to other models, and reads their responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from kindaware._device.runtime import Runtime
from kindaware._errors import CalledModelError
from kindaware._tensors.bytes_arrays import Value
from kindaware._triton.tensor import TensorWrapper


class CallAdapter:
    """Builds the requests of calls to other models, and reads the responses to them.

    Args:
        pb_utils: Triton's module, or a stand-in.
        runtime: the runtime of the device, on which the outputs should lie.
    """

    def __init__(self, pb_utils: ModuleType, runtime: Runtime) -> None:
        self._pb_utils = pb_utils
        self._runtime = runtime
        self._tensors = TensorWrapper(pb_utils, runtime)

    def land(self, values: Iterable[object]) -> None:
        """Wait if any of a call's inputs is a tensor on the host, whose copy may only be queued yet.

        Sync:
            Host with stream, if there is such a tensor and the instance is on a GPU.
        """
        if any(isinstance(one, torch.Tensor) and one.device.type == "cpu" for one in values):
            self._runtime.wait_for_host_memory()

    def new_call(self, model: str, inputs: Mapping[str, Any], *, trace: Any, **options: Any) -> Any:
        """Build a request to another model, whose outputs should lie on this instance's device.

        Args:
            model: name of the other model.
            inputs: contiguous tensors and arrays by name.
            trace: Triton's trace object; None for none.
            options: `requested_outputs`, and keyword arguments of `pb_utils.InferenceRequest`.
        """
        if trace is not None:
            options["trace"] = trace
        if self._runtime.device.type == "cuda":
            memory = self._pb_utils.TRITONSERVER_MEMORY_GPU
            options["preferred_memory"] = self._pb_utils.PreferredMemory(memory, self._runtime.device.index)
        return self._pb_utils.InferenceRequest(
            model_name=model,
            inputs=[self._tensors.wrap(name, value) for name, value in inputs.items()],
            requested_output_names=options.pop("requested_outputs"),
            **options,
        )

    def read_outputs(self, response: Any) -> dict[str, Value]:
        """Copy the outputs in another model's response to this instance's device.

        Returns:
            Tensors by name; BYTES as arrays of dtype object.

        Raises:
            CalledModelError: the response is an error.

        Sync:
            Host with stream: Triton reclaims the memory of outputs on a GPU, so copies of them have finished
            when this returns, or raises because a later output can't be read. Not after a device fault.
        """
        if response.has_error():
            error = response.error()
            raise CalledModelError(error.message(), code=error.code().name)
        with self._runtime.scope():
            # The wait comes before the response is released, and with it the memory that is being copied.
            try:
                outputs = {tensor.name(): self._value(tensor) for tensor in response.output_tensors()}
            except BaseException as error:
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
            self._runtime.wait()
        return outputs

    def _value(self, tensor: Any) -> Value:
        """Return an output of another model, on this instance's device."""
        # A copy even if it is there already, since the memory is Triton's.
        if not tensor.is_cpu():
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device, copy=True)
        try:
            array = tensor.as_numpy()
        except self._pb_utils.TritonModelException:
            # BF16, for which numpy has no dtype.
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device)
        return array if array.dtype == object else torch.from_numpy(array).to(self._runtime.device)
