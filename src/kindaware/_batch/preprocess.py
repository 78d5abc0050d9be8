"""The stage before batching: the user's `preprocess`, run on one request at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._device.device import Device
from kindaware._errors import OutputError, message
from kindaware._tensors.bytes_arrays import Value, is_value


class Preprocessor:
    """Runs `preprocess` on one request at a time.

    Args:
        plan: plan of the instance.
        device: device of the instance, which is current for the hook.
    """

    def __init__(self, plan: Plan, device: Device) -> None:
        self._model = plan.spec.name
        self._input_names = {tensor.name for tensor in plan.spec.inputs}
        self._required_names = {tensor.name for tensor in plan.spec.inputs if not tensor.optional}
        self._hook = plan.hooks.preprocess
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._padding = plan.padding
        self._runtime = device.runtime
        self._staging = device.staging

    def run(self, request: Request) -> Request:
        """Return the request with the inputs that `preprocess` returned.

        The hook runs with the instance's device and stream current and gradients disabled, but not in
        inference mode; see `BatchRunner._forward`.

        Raises:
            OutputError: the hook returned something that `forward` can't take.
            Exception: what the hook raised.

        Sync:
            Host with stream after an error, unless the device has failed.
        """
        if self._hook is None:
            return request
        with self._runtime.scope(), torch.no_grad(), RequestScope([request]):
            try:
                extras = self._hook_requests.argument("preprocess", [request])
                given = dict(request.inputs)
                # A copy of the mapping, which the hook may change.
                inputs = self._check(self._hook(dict(given), **extras), request)
                # What it has made may be a copy from the device that is only queued yet.
                self._staging.expect(one for name, one in inputs.items() if one is not given.get(name))
            except BaseException as error:
                # No batch will wait for what it queued; Triton may take the inputs back when execute returns.
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
        return request.with_inputs(inputs)

    def _check(self, inputs: Any, request: Request) -> Mapping[str, Value]:
        """Return what `preprocess` returned, checked for names, types and number of rows."""
        # Optional inputs may be absent, and none may be added. A scalar's shape[:1] is (), so it has no rows.
        is_mapping = isinstance(inputs, Mapping) and self._required_names <= set(inputs) <= self._input_names
        if is_mapping and all(
            is_value(one) and (request.rows is None or one.shape[:1] == (request.rows,))
            for one in inputs.values()
        ):
            if self._padding is not None:
                for name, one in inputs.items():
                    self._padding.check_rank(name, one)
            return inputs  # type: ignore[no-any-return]  # a mapping of tensors, as just checked
        raise OutputError(
            message(
                f"model {self._model!r} preprocess",
                expected=f"a mapping of {sorted(self._input_names)} to tensors with {request.rows} rows",
                got=repr({k: list(getattr(v, "shape", ())) for k, v in inputs.items()})
                if isinstance(inputs, Mapping)
                else type(inputs).__name__,
                remedy="return the inputs, changed, with as many rows as they had; BYTES in object arrays",
            )
        )
