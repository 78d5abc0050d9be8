"""The warm-up: forwards that an instance runs before it is ready, so that no client pays for the first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from kindaware._batch.graph_plan import graph_sizes
from kindaware._batch.outputs import NO_BATCH_DIMENSION
from kindaware._batch.request import Request
from kindaware._batch.row_limit import Measured, largest_batch, measure_row_limit
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import Settings
from kindaware._errors import (
    CallTooEarlyError,
    ConfigError,
    OutputError,
    RequestError,
    describe,
    message,
    text_of,
)
from kindaware._hooks.blame import hook_of, report
from kindaware._hooks.interruption import stops_test
from kindaware._placement.placement import Placement
from kindaware._tensors.bytes_arrays import Value, empty_bytes
from kindaware._tensors.dtypes import triton_name
from kindaware._tracebacks import ungrouped

T = TypeVar("T")

TIMED_ROWS = 8
"""Rows of a batch whose time is measured, beside a single row: about what a busy server puts together."""

MakeInputs = Callable[[int], Mapping[str, Value]]

_MISSES_DIMENSION = re.compile(
    r"\b\d-?D\b|\bdimensions?\b|too many indices|not enough values to unpack|must be a matrix", re.IGNORECASE
)
"""Of errors, mostly torch's, for a tensor that has fewer dimensions than the model takes."""

Answer = Callable[[Request, int], Request]
"""Runs a request through `preprocess` and `forward`, to the first item of `stream`, or through one step of so
many streams; returns the preprocessed request."""

