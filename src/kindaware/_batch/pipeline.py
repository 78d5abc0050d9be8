"""The pipeline: the order of stages in one call of `execute`, and which requests fail if a stage raises.

requests -> preprocess -> groups -> staged on the device -> forward -> postprocess -> checked
-> host outputs -> rows split -> results, in request order
"""

from __future__ import annotations

import functools
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence

from kindaware._batch.buckets import Buckets
from kindaware._batch.collate import CollateError
from kindaware._batch.isolation_budget import IsolationBudget
from kindaware._batch.micro_batches import micro_batches
from kindaware._batch.named_rows import refuse_other_mask, rows_of
from kindaware._batch.plan import Plan
from kindaware._batch.preprocess import Preprocessor
from kindaware._batch.request import Request, group, halve, rank_key, shape_key
from kindaware._batch.results import Failure, Ledger, Result
from kindaware._batch.runner import BatchRunner
from kindaware._batch.splitter import Splitter
from kindaware._batch.stages import BATCH, PREPROCESS, SPLIT, Stage
from kindaware._device.runtime import is_out_of_memory
from kindaware._errors import (
    KindAwareError,
    OutputError,
    UnsearchedError,
    describe,
    message,
)
from kindaware._hooks.interruption import stops_test
from kindaware._tensors.bytes_arrays import host_zeros
from kindaware._tensors.rows import Output, RaggedRows, Rows

_MAX_SHAPES = 4096
"""Bound on the shapes that are remembered: clients choose them, so there is no end to them."""

_Place = tuple[type[Exception], str, int]
"""Where an exception was raised: its class, and the file and line."""

_Failed = tuple[list[int], Exception]
"""Positions of requests that failed together, and what `forward` raised for them."""


