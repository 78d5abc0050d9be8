"""The setting `optimize`: memory format, precision, compilation and threads are tried, and the fastest kept.

Each is timed in turns with the settings as they are, so that a busy machine slows both. Not the whole grid is
tried: for each precision the memory format is chosen without compilation, where it matters most, and then
compiled with frozen weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from kindaware._batch.request import Request
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import FROZEN, Settings
from kindaware._device.module_state import ModuleState
from kindaware._device.modules import compile_modules, convert_modules, modules_of, stop_compiling
from kindaware._errors import describe
from kindaware._hooks.interruption import stops_test
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import Output
from kindaware._tuning.quiet import measure_in_quiet
from kindaware._tuning.relative_error import relative_error
from kindaware._tuning.rounds import shortest_times
from kindaware._tuning.threads import measure_threads

LEAST_GAIN = 1.05
"""What gains less is not worth a change."""

ROUNDING = 1e-3
"""Largest error that another order of the same operations in FP32 may make."""

_SECONDS = 20.0
_NUM_ROUNDS = 5
_MAX_COMPILED = 3
"""Numbers of threads that modules are compiled for: torch gives up after eight compilations of a function."""

T = TypeVar("T")

Changes = dict[str, Any]
"""Settings, and other values of them."""

Run = Callable[[Request], Mapping[str, Output]]
"""Runs a batch with all hooks, and returns its outputs."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was found to be fastest.

    Attributes:
        changes: of the settings; empty if nothing is faster than these.
        num_threads: torch's threads.
        report: what was tried, for the log.
        was_quiet: whether the cores were free meanwhile, so that the choice is worth keeping.
    """

    changes: Changes
    num_threads: int
    report: str
    was_quiet: bool = True

    def __str__(self) -> str:
        """Return the choice and what was tried, for the log."""
        chosen = _text(self.changes) or "nothing is faster"
        return f"{chosen}, threads {self.num_threads}; tried {self.report}"


class Optimizer:
    """Tries settings on the modules of a loaded model, which it leaves as they were.

    Args:
        owner: the user's object, with its modules prepared as the settings say.
        settings: the settings in effect; those that differ from their defaults are not tried.
        requests: batches to run, by their number of requests; the hook `warmup_inputs` made them, or zeros.
        has_examples: whether the hook made them.
        make_run: returns what runs a batch with other settings.
        set_threads: sets torch's number of threads.
    """

    def __init__(
        self,
        owner: object,
        settings: Settings,
        requests: Mapping[int, Request],
        *,
        has_examples: bool,
        make_run: Callable[[Settings], Run],
        set_threads: Callable[[int], object],
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._requests = requests
        self._has_examples = has_examples
        self._make_run = make_run
        self._set_threads = set_threads
        self._was_quiet = True
        self._tried: list[str] = []

    def choose(self, spec: ModelSpec, counts: Sequence[int]) -> Choice:
        """Try everything, and return what is fastest.

        Args:
            spec: of the model.
            counts: numbers of threads to try, descending; the first is the number of the instance's cores.

        Raises:
            Exception: what a hook raises with the settings as they are.
        """
        self._num_cores = counts[0]
        self._set_threads(self._num_cores)
        self._plain = self._state()
        self._plain_run = self._make_run(self._settings)
        self._expected = self._outputs(self._plain_run)
        try:
            changes = self._choose_changes(spec)
            num_threads = self._choose_threads(changes, counts) if len(counts) > 1 else counts[0]
        finally:
            self._leave()
        return Choice(changes, num_threads, "; ".join(self._tried), self._was_quiet)

    def _choose_changes(self, spec: ModelSpec) -> Changes:
        gains: list[tuple[float, Changes]] = [(LEAST_GAIN, {})]
        for precision in precisions_to_try(self._settings, has_examples=self._has_examples):
            layouts = layouts_to_try(spec, self._settings, precision)
            plain = [(self._gain(changes), changes) for changes in layouts]
            gains += plain
            gain, changes = max(plain, key=lambda one: one[0])
            # A precision that is too coarse stays so.
            if gain and "compile" not in self._settings.changed():
                compiled = {**changes, "compile": FROZEN}
                gains.append((self._gain(compiled), compiled))
        return max(gains, key=lambda one: one[0])[1]

    def _gain(self, changes: Changes) -> float:
        """Return how many times as fast batches are with the changes; 0 if these are out of the question."""
        if not changes:
            return 1.0
        try:
            gain, said = self._try(changes)
        except BaseException as error:
            if stops_test(error):
                raise
            gain, said = 0.0, describe(error).splitlines()[0]
        finally:
            self._leave()
        self._tried.append(f"{_text(changes)}: {said}")
        return gain

    def _try(self, changes: Changes) -> tuple[float, str]:
        run = self._enter(changes)
        limit = ROUNDING if "precision" not in changes else max(ROUNDING, self._settings.tolerance or 0.0)
        # The first run, which compiles.
        error = max(_error(found, self._expected[size]) for size, found in self._outputs(run).items())
        if not error <= limit:
            return 0.0, f"error {error:.2g} above {limit:g}"
        states = {"plain": self._plain, "changed": self._state()}
        runs = {"plain": self._plain_run, "changed": run}
        times = self._in_quiet(lambda: _times(states, runs, self._requests))
        if len(times) < len(runs) * len(self._requests):
            return 0.0, "too slow to compare"
        ratios = [times["plain", size] / times["changed", size] for size in self._requests]
        gain = math.prod(ratios) ** (1 / len(ratios))
        return gain, f"{gain:.2f} times as fast"

    def _choose_threads(self, changes: Changes, counts: Sequence[int]) -> int:
        run = self._enter(changes)
        if "compile" in changes:
            counts = counts[:_MAX_COMPILED]
            # torch compiles for each number of threads; no measurement waits for that.
            for count in counts:
                self._set_threads(count)
                self._outputs(run)
        forwards = {size: partial(run, one) for size, one in self._requests.items()}
        times = self._in_quiet(lambda: measure_threads(counts, forwards, self._set_threads))
        self._tried.append(f"threads: {times}")
        return times.fewest

    def _in_quiet(self, measure: Callable[[], T]) -> T:
        measured, num_free = measure_in_quiet(lambda _: measure(), self._num_cores)
        self._was_quiet &= num_free == self._num_cores
        return measured

    def _enter(self, changes: Changes) -> Run:
        settings = replace(self._settings, **changes)
        convert_modules(self._owner, settings)
        if "compile" in changes:
            compile_modules(self._owner, settings)
        return self._make_run(settings)

    def _state(self) -> ModuleState:
        return ModuleState(module for _, module in modules_of(self._owner))

    def _leave(self) -> None:
        self._plain.enter()
        stop_compiling()

    def _outputs(self, run: Run) -> dict[int, Mapping[str, list[np.ndarray[Any, Any]]]]:
        return {
            size: {name: _arrays(output) for name, output in run(request).items()}
            for size, request in self._requests.items()
        }


def precisions_to_try(settings: Settings, *, has_examples: bool) -> list[str | None]:
    """Return the precisions to try; None for the one that is set."""
    is_allowed = settings.tolerance is not None and has_examples and "precision" not in settings.changed()
    has_instructions = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return [None, "bf16-true"] if is_allowed and has_instructions else [None]


def layouts_to_try(spec: ModelSpec, settings: Settings, precision: str | None) -> list[Changes]:
    """Return the changes to try of modules that are not compiled, in one precision."""
    changes = {} if precision is None else {"precision": precision}
    has_images = any(len(tensor.shape) + spec.batches == 4 for tensor in spec.inputs)
    if not has_images or "memory_format" in settings.changed():
        return [changes]
    return [changes, {**changes, "memory_format": "channels_last"}]


def _times(
    states: Mapping[str, ModuleState], runs: Mapping[str, Run], requests: Mapping[int, Request]
) -> dict[tuple[str, int], float]:
    """Return the shortest time of each batch in each state."""
    return shortest_times(
        {(name, size): partial(run, one) for name, run in runs.items() for size, one in requests.items()},
        num_rounds=_NUM_ROUNDS,
        deadline=time.perf_counter() + _SECONDS,
        enter=lambda name: states[name[0]].enter(),
    )


def _text(changes: Changes) -> str:
    return " ".join(f"{name}={value}" for name, value in changes.items())


def _arrays(output: Output) -> list[np.ndarray[Any, Any]]:
    values = output if isinstance(output, list) else [output]
    return [_array(one) for one in values]


def _array(value: Value) -> np.ndarray[Any, Any]:
    """Return a copy, since the memory of a batch is used again; numpy has no bfloat16."""
    if isinstance(value, torch.Tensor):
        return np.array((value.float() if value.is_floating_point() else value).numpy())
    return np.array(value)


def _error(
    found: Mapping[str, list[np.ndarray[Any, Any]]], expected: Mapping[str, list[np.ndarray[Any, Any]]]
) -> float:
    """Return the largest error of any output; infinity if shapes differ, or values that are no numbers."""
    largest = 0.0
    for name, arrays in expected.items():
        for ours, theirs in zip(found[name], arrays, strict=True):
            if ours.shape != theirs.shape:
                return math.inf
            if theirs.dtype.kind == "f":
                largest = max(largest, relative_error(ours, theirs))
            elif not np.array_equal(ours, theirs):
                return math.inf
    return largest
