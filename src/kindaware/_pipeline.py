"""The order of stages for one call of `execute`, and which requests fail when something goes wrong.

requests -> preprocess -> groups -> staged on the device -> forward -> postprocess -> checked
-> host outputs -> rows scattered -> outcomes, in request order
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import Logger
from typing import Any

import torch

from kindaware._batch import Request, group, halve
from kindaware._errors import KindAwareError, OutputError, RequestError, message
from kindaware._hooks import Call
from kindaware._modules import Precision, prepare_input
from kindaware._outcomes import Failure, Ledger, Outcome, Tensors, format_traceback
from kindaware._outputs import check_outputs, name_outputs
from kindaware._runtime import Runtime
from kindaware._settings import Settings
from kindaware._spec import ModelSpec
from kindaware._staging import Staging

_Failed = tuple[list[int], Exception]
"""The positions of a part of a group, and what forward raised for it."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The user's hooks, bound; None for those that the class leaves to the library.

    Attributes:
        forward: gets a batch's tensors through `call`.
        call: how they are handed over.
        preprocess: per request.
        collate: per input of a group.
        postprocess: per batch.
    """

    forward: Callable[..., Any]
    call: Call
    preprocess: Callable[[dict[str, torch.Tensor]], Tensors] | None = None
    collate: Callable[[str, list[torch.Tensor]], torch.Tensor] | None = None
    postprocess: Callable[[dict[str, torch.Tensor]], Tensors] | None = None


class Pipeline:
    """Answers the requests of one call, in batches.

    Args:
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        runtime: the device.
        staging: the way there and back.
        logger: gets each failure's traceback once.

    Attributes:
        fault: the error after which the device is unusable; None while all is well. From then on every
            request is answered `UNAVAILABLE` at once.
    """

    def __init__(
        self,
        spec: ModelSpec,
        settings: Settings,
        hooks: Hooks,
        runtime: Runtime,
        staging: Staging,
        logger: Logger,
    ) -> None:
        self.fault: str | None = None
        self._spec = spec
        self._settings = settings
        self._hooks = hooks
        self._runtime = runtime
        self._staging = staging
        self._logger = logger
        self._precision = Precision.of(settings.precision)
        self._has_answered = False

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
        self._staging.begin_call()
        if self.fault is None:
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
        return ledger.outcomes(missing=Failure(self._unavailable(), "UNAVAILABLE"))

    def warm_up(self, inputs: Tensors, rows: int | None) -> None:
        """Run one batch and throw its outputs away; what goes wrong is raised.

        Args:
            inputs: host tensors by name, [B, ...] when the model batches.
            rows: B; None when the model does not batch.
        """
        self._staging.begin_call()
        self._forward([Request("warm-up", inputs, rows)])
        self._has_answered = True

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
        while pending and self.fault is None:
            part = pending.pop(0)
            result = self._attempt([ledger.requests[position] for position in part])
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
            cost = 0 if _is_out_of_memory(result) else len(rest)
            if rest and cost <= num_further:
                num_further -= cost
                pending += rest
            elif unnamed:
                failed.append((unnamed, _not_settled(result) if named else result))
        return failed if self.fault is None else []

    def _attempt(self, requests: Sequence[Request]) -> dict[str, torch.Tensor] | Exception:
        """Run one forward; give its outputs, or what it raised."""
        try:
            outputs = self._forward(requests)
        except Exception as error:
            if self._runtime.is_fault(error):
                self.fault = f"{type(error).__name__}: {error}"
                self._logger.error("%s\n%s", self._unavailable(), format_traceback(error))
            elif _is_out_of_memory(error):
                self._runtime.release_memory()
            return error
        self._has_answered = True
        return outputs

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
        if not (is_dynamic and self._has_answered) or self.fault is not None:
            return None
        zeros = {name: torch.zeros_like(tensor) for name, tensor in request.inputs.items()}
        result = self._attempt([Request(request.id, zeros, request.rows)])
        if not isinstance(result, Exception) or self.fault is not None:
            return None
        return None if isinstance(result, OutputError) or _is_out_of_memory(result) else type(result)

    def _describe_shape(self, request: Request, error: Exception) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in request.inputs.items()}
        return message(
            f"model {self._spec.name!r} request {request.id!r}",
            expected="inputs of a shape that forward takes",
            got=f"{shapes} ({type(error).__name__}: {error})",
            remedy="send another shape: zeros of this one fail in the same way",
        )

    def _isolates(self, error: Exception) -> bool:
        return self._settings.isolate_errors or _is_out_of_memory(error)

    def _forward(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Take one batch through the device and back."""
        hooks, rows = self._hooks, [request.rows for request in requests]
        num_rows = None if rows[0] is None else sum(one or 0 for one in rows)
        self._staging.begin_forward()
        with self._runtime.scope(), torch.inference_mode():
            try:
                inputs = {name: self._put(name, requests) for name in requests[0].inputs}
                with self._precision.scope(self._runtime.device):
                    outputs = name_outputs(hooks.call(hooks.forward, inputs), self._spec)
                if hooks.postprocess is not None:
                    outputs = name_outputs(hooks.postprocess(outputs), self._spec)
                checked = check_outputs(
                    outputs,
                    self._spec,
                    num_rows=num_rows,
                    cast=self._settings.cast_outputs,
                    computed_dtype=self._precision.dtype,
                )
                return self._staging.fetch(checked)
            finally:
                self._staging.settle()

    def _put(self, name: str, requests: Sequence[Request]) -> torch.Tensor:
        tensors = [request.inputs[name] for request in requests]
        if self._hooks.collate is not None and requests[0].rows is not None:
            tensors = [self._hooks.collate(name, tensors)]
        return prepare_input(self._staging.put(tensors), self._settings, self._precision)

    def _unavailable(self) -> str:
        return message(
            f"model {self._spec.name!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {self.fault}",
            remedy="reload the model: an error of the device lasts as long as its process",
        )


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


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


def _num_rows(request: Request) -> int:
    return 1 if request.rows is None else request.rows