class Pipeline:
    """Answers the requests of one call, in batches.

    After a device fault every request is answered with `UNAVAILABLE` at once.

    Args:
        plan: plan of the instance.
        runner: runs one batch on the device.

    Attributes:
        runner: the runner.
        make_room: called when memory has run out; returns whether a batch that did not fit may fit now, since
            what earlier ones held of it is free.
    """

    def __init__(self, plan: Plan, runner: BatchRunner) -> None:
        self.runner = runner
        self.make_room: Callable[[], bool] = lambda: False
        self._spec = plan.spec
        self._settings = plan.settings
        self._reporter = plan.reporter
        self._health = runner.device.health
        self._isolation = IsolationBudget(plan.settings.max_isolation)
        self._preprocessor = Preprocessor(plan, runner.device)
        self._splitter = Splitter(plan, runner.device)
        self._buckets = Buckets(plan) if plan.divides else None
        self._is_dynamic = any(tensor.is_dynamic for tensor in plan.spec.inputs)
        self._answered_shapes: set[object] = set()
        # Requests that all have the same shape need no key; `preprocess` may change shapes.
        self._is_uniform = plan.hooks.preprocess is None and plan.spec.is_uniform
        # What may differ within a batch: nothing, or sizes that `collate` or padding make equal.
        self._key_of = shape_key if plan.hooks.collate is None else rank_key
        if plan.padding is not None and not plan.padding.is_by_collate:
            self._key_of = plan.padding.key

    def warm_up(self, request: Request) -> Request:
        """Run a warm-up request through `preprocess` and, as a batch of its own, through `forward`.

        Returns:
            The request, preprocessed.

        Raises:
            Exception: what a hook raised.

        Sync:
            Host with stream.
        """
        self.runner.begin_call()
        prepared = self._preprocessor.run(request)
        self.runner.run([prepared])
        return prepared

    def trial(self, request: Request) -> Callable[[], bool]:
        """Run a request of the warm-up through `preprocess`, and return what runs it as a batch.

        That raises what a hook raised, and returns False if memory ran out. Sync: host with stream.
        """
        prepared = self._preprocessor.run(request)

        def run() -> bool:
            self.runner.begin_call()
            result = self.runner.attempt([prepared])
            if isinstance(result, Exception) and not is_out_of_memory(result):
                raise result
            return not isinstance(result, Exception)

        return run

    def run_alone(self, request: Request) -> dict[str, Output]:
        """Run a request through `preprocess` and, as a batch of its own, through `forward`.

        Returns:
            The outputs of the batch, valid until the next call; see `BatchRunner.run`.

        Raises:
            Exception: what a hook raised.

        Sync:
            Host with stream.
        """
        self.runner.begin_call()
        return self.runner.run([self._preprocessor.run(request)])

    def run(self, arrivals: Sequence[Request | Failure], error: Exception | None = None) -> list[Result]:
        """Answer every request of one call.

        Args:
            arrivals: the requests as read; a `Failure` for one that could not be read.
            error: what `forward` has raised for all of them as one batch; None if it hasn't run yet.

        Returns:
            One result per arrival, in the same order: contiguous tensors by name, computed, valid until the
            next call; or a failure.

        Sync:
            Host with stream, once per batch.
        """
        results = self.settle(self.queue(arrivals, error))
        self.runner.counters.add_errors(one.code for one in results if isinstance(one, Failure))
        return results

    def queue(self, arrivals: Sequence[Request | Failure], error: Exception | None = None) -> Ledger:
        """Run the hooks for every request of one call; for the arguments see `run`.

        Returns:
            The ledger of the call, for `settle`. In a flight of the staging, the outputs in it are there when
            that has landed.

        Sync:
            Host with stream, once per batch; not in a flight.
        """
        ledger = Ledger(arrivals, self._reporter)
        self.runner.begin_call()
        self._preprocess(ledger, arrivals)
        groups = self._groups(ledger)
        unanswered = [self._answer(ledger, positions, error) for positions in groups]
        # After all groups have run: only then is it known whether the model has answered any request.
        for positions, failed in zip(groups, unanswered, strict=True):
            num_failed = sum(len(part) for part, _ in failed)
            self._fail(ledger, failed, may_be_shape=num_failed == len(positions))
        return ledger

    def settle(self, ledger: Ledger) -> list[Result]:
        """Return one result per request of a call, when its outputs are there. Runs no hook.

        Raises:
            Exception: the device has failed.
        """
        # Outputs on the host have survived the device; those on the device can't be read any more.
        if self._health.fault is not None and self._settings.keeps_outputs:
            ledger.forget_answers()
        ledger.log()
        return ledger.results(self._splitter.split, self._splitter.join, self._missing)

    def _missing(self) -> Failure:
        """Return the failure of a request that was never run, because the device failed first."""
        return Failure(self._health.unavailable(), "UNAVAILABLE")

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call, in order."""
        if self._preprocessor.has_hooks:
            yield Stage(PREPROCESS, self._preprocessor, "run", lambda request: [request])
        yield Stage(BATCH, self.runner, "run", lambda requests, *_: requests)
        yield from self.runner.stages()
        yield Stage(SPLIT, self._splitter, "split")

    def _preprocess(self, ledger: Ledger, arrivals: Sequence[Request | Failure]) -> None:
        """Run `preprocess` and `row_cost` on each request; one for which they raise fails alone."""
        read = {position: one for position, one in enumerate(arrivals) if isinstance(one, Request)}
        if not self._preprocessor.has_hooks:
            ledger.requests = read
            return
        for position, request in read.items():
            if self._health.fault is not None:
                return
            try:
                ledger.requests[position] = self._preprocessor.run(request)
            except BaseException as error:
                if stops_test(error):
                    raise
                caught = self._health.caught(error)
                if self._reporter.refuses(caught):
                    ledger.refuse([position], self._reporter.refusal(caught))
                elif self._health.fault is None:
                    ledger.fail([position], caught, "preprocess")

    def _groups(self, ledger: Ledger) -> list[list[int]]:
        """Return the positions of requests and slices by batch."""
        groups, max_rows = self._shared(ledger.requests), self.runner.max_rows
        if max_rows is None:
            return groups
        return [batch for positions in groups for batch in micro_batches(ledger, positions, max_rows)]

    def _shared(self, requests: Mapping[int, Request]) -> list[list[int]]:
        """Return the positions of requests that share a batch; keys are computed only if they may differ."""
        if self._is_uniform:
            return [list(requests)] if requests else []
        groups = group(requests, self._key_of)
        if self._buckets is None:
            return groups
        return [batch for positions in groups for batch in self._buckets.divide(requests, positions)]

    def _answer(self, ledger: Ledger, positions: list[int], error: Exception | None = None) -> list[_Failed]:
        """Run one group; if `forward` raises, find the offending requests by halving.

        At most 2 log2(n) + 2 further forwards are spent on n requests, which suffices to find one offending
        request; a part that still fails when the budget is exhausted fails as a whole. So does the group if
        the instance has spent too much of its time on such searches. A batch that runs out of memory is
        halved down to single requests, regardless of either.

        Returns:
            The parts that failed, with what `forward` raised for them; empty after a device fault.
        """
        counters = self.runner.counters
        # Each halving costs two forwards, and log2(n) of them lead to a single request; 2 more for rounding.
        num_further = int(2 * math.log2(len(positions))) + 2
        pending = [positions]
        # Asked once: a search that has begun is finished.
        may_search: bool | None = None
        failed: list[_Failed] = []
        while pending and self._health.fault is None:
            # Breadth first: large parts that succeed are answered before the budget is spent on small ones.
            part = pending.pop(0)
            counters.retries += part is not positions
            requests = [ledger.requests[position] for position in part]
            # The caller's error was raised for the whole group, so it stands in for the first attempt only.
            started = time.monotonic()
            result = self._attempt(requests) if error is None else error
            error = None
            if may_search:
                self._isolation.spend(time.monotonic() - started)
            if not isinstance(result, Exception):
                ledger.answer(part, result)
                self._remember_shapes(requests)
                continue
            result = refuse_other_mask(result, sum(map(_num_rows, requests)))
            named = _named(ledger, part, result)
            unnamed = [position for position in part if position not in named]
            # RequestError(rows=...) spares the search: the others run again as one batch.
            if named:
                failed.append((named, result))
                rest = [unnamed] if unnamed else []
            else:
                rest = list(halve(part)) if len(part) > 1 and self._isolates(result) else []
            is_too_large = is_out_of_memory(result)
            # Memory that earlier batches still hold is not for want of room: all of it is tried again.
            if is_too_large and self.make_room():
                pending.insert(0, part)
                continue
            if rest and not (named or is_too_large):
                may_search = self._isolation.allows() if may_search is None else may_search
                if not may_search:
                    result, rest = UnsearchedError("forward", self._settings.max_isolation, result), []
            counters.out_of_memory += is_too_large and bool(rest)
            # Halving for memory is free: it ends at single requests, and no request is to blame.
            cost = 0 if is_too_large else len(rest)
            if rest and cost <= num_further:
                num_further -= cost
                pending += rest
            elif unnamed:
                failed.append((unnamed, _not_settled(result) if named else result))
        return failed if self._health.fault is None else []

    def _attempt(self, requests: list[Request]) -> dict[str, Output] | Exception:
        """Run a batch, and let the buckets learn from the time that it takes."""
        if self._buckets is None:
            return self.runner.attempt(requests)
        return self.runner.attempt(requests, functools.partial(self._buckets.note, requests))

    def _remember_shapes(self, requests: list[Request]) -> None:
        """Remember the shapes of requests that `forward` has answered, for `_where_shape_is_refused`."""
        if self._is_dynamic:
            if len(self._answered_shapes) > _MAX_SHAPES:
                self._answered_shapes.clear()
            # Grouped by shape_key, all requests of a batch have the shape of the first.
            differing = requests[:1] if self._key_of is shape_key else requests
            self._answered_shapes.update(map(shape_key, differing))

    def _fail(self, ledger: Ledger, failed: Sequence[_Failed], *, may_be_shape: bool) -> None:
        """Fail the parts of one group that `forward` raised for.

        If no request of the group was answered, one more forward finds out whether its shape is the cause.
        """
        # A RequestError says itself what is wrong with the request, so its shape needs no test.
        raised = [(part, error) for part, error in failed if not self._reporter.refuses(error)]
        request = ledger.requests[raised[0][0][0]] if raised and may_be_shape else None
        refused_at = None if request is None else self._where_shape_is_refused(request)
        for part, error in failed:
            if self._reporter.refuses(error):
                ledger.refuse(part, self._reporter.refusal(error))
            elif refused_at is not None and _where_raised(error) == refused_at:
                said = ledger.disclose(error)
                for position in part:
                    text = self._describe_shape(ledger.whole(position), said)
                    ledger.refuse([position], Failure(text, "INVALID_ARG"), cause=error)
            else:
                ledger.fail(part, error, "forward")

    def _where_shape_is_refused(self, request: Request) -> _Place | None:
        """Return where `forward` raises for zeros of the request's shape; None if the shape is not the cause.

        The shape is the cause only if the model has answered requests of other shapes, and never of this one;
        so a broken model is not reported as a client's mistake.
        """
        is_known = shape_key(request) in self._answered_shapes
        if not (self._is_dynamic and self.runner.has_answered) or is_known or self._health.fault:
            return None
        if not self._isolation.allows():
            return None
        # On the host: created on the device, outside its scope, they would be queued on another stream.
        zeros = {name: _zeros_of(one) for name, one in request.inputs.items()}
        started = time.monotonic()
        result = self.runner.attempt([request.with_inputs(zeros)])
        self._isolation.spend(time.monotonic() - started)
        if not isinstance(result, Exception) or self._health.fault:
            return None
        # These two have causes of their own: the model's outputs, and the device's memory.
        return None if isinstance(result, OutputError) or is_out_of_memory(result) else _where_raised(result)

    def _describe_shape(self, request: Request, said: str) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in request.inputs.items()}
        return message(
            f"model {self._spec.name!r} request {request.id!r}",
            expected="inputs of a shape that forward takes",
            got=f"{shapes} ({said})",
            remedy="send another shape: zeros of this one fail in the same way",
        )

    def _isolates(self, error: Exception) -> bool:
        # What `collate` got wrong is wrong in the parts too, or only hidden there.
        is_wanted = self._settings.isolate_errors and not isinstance(error, CollateError)
        return is_wanted or is_out_of_memory(error)


def _named(ledger: Ledger, part: Sequence[int], error: Exception) -> list[int]:
    """Return the positions of the requests whose rows the error names; empty if a row is not in the batch."""
    rows = rows_of(error)
    if not rows:
        return []
    # By row of the batch, the position of the request that the row belongs to.
    owners = [position for position in part for _ in range(_num_rows(ledger.requests[position]))]
    if not all(0 <= row < len(owners) for row in rows):
        return []
    named = {owners[row] for row in rows}
    return [position for position in part if position in named]


def _where_raised(error: Exception) -> _Place:
    """Return the class of an error, and the file and line of its innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error), frames[-1].filename if frames else "", (frames[-1].lineno or 0) if frames else 0


def _not_settled(error: Exception) -> Exception:
    """Return the error of requests that were not named, when the budget of forwards is exhausted."""
    return KindAwareError(
        message(
            "forward",
            expected="RequestError(rows=...) to name all guilty rows within 2 log2(n) + 2 further forwards",
            got=f"one more: {describe(error)}",
            remedy="name them all at once",
        )
    )


def _zeros_of(value: Rows) -> Rows:
    return value.map(host_zeros) if isinstance(value, RaggedRows) else host_zeros(value)


def _num_rows(request: Request) -> int:
    return 1 if request.rows is None else request.rows
