"""The order of stages for one call of `execute`, and which requests fail when something goes wrong.

requests -> preprocess -> groups -> staged on the device -> forward -> postprocess -> checked
-> host outputs -> rows scattered -> outcomes, in request order
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import Logger
from typing import Any

import torch

from kindaware._batch import Request, group, halve, scatter
from kindaware._errors import OutputError, RequestError, message
from kindaware._hooks import Call
from kindaware._modules import Precision, prepare_input
from kindaware._outputs import check_outputs, name_outputs
from kindaware._runtime import Runtime
from kindaware._settings import Settings
from kindaware._spec import ModelSpec
from kindaware._staging import Staging

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request gets no answer.

    Attributes:
        text: what the client reads.
        code: name of a Triton error code.
    """

    text: str
    code: str


Outcome = Tensors | Failure


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
        call = _Call(arrivals)
        self._staging.begin_call()
        if self.fault is None:
            for position, arrival in enumerate(arrivals):
                if isinstance(arrival, Request):
                    self._preprocess(call, position, arrival)
            for positions in group(call.requests, by_shape=self._hooks.collate is None):
                self._answer(call, positions)
        call.log(self._logger, self._spec.name)
        unanswered = Failure(self._unavailable(), "UNAVAILABLE")
        return [outcome if outcome is not None else unanswered for outcome in call.outcomes()]

    def warm_up(self, inputs: Tensors, rows: int | None) -> None:
        """Run one batch and throw its outputs away; what goes wrong is raised.

        Args:
            inputs: host tensors by name, [B, ...] when the model batches.
            rows: B; None when the model does not batch.
        """
        self._staging.begin_call()
        self._forward([Request("warm-up", inputs, rows)])

    def _preprocess(self, call: _Call, position: int, request: Request) -> None:
        if self._hooks.preprocess is None:
            call.requests[position] = request
            return
        try:
            inputs = self._hooks.preprocess(dict(request.inputs))
            call.requests[position] = Request(request.id, self._checked(inputs, request), request.rows)
        except Exception as error:
            call.fail([position], error, "preprocess", self._spec.name)

    def _checked(self, inputs: Any, request: Request) -> Tensors:
        """Hold what `preprocess` returned against what `forward` takes."""
        names = {tensor.name for tensor in self._spec.inputs}
        is_mapping = isinstance(inputs, Mapping) and set(inputs) <= names
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

    def _answer(self, call: _Call, positions: list[int]) -> None:
        """Run one group; when forward raises, find the guilty requests by halving.

        With n requests at most 2 log2(n) + 2 further forwards are spent, which is enough to find one guilty
        request; a part that still fails when they are used up fails whole.
        """
        num_further = int(2 * math.log2(len(positions))) + 2
        pending = [positions]
        while pending and self.fault is None:
            part = pending.pop(0)
            error = self._try(call, part)
            if error is None or self.fault is not None:
                continue
            guilty = _named(call, part, error)
            if guilty:
                call.fail(guilty, error, "forward", self._spec.name)
                rest = [[position for position in part if position not in guilty]] if guilty != part else []
            else:
                rest = list(halve(part)) if len(part) > 1 and self._isolates(error) else []
            if rest and len(rest) <= num_further:
                num_further -= len(rest)
                pending += rest
            else:
                unsettled = [position for position in part if position not in guilty]
                call.fail(unsettled, error, "forward", self._spec.name)

    def _try(self, call: _Call, part: list[int]) -> Exception | None:
        """Run one forward and keep its outputs; give back what it raised."""
        requests = [call.requests[position] for position in part]
        try:
            call.answer(part, self._forward(requests), [request.rows for request in requests])
        except Exception as error:
            if self._runtime.is_fault(error):
                self.fault = f"{type(error).__name__}: {error}"
                self._logger.error("%s\n%s", self._unavailable(), _traceback(error))
            elif _is_out_of_memory(error):
                self._runtime.release_memory()
            return error
        return None

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


class _Call:
    """What is known so far of the requests of one call."""

    def __init__(self, arrivals: Sequence[Request | Failure]) -> None:
        self.requests: dict[int, Request] = {}
        self._outcomes: list[Outcome | None] = [one if isinstance(one, Failure) else None for one in arrivals]
        self._answers: list[tuple[Sequence[int], dict[str, torch.Tensor], list[int | None]]] = []
        self._ids = [one.id if isinstance(one, Request) else "" for one in arrivals]
        self._to_log: dict[str, list[str]] = {}

    def answer(self, part: Sequence[int], outputs: dict[str, torch.Tensor], rows: list[int | None]) -> None:
        """Keep a batch's outputs; they are cut into rows when all forwards are done."""
        self._answers.append((part, outputs, rows))

    def fail(self, part: Sequence[int], error: Exception, stage: str, model: str) -> None:
        """Fail requests for one error; unless a hook raised it to refuse them, its traceback is logged."""
        for position in part:
            if isinstance(error, RequestError):
                self._outcomes[position] = Failure(str(error), error.code)
                continue
            if isinstance(error, OutputError):
                text = str(error)
            else:
                text = message(
                    f"model {model!r} request {self._ids[position]!r}",
                    expected=f"{stage} to return",
                    got=f"{type(error).__name__}: {error}",
                    remedy="see the traceback in the server's log",
                )
            self._outcomes[position] = Failure(text, "INTERNAL")
            self._to_log.setdefault(_traceback(error), []).append(self._ids[position])

    def log(self, logger: Logger, model: str) -> None:
        """Write each traceback once, with the ids of the requests that it cost."""
        for text, ids in self._to_log.items():
            logger.error("model %r failed %d request(s), ids %s\n%s", model, len(ids), ids, text)

    def outcomes(self) -> list[Outcome | None]:
        """Give what became of each request; None for one that was never run."""
        for part, outputs, rows in self._answers:
            for position, answer in zip(part, scatter(outputs, rows), strict=True):
                self._outcomes[position] = answer
        return self._outcomes


def _named(call: _Call, part: Sequence[int], error: Exception) -> list[int]:
    """Find the requests that own the rows which the error names; none where it names no row of the batch."""
    if not isinstance(error, RequestError) or error.rows is None:
        return []
    owners = [position for position in part for _ in range(call.requests[position].rows or 1)]
    if not error.rows or not all(0 <= row < len(owners) for row in error.rows):
        return []
    named = {owners[row] for row in error.rows}
    return [position for position in part if position in named]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
