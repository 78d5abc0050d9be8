"""The order of stages for one call of `execute`, and which requests fail when something goes wrong.

requests -> preprocess -> groups -> staged on the device -> forward -> postprocess -> checked
-> host outputs -> rows scattered -> outcomes, in request order
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from logging import Logger
from typing import Any

import torch

from kindaware._batch import Request, group, halve
from kindaware._device_pass import DevicePass, is_out_of_memory
from kindaware._errors import KindAwareError, OutputError, RequestError, message
from kindaware._hooks import Hooks
from kindaware._outcomes import Failure, Ledger, Outcome, Tensors
from kindaware._settings import Settings
from kindaware._spec import ModelSpec

_Failed = tuple[list[int], Exception]
"""The positions of a part of a group, and what forward raised for it."""


class Pipeline:
    """Answers the requests of one call, in batches.

    Args:
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        device_pass: takes one batch through the device. After a fault of the device every request is answered
            `UNAVAILABLE` at once.
        logger: gets each failure's traceback once.
    """

    def __init__(
        self, spec: ModelSpec, settings: Settings, hooks: Hooks, device_pass: DevicePass, logger: Logger
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._hooks = hooks
        self._device_pass = device_pass
        self._logger = logger

    def run(self, arrivals: Sequence[Request | Failure]) -> list[Outcome]:
        """Answer every request of one call.

        Args:
            arrivals: the requests as read; one that could not be read is its failure already.

        Returns:
            One outcome per arrival, in the same order: host tensors by name, contiguous, valid until the
            next call; or a failure.

        Sync:
            Waits once per batch for the device.
        """
        ledger = Ledger(arrivals, self._spec.name)
        self._device_pass.begin_call()
        if self._device_pass.fault is None:
            for position, arrival in enumerate(arrivals):
                if isinstance(arrival, Request):
                    self._preprocess(ledger, position, arrival)
            groups = group(ledger.requests, by_shape=self._hooks.collate is None)
            unanswered = [self._answer(ledger, positions) for positions in groups]
            # Not before every group was tried is it known whether the model has ever answered.
            for positions, failed in zip(groups, unanswered, strict=True):
                num_failed = sum(len(part) for part, _ in failed)
                self._fail(ledger, failed, may_be_shape=num_failed == len(positions))
        ledger.log(self._logger)
        return ledger.outcomes(lambda: Failure(self._device_pass.unavailable(), "UNAVAILABLE"))

    def _preprocess(self, ledger: Ledger, position: int, request: Request) -> None:
        if self._hooks.preprocess is None:
            ledger.requests[position] = request
            return
        try:
            inputs = self._hooks.preprocess(dict(request.inputs))
            ledger.requests[position] = Request(request.id, self._checked(inputs, request), request.rows)
        except RequestError as error:
            ledger.refuse([position], str(error), error.code)
        except Exception as error:
            ledger.fail([position], error, "preprocess")

    def _checked(self, inputs: Any, request: Request) -> Tensors:
        """Hold what `preprocess` returned against what `forward` takes."""
        names = {tensor.name for tensor in self._spec.inputs}
        required = {tensor.name for tensor in self._spec.inputs if not tensor.optional}
        is_mapping = isinstance(inputs, Mapping) and required <= set(inputs) <= names
        if is_mapping and all(
            isinstance(one, torch.Tensor) and (request.rows is None or one.shape[:1] == (request.rows,))
            for one in inputs.values()
        ):
            return inputs  # type: ignore[no-any-return]  # a mapping of tensors, as just checked
        raise OutputError(
            message(
                f"model {self._spec.name!r} preprocess",
                expected=f"a mapping of {sorted(names)} to tensors with {request.rows} rows",
                got=repr({k: list(getattr(v, "shape", ())) for k, v in inputs.items()})
                if isinstance(inputs, Mapping)
                else type(inputs).__name__,
                remedy="return the inputs, changed, with as many rows as they had",
            )
        )

    def _answer(self, ledger: Ledger, positions: list[int]) -> list[_Failed]:
        """Run one group; when forward raises, find the guilty requests by halving.

        With n requests at most 2 log2(n) + 2 further forwards are spent, which is enough to find one guilty
        request; a part that still fails when they are used up fails whole. A batch for which memory ran out
        is halved down to single requests, whatever that costs.

        Returns:
            The parts that got no answer, with what forward raised for them; none after a fault of the device.
        """
        num_further = int(2 * math.log2(len(positions))) + 2
        pending = [positions]
        failed: list[_Failed] = []
        while pending and self._device_pass.fault is None:
            part = pending.pop(0)
            result = self._device_pass.attempt([ledger.requests[position] for position in part])
            if not isinstance(result, Exception):
                ledger.answer(part, result)
                continue
            named = _named(ledger, part, result)
            unnamed = [position for position in part if position not in named]
            if named:
                failed.append((named, result))
                rest = [unnamed] if unnamed else []
            else:
                rest = list(halve(part)) if len(part) > 1 and self._isolates(result) else []
            cost = 0 if is_out_of_memory(result) else len(rest)
            if rest and cost <= num_further:
                num_further -= cost
                pending += rest
            elif unnamed:
                failed.append((unnamed, _not_settled(result) if named else result))
        return failed if self._device_pass.fault is None else []

    def _fail(self, ledger: Ledger, failed: Sequence[_Failed], *, may_be_shape: bool) -> None:
        """Fail the parts of one group that got no answer.

        Where the whole group got none, one more forward asks whether its shape alone is to blame.
        """
        raised = [(part, error) for part, error in failed if not isinstance(error, RequestError)]
        request = ledger.requests[raised[0][0][0]] if raised and may_be_shape else None
        shape_error = None if request is None else self._error_of_shape(request)
        for part, error in failed:
            if isinstance(error, RequestError):
                ledger.refuse(part, str(error), error.code)
            elif type(error) is shape_error:
                for position in part:
                    text = self._describe_shape(ledger.requests[position], error)
                    ledger.refuse([position], text, "INVALID_ARG")
            else:
                ledger.fail(part, error, "forward")

    def _error_of_shape(self, request: Request) -> type[Exception] | None:
        """What zeros of the request's shape make forward raise, in a model that has answered other shapes."""
        is_dynamic = any(tensor.is_dynamic for tensor in self._spec.inputs)
        if not (is_dynamic and self._device_pass.has_answered) or self._device_pass.fault is not None:
            return None
        zeros = {name: torch.zeros_like(tensor) for name, tensor in request.inputs.items()}
        result = self._device_pass.attempt([Request(request.id, zeros, request.rows)])
        if not isinstance(result, Exception) or self._device_pass.fault is not None:
            return None
        return None if isinstance(result, OutputError) or is_out_of_memory(result) else type(result)

    def _describe_shape(self, request: Request, error: Exception) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in request.inputs.items()}
        return message(
            f"model {self._spec.name!r} request {request.id!r}",
            expected="inputs of a shape that forward takes",
            got=f"{shapes} ({type(error).__name__}: {error})",
            remedy="send another shape: zeros of this one fail in the same way",
        )

    def _isolates(self, error: Exception) -> bool:
        return self._settings.isolate_errors or is_out_of_memory(error)


def _named(ledger: Ledger, part: Sequence[int], error: Exception) -> list[int]:
    """Find the requests that own the rows which the error names; none where it names no row of the batch."""
    if not isinstance(error, RequestError) or error.rows is None:
        return []
    owners = [position for position in part for _ in range(_num_rows(ledger.requests[position]))]
    if not error.rows or not all(0 <= row < len(owners) for row in error.rows):
        return []
    named = {owners[row] for row in error.rows}
    return [position for position in part if position in named]


def _not_settled(error: Exception) -> Exception:
    """Give the error of requests that nobody named guilty, when no forward is left to answer them."""
    return KindAwareError(
        message(
            "forward",
            expected="RequestError(rows=...) to name all guilty rows within 2 log2(n) + 2 further forwards",
            got=f"one more: {error}",
            remedy="name them all at once",
        )
    )


def _num_rows(request: Request) -> int:
    return 1 if request.rows is None else request.rows
