"""The stage before batching: the user's `preprocess` and `row_cost`, run on one request at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import torch

from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._device.device import Device
from kindaware._errors import OutputError, message
from kindaware._tensors.bytes_arrays import is_value
from kindaware._tensors.rows import RaggedRows, Rows, joinable, kind_of


class Preprocessor:
    """Runs `preprocess` and `row_cost` on one request at a time.

    Args:
        plan: plan of the instance.
        device: device of the instance, which is current for the hooks.

    Attributes:
        has_hooks: whether there is anything to run.
    """

    def __init__(self, plan: Plan, device: Device) -> None:
        self._model = plan.spec.name
        self._input_names = {tensor.name for tensor in plan.spec.inputs}
        self._call = plan.hooks.call
        # Where rows may have different sizes: they are padded, or collated by the hook.
        self._collates = plan.hooks.collate is not None
        self._required_names = {tensor.name for tensor in plan.spec.inputs if not tensor.optional}
        self._hook = plan.hooks.preprocess
        self._row_cost = plan.hooks.row_cost if plan.divides else None
        self.has_hooks = self._hook is not None or self._row_cost is not None
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._padding = plan.padding
        self._runtime = device.runtime
        self._staging = device.staging

    def run(self, request: Request) -> Request:
        """Return the request with the inputs that `preprocess` returned, and the cost of its rows.

        The hooks run with the instance's device and stream current and gradients disabled, but not in
        inference mode; see `BatchRunner._forward`.

        Raises:
            OutputError: `preprocess` returned something that `forward` can't take, or `row_cost` no cost.
            Exception: what a hook raised.

        Sync:
            Host with stream after an error, unless the device has failed, and between the two hooks:
            `row_cost` may read what `preprocess` has copied to the host.
        """
        if not self.has_hooks:
            return request
        with self._runtime.scope(), torch.no_grad(), RequestScope([request]):
            try:
                if self._hook is not None:
                    request = request.with_inputs(self._preprocess(self._hook, request))
                if self._row_cost is not None:
                    request = replace(request, row_cost=self._cost(self._row_cost, request))
            except BaseException as error:
                # No batch will wait for what it queued; Triton may take the inputs back when execute returns.
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
        return request

    def _preprocess(self, hook: Callable[..., Any], request: Request) -> Mapping[str, Rows]:
        extras = self._hook_requests.argument("preprocess", [request])
        # A copy of the mapping, which the hook may change.
        inputs = self._check(hook(dict(request.inputs), **extras), request)
        if not self._runtime.is_host:
            # What it has made may be a copy from the device that is only queued yet.
            made = [one for name, one in inputs.items() if one is not request.inputs.get(name)]
            self._staging.expect(joinable(made))
        return inputs

    def _cost(self, hook: Callable[[Mapping[str, Any]], Any], request: Request) -> float:
        """Return what `row_cost` says about a request."""
        # Rows that `preprocess` left apart are a list, as for `collate`.
        inputs = {
            name: one.rows if isinstance(one, RaggedRows) else one for name, one in request.inputs.items()
        }
        if self._hook is not None:
            self._staging.land(joinable(list(request.inputs.values())))
        cost = hook(inputs)
        # numpy's numbers are real ones too.
        if isinstance(cost, Real) and 0 <= float(cost) < math.inf:
            return float(cost)
        raise OutputError(
            message(
                f"model {self._model!r} row_cost",
                expected="a number, 0 or more",
                got=repr(cost)[:80],
                remedy="return what a row as large as those of the request costs, in any unit",
            )
        )

    def _takes(self, names: Collection[str]) -> bool:
        """Whether `forward` takes tensors of these names: the declared inputs', or its parameters'."""
        # Optional inputs may be absent.
        if self._call.takes_inputs and self._required_names <= set(names) <= self._input_names:
            return True
        return self._call.parameters is not None and self._call.parameters.take(names)

    def _rows(self, name: str, value: Any, request: Request) -> Rows | None:
        """Return the rows of one input; None if they are not the request's.

        Raises:
            OutputError: rows differ in size, and nothing would make them equal.
        """
        # A scalar's shape[:1] is (), so it has no rows.
        if is_value(value):
            is_whole = request.rows is None or value.shape[:1] == (request.rows,)
            return value if is_whole else None
        if not isinstance(value, (list, tuple)) or len(value) != request.rows:
            return None
        if not all(map(is_value, value)) or len({(kind_of(one), one.ndim) for one in value}) > 1:
            return None
        rows = RaggedRows(value)
        is_padded = self._padding is not None and name in self._padding.fills
        if not (is_padded or self._collates) and len(set(rows.row_shapes)) > 1:
            raise OutputError(
                message(
                    f"model {self._model!r} preprocess input {name!r}",
                    expected="rows of one size, since pad does not name it",
                    got=f"shapes {[list(shape) for shape in rows.row_shapes]}"[:200],
                    remedy=f"write pad = {{{name!r}: 0}}, or define collate",
                )
            )
        return rows

    def _check(self, inputs: Any, request: Request) -> Mapping[str, Rows]:
        """Return what `preprocess` returned, checked for names, types and number of rows."""
        if isinstance(inputs, Mapping) and self._takes(inputs):
            rows = {name: self._rows(name, one, request) for name, one in inputs.items()}
            checked = {name: one for name, one in rows.items() if one is not None}
            if len(checked) == len(rows):
                if self._padding is not None:
                    self._padding.check(checked)
                return checked
        raise OutputError(
            message(
                f"model {self._model!r} preprocess",
                expected=f"a mapping of {self._names()} to tensors with {request.rows} rows",
                got=repr({k: _shape_of(v) for k, v in inputs.items()})
                if isinstance(inputs, Mapping)
                else type(inputs).__name__,
                remedy="return one tensor per input, or a list of one per row, with as many rows as the "
                "request has; BYTES in object arrays",
            )
        )

    def _names(self) -> str:
        """Return the names that `forward` takes, for a message."""
        parameters = self._call.parameters
        inputs, names = sorted(self._input_names), sorted(parameters.names if parameters is not None else ())
        if not self._call.takes_inputs:
            return str(names)
        return str(inputs) if not names or names == inputs else f"{inputs}, or of {names},"


def _shape_of(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [list(getattr(one, "shape", ())) for one in value]
    return list(getattr(value, "shape", ()))