RecordGraphs = Callable[[Sequence[Request]], Sequence[int]]
"""Records CUDA graphs for the batch sizes of answered requests; returns the sizes that have one."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WarmUp:
    """The batches to run before an instance is ready.

    Attributes:
        spec: spec of the model.
        sizes: batch sizes, in rows; a model that does not batch runs once if there is any. With `step`,
            numbers of streams, each of a request with one row.
        graph_sizes: those of `sizes` that get a CUDA graph. With `step`, the numbers of rows for which its
            graphed methods get one.
        make_inputs: the hook `warmup_inputs`; None for zeros.
        reason: why nothing is run, for the log; empty if something is.
        counts_streams: whether the sizes are numbers of streams.
    """

    spec: ModelSpec
    sizes: tuple[int, ...]
    graph_sizes: tuple[int, ...]
    make_inputs: MakeInputs | None
    reason: str
    counts_streams: bool = False

    @classmethod
    def plan(
        cls,
        spec: ModelSpec,
        settings: Settings,
        placement: Placement,
        make_inputs: MakeInputs | None,
        *,
        has_step: bool = False,
        begins_together: bool = False,
    ) -> WarmUp:
        """Choose the batch sizes: those of the setting, else 1 and, on a GPU, the preferred batch sizes.

        With `compile` also 2: torch compiles once for a size of 1, and once more, for all other sizes, when
        the first of them arrives; no client should wait for that. Sizes that get a CUDA graph are always run,
        since a capture relies on what a first run initialises.
        Source: torch, "Dynamic shapes" in the documentation of torch.compile (0/1 specialization).

        Raises:
            ConfigError: a size of the setting exceeds what one forward gets, or with `step` `max_streams`;
                or the model doesn't support CUDA graphs of the requested sizes.
        """
        most, limit = (settings.max_streams, "max_streams") if has_step else largest_batch(spec, settings)
        sizes = settings.warmup
        if sizes is None:
            sizes = _default_sizes(spec, settings, placement, 2 if has_step else most)
            if begins_together:
                # Two streams, the fewest for which `begin_batch` is called.
                sizes = (1, *(2,) * (most > 1))
        largest = max(sizes, default=0)
        if largest > most and (has_step or spec.batches):
            raise ConfigError.of(
                f"model {spec.name!r} setting 'warmup'",
                expected=f"{'numbers of streams' if has_step else 'batch sizes'} up to {limit} {most}",
                got=str(largest),
                remedy=f"correct warmup or {limit}",
            )
        dynamic = [tensor.name for tensor in spec.inputs if tensor.is_dynamic and not tensor.optional]
        if dynamic and make_inputs is None and settings.cuda_graphs:
            raise ConfigError.of(
                f"model {spec.name!r} setting 'cuda_graphs'",
                expected="inputs to capture with",
                got=f"input {dynamic[0]!r} with a dimension of -1, and no warmup_inputs",
                remedy="define warmup_inputs(rows), or set cuda_graphs to 'off'",
            )
        graphs = graph_sizes(spec, settings, placement, has_step=has_step)
        if has_step:
            # One step is enough to see what a graphed method gets.
            sizes = sizes or (1,) * bool(graphs)
        else:
            # After the others, so that the sizes of the setting run in its order.
            sizes = (*sizes, *(size for size in graphs if size not in sizes))
        if not sizes:
            return cls(spec, (), (), make_inputs, "off")
        if dynamic and make_inputs is None:
            reason = f"skipped (input {dynamic[0]} has a dimension of -1; define warmup_inputs(rows))"
            return cls(spec, (), (), None, reason)
        return cls(spec, sizes, graphs, make_inputs, "", has_step)

    def requests_to_time(self, sizes: Sequence[int], *, is_dynamic: bool) -> dict[int, Request]:
        """Return requests to measure the time of a forward with, each a batch.

        Args:
            sizes: the setting `warmup`; empty if unset.
            is_dynamic: whether the server puts requests together.

        Returns:
            Requests by the number of requests of one row that they stand for: those of the setting, else a
            single one and a batch as on a busy server. Ascending.
        """
        if not self.spec.batches:
            return {1: self.request(None)}
        busy = min(TIMED_ROWS, self.spec.max_batch_size) if is_dynamic else 1
        return {rows: self.request(rows) for rows in sorted(set(sizes or (1, busy)))}

    def run(self, answer: Answer, record_graphs: RecordGraphs) -> str:
        """Run the batches, then record the graphs; return a phrase for the log.

        A model that refuses zeros with a `RequestError` works as intended; its warm-up is skipped.

        Args:
            answer: runs a request through the hooks.
            record_graphs: records graphs for requests that were answered.

        Raises:
            ConfigError: a hook raised, or returned something that the configuration doesn't declare.
        """
        return self._run(answer, record_graphs) if self.sizes else f"warm-up {self.reason}"

    def _run(self, answer: Answer, record_graphs: RecordGraphs) -> str:
        started = time.monotonic()
        has_sizes = self.spec.batches or self.counts_streams
        answered = {}
        for size in self.sizes if has_sizes else (1,):
            rows = None if not self.spec.batches else 1 if self.counts_streams else size
            try:
                answered[size] = answer(self.request(rows), size)
            except BaseException as raised:
                if stops_test(raised):
                    raise
                graphs = ", no CUDA graph" if self.graph_sizes else ""
                error = ungrouped(raised)
                if isinstance(error, RequestError) and self.make_inputs is None:
                    said = text_of(error)
                    return f"warm-up skipped (zeros are refused: {said}; define warmup_inputs(rows)){graphs}"
                # The models that it calls may not be loaded yet, so none can be called before it is ready.
                if isinstance(error, CallTooEarlyError):
                    hook = hook_of(error, self.spec.hook)
                    return f"warm-up skipped ({hook} calls another model){graphs}"
                raise ConfigError(self._describe(error, size)) from raised
        graphs = ""
        if self.graph_sizes:
            recorded = record_graphs(
                list(answered.values())
                if self.counts_streams
                else [answered[size] for size in self.graph_sizes]
            )
            named = ", ".join(map(str, recorded))
            of = "rows of a step" if self.counts_streams else "batch sizes"
            graphs = f", CUDA graphs for {of} {named}" if recorded else ", no CUDA graph"
        named = ", ".join(map(str, self.sizes)) if has_sizes else "none"
        what = "numbers of streams" if self.counts_streams else "batch sizes"
        return f"warm-up {time.monotonic() - started:.2f} s ({what} {named}){graphs}"

    def measure_rows(self, prepare: Callable[[Request], Callable[[], bool]]) -> Measured:
        """Measure how many rows a forward should get; see `measure_row_limit`.

        Args:
            prepare: runs a request through `preprocess`, and returns what runs it as a batch.

        Raises:
            ConfigError: a hook raised, or returned something that the configuration doesn't declare.
        """

        def prepare_rows(rows: int) -> Callable[[], bool]:
            run = self._described(lambda: prepare(Request("warm-up", self._inputs(rows), rows)), rows)
            return lambda: self._described(run, rows)

        return measure_row_limit(prepare_rows, self.spec.max_batch_size)

    def _described(self, work: Callable[[], T], rows: int) -> T:
        """Return what some work for a batch of so many rows returned, or raise an error that describes it."""
        try:
            return work()
        except BaseException as error:
            if stops_test(error):
                raise
            raise ConfigError(self._describe(ungrouped(error), rows)) from error

    def _describe(self, error: BaseException, size: int) -> str:
        """Return the text of a model that failed in its warm-up: first where in the user's code."""
        what = f"{size} {'stream' if self.counts_streams else 'row'}(s)"
        if isinstance(error, OutputError):
            return f"{text_of(error)} (seen in the warm-up with {what})"
        hook = hook_of(error, self.spec.hook)
        remedy = f"correct {hook}"
        if isinstance(error, AttributeError) and error.name == "model":
            remedy = "return the module from load(), which keeps it as self.model"
        elif not self.spec.batches and _MISSES_DIMENSION.search(text_of(error)):
            remedy = f"{NO_BATCH_DIMENSION}; or {remedy}"
        elif self.make_inputs is None:
            remedy += ", or define warmup_inputs(rows) with data that it takes"
        text = message(
            f"model {self.spec.name!r} warm-up with {what}",
            expected=f"{hook} to answer "
            + ("zeros" if self.make_inputs is None else "what warmup_inputs made"),
            got=describe(error),
            remedy=remedy,
        )
        return f"{report(error)}\n{text}"

    def request(self, rows: int | None) -> Request:
        """Return a request of so many rows; None for a model that doesn't batch.

        Raises:
            OutputError: `warmup_inputs` returned what no client could send.
        """
        return Request("warm-up", self._inputs(rows), rows)

    def _inputs(self, rows: int | None) -> Mapping[str, Value]:
        if self.make_inputs is not None:
            return self._check(self.make_inputs(rows or 1), rows or 1)
        batch = () if rows is None else (rows,)
        return {
            tensor.name: _zeros((*batch, *tensor.shape), tensor)
            for tensor in self.spec.inputs
            if not tensor.optional
        }

    def _check(self, made: object, rows: int) -> Mapping[str, Value]:
        names = {tensor.name for tensor in self.spec.inputs}
        required = {tensor.name for tensor in self.spec.inputs if not tensor.optional}
        if not (isinstance(made, Mapping) and required <= set(made) <= names):
            expected = f"a mapping of {sorted(names)} to host tensors"
            got = f"names {sorted(map(str, made))}" if isinstance(made, Mapping) else type(made).__name__
            raise self._error(rows, "", expected, got)
        for tensor in self.spec.inputs:
            if tensor.name in made:
                self._check_value(tensor, made[tensor.name], rows)
        return made

    def _check_value(self, tensor: TensorSpec, value: Any, rows: int) -> None:
        """Refuse what no request of a client could hold: `forward` would be blamed for it."""
        what, wanted = f" input {tensor.name!r}", tensor.dtype.torch
        if not isinstance(value, np.ndarray if wanted is None else torch.Tensor):
            expected = "a numpy array of dtype object" if wanted is None else "a torch.Tensor"
            raise self._error(rows, what, expected, type(value).__name__)
        if isinstance(value, torch.Tensor):
            if value.dtype is not wanted:
                raise self._error(rows, what, f"data type {tensor.dtype}", triton_name(value.dtype))
        elif value.dtype != object or not all(isinstance(one, bytes) for one in value.flat):
            kinds = sorted({type(one).__name__ for one in value.flat})
            expected = "an array of dtype object with elements of type bytes"
            raise self._error(rows, what, expected, f"dtype {value.dtype} with {kinds}")
        shape = tuple(value.shape)
        batch: tuple[int, ...] = (rows,) if self.spec.batches else ()
        if shape[: len(batch)] != batch or not tensor.fits(shape[len(batch) :]):
            raise self._error(rows, what, f"shape {[*batch, *tensor.shape]}", f"shape {[*shape]}")

    def _error(self, rows: int, what: str, expected: str, got: str) -> OutputError:
        subject = f"model {self.spec.name!r} warmup_inputs({rows}){what}"
        remedy = "return the inputs of one batch by name, as a client would send them"
        return OutputError(message(subject, expected=expected, got=got, remedy=remedy))


def _zeros(shape: tuple[int, ...], tensor: TensorSpec) -> Value:
    dtype = tensor.dtype.torch
    return empty_bytes(shape) if dtype is None else torch.zeros(shape, dtype=dtype)


def _default_sizes(spec: ModelSpec, settings: Settings, placement: Placement, most: int) -> tuple[int, ...]:
    sizes = {1}
    # On a GPU the first run of each size is slow, since libraries choose and load kernels by size.
    if placement.uses_cuda and not spec.decoupled:
        sizes.update(min(size, most) for size in spec.preferred_batch_sizes)
    if settings.compile != "off" and most:
        sizes.add(min(2, most))
    return tuple(sorted(sizes))
