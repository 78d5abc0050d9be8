"""`StepGraphs`: CUDA graphs of the methods that `step` calls and that the class marks with `graphed`."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from kindaware._batch.plan import Plan
from kindaware._device.cuda_graphs import Graphs
from kindaware._device.device import Device
from kindaware._device.modules import gradients_off
from kindaware._device.runtime import is_out_of_memory
from kindaware._errors import OutputError, describe, message
from kindaware._hooks.graphed import Graphed
from kindaware._tracebacks import release_frames

Inputs = Mapping[str, torch.Tensor]
"""The arguments of a call by parameter, [rows, ...] each."""


class _ToGraph:
    """Copies the arguments of a call to the memory that a graph reads: they are on the device already."""

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Queue the copy on the current stream."""
        (tensor,) = tensors
        return target.copy_(tensor)


class _Own(threading.local):
    """What holds for one thread: whether it is inside a graphed method, whose graph has all that it calls."""

    is_inside = False


class StepGraphs:
    """The graphed methods of a model with `step`: they are captured after the warm-up, and then replayed.

    Args:
        plan: plan of the instance.
        device: device of the instance.
    """

    def __init__(self, plan: Plan, device: Device) -> None:
        self._plan = plan
        self._device = device
        # Largest first: all graphs share one memory pool, in which the smaller ones then fit.
        self._sizes = () if device.runtime.is_host else plan.settings.cuda_graphs[::-1]
        self._own = _Own()
        self._examples: dict[object, tuple[_Method, Inputs]] = {}
        self._is_noting = False
        self._methods: dict[Graphed, _Method] = {}
        self._thread: int | None = None

    def call(self, mark: Graphed, bound: inspect.BoundArguments) -> Any:
        """Call a graphed method, or replay a graph of it.

        Args:
            mark: the method.
            bound: its arguments, self among them.

        Raises:
            OutputError: an argument, or what it returned, is not a tensor with a row per row of the call.
            Exception: what the method raised.

        Sync:
            None: the work is queued on the current stream.
        """
        if self._own.is_inside:
            return mark.function(*bound.args, **bound.kwargs)
        inputs, num_rows = self._inputs(mark, bound)
        method = self._methods.get(mark)
        # Another thread may be on another stream, on which the memory of a graph is in use.
        if method is not None and self._thread == threading.get_ident():
            outputs = method.replay(inputs, num_rows)
            if outputs is not None:
                return outputs
        leaves, structure = self.run(mark, bound.arguments, num_rows)
        if self._is_noting and num_rows:
            self._note(mark, bound, inputs)
        return pytree.tree_unflatten(leaves, structure)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note the first calls of each method inside the context, to capture them."""
        self._is_noting = bool(self._sizes)
        try:
            yield
        except BaseException:
            # Nothing will be captured.
            self._examples.clear()
            raise
        finally:
            self._is_noting = False

    def record(self, expected: Sequence[Graphed]) -> list[int]:
        """Capture a graph of each size for all calls that have been noted, and replay it once.

        Called on the thread of the hooks, when the warm-up has run. If a capture fails for another reason
        than memory, no further one is attempted: it may have damaged torch's allocator.

        Args:
            expected: the methods that the class marks; a warning names those that have not been called.

        Returns:
            The sizes for which there is a graph, in rows, ascending.

        Sync:
            Host with device.
        """
        self._thread = threading.get_ident()
        examples, self._examples = list(self._examples.values()), {}
        called = {method.mark for method, _ in examples}
        for mark in expected:
            if mark not in called:
                self._warn(f"method {mark.name}", "a call by step in the warm-up", "none")
        recorded: set[int] = set()
        with self._device.batch():
            given_up: str | None = None
            for method, inputs in examples:
                refused: dict[str, list[int]] = {}
                for size in self._sizes:
                    reason = given_up or method.capture(inputs, size)
                    given_up = given_up or method.given_up
                    if reason is None:
                        recorded.add(size)
                    else:
                        refused.setdefault(reason, []).append(size)
                for reason, sizes in refused.items():
                    named = ", ".join(map(str, sorted(sizes)))
                    self._warn(f"{method.mark.name} with {named} row(s)", "to be captured", reason)
        return sorted(recorded)

    def run(
        self, mark: Graphed, arguments: Mapping[str, Any], num_rows: int
    ) -> tuple[list[torch.Tensor], pytree.TreeSpec]:
        """Run a method itself; return its tensors, [rows, ...] each, and what they are in.

        Raises:
            OutputError: it returned something else.
            Exception: what it raised.
        """
        bound = inspect.BoundArguments(mark.signature, OrderedDict(arguments))
        self._own.is_inside = True
        try:
            returned = mark.function(*bound.args, **bound.kwargs)
        finally:
            self._own.is_inside = False
        leaves, structure = pytree.tree_flatten(returned)
        for leaf in leaves:
            self._check(f"result of {mark.name}", leaf, num_rows)
        return leaves, structure

    def _inputs(self, mark: Graphed, bound: inspect.BoundArguments) -> tuple[Inputs, int]:
        """Return the arguments without self, and their number of rows."""
        _, *parameters = bound.arguments.items()
        first = parameters[0][1] if parameters else None
        num_rows = len(first) if isinstance(first, torch.Tensor) and first.ndim else None
        for name, value in parameters or [("arguments", None)]:
            self._check(f"{mark.name} {name}", value, num_rows)
        return dict(parameters), num_rows or 0

    def _check(self, subject: str, value: object, num_rows: int | None) -> None:
        device = self._device.runtime.device
        if isinstance(value, torch.Tensor) and value.shape[:1] == (num_rows,) and value.device == device:
            return
        rows = "rows" if num_rows is None else f"{num_rows} rows, as those of the first argument,"
        got = type(value).__name__
        if isinstance(value, torch.Tensor):
            got = f"shape {list(value.shape)} on {value.device}"
        raise OutputError(
            message(
                f"model {self._plan.spec.name!r} {subject}",
                expected=f"a tensor with {rows} on {device}",
                got=got,
                remedy="give a graphed method nothing but such tensors, and return nothing else from it",
            )
        )

    def _note(self, mark: Graphed, bound: inspect.BoundArguments, inputs: Inputs) -> None:
        if mark not in self._methods:
            owner = next(iter(bound.arguments.items()))
            self._methods[mark] = _Method(mark, owner, self, self._plan, self._device)
        shapes = frozenset((name, one.dtype, one.shape[1:]) for name, one in inputs.items())
        # A copy of what the step may overwrite.
        example = {name: one.clone() for name, one in inputs.items()}
        self._examples.setdefault((mark, shapes), (self._methods[mark], example))

    def _warn(self, subject: str, expected: str, got: str) -> None:
        text = message(
            f"model {self._plan.spec.name!r} cuda_graphs of {subject}",
            expected=expected,
            got=got,
            remedy="it runs without a graph; change it, or set cuda_graphs to 'off'",
        )
        self._plan.logger.warning("%s", text)


class _Method:
    """The graphs of one method.

    Args:
        mark: the method.
        owner: name and value of its parameter self.
        runner: runs the method itself.
        plan: plan of the instance.
        device: device of the instance.

    Attributes:
        mark: the method.
    """

    def __init__(
        self, mark: Graphed, owner: tuple[str, Any], runner: StepGraphs, plan: Plan, device: Device
    ) -> None:
        self.mark = mark
        self._owner = owner
        self._runner = runner
        self._plan = plan
        self._device = device
        self._structure: pytree.TreeSpec | None = None
        self._graphs = Graphs(device.runtime, _ToGraph(), self._compute)

    @property
    def given_up(self) -> str | None:
        """Why no further capture should be attempted; None if one may."""
        return self._graphs.given_up

    def replay(self, inputs: Inputs, num_rows: int) -> Any:
        """Replay the graph that fits, and return copies of what it has computed; None if there is none."""
        outputs = self._graphs.run({name: [one] for name, one in inputs.items()}, num_rows)
        if outputs is None:
            return None
        assert self._structure is not None  # of a capture
        # The next replay overwrites them, and a state or an item may keep them.
        return pytree.tree_unflatten([one.clone() for one in outputs.values()], self._structure)

    def capture(self, example: Inputs, num_rows: int) -> str | None:
        """Capture a graph for so many rows; return None, or why there is none.

        The rows are those of the example, as many as are needed, and then copies of the last. The method is
        first run with them: a capture relies on what a first run initialises. A fault of the device shows at
        the next wait.
        """
        inputs = {name: _with_rows(one, num_rows) for name, one in example.items()}
        try:
            self._compute(inputs)
        except Exception as error:
            release_frames(error)
            if is_out_of_memory(error):
                self._device.runtime.release_memory()
            return describe(error)
        parts = {name: [one] for name, one in inputs.items()}
        reason = self._graphs.capture(parts, num_rows)
        # Once now, which uploads it, if there is one.
        self._graphs.run(parts, num_rows)
        return reason

    def _compute(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        # Its own scopes: what autocast has converted in the scope of the step is freed with that, and a graph
        # would read it for ever; and memory that is made in inference mode can't be written to outside of it.
        plan = self._plan
        with gradients_off(plan.settings), plan.precision.scope(self._device.runtime.device):
            num_rows = len(next(iter(inputs.values())))
            leaves, structure = self._runner.run(self.mark, dict([self._owner, *inputs.items()]), num_rows)
        if self._structure not in (None, structure):
            raise OutputError(
                message(
                    f"model {self._plan.spec.name!r} result of {self.mark.name}",
                    expected=f"the structure {self._structure} for all sizes",
                    got=str(structure),
                    remedy="return the same number of tensors from each call",
                )
            )
        self._structure = structure
        return {str(place): leaf for place, leaf in enumerate(leaves)}


def _with_rows(tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return the first rows of a tensor, the last of them repeated if there are too few."""
    rows = torch.arange(num_rows, device=tensor.device).clamp(max=len(tensor) - 1)
    return tensor[rows]
