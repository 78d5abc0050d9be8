"""CUDA graphs of a function: one per configured batch size, captured at load, replayed with new inputs.

A graph always reads its inputs from, and writes its outputs to, the memory that it was captured with. So a
batch is copied into the graph's inputs, and its outputs are valid until the next forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._errors import KindAwareError, describe, message
from kindaware._tracebacks import release_frames

Parts = Mapping[str, Sequence[torch.Tensor]]
"""A batch before it is concatenated: by input, the requests' tensors, [b, ...] each."""

Compute = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
"""Computes a batch's outputs, by name, from its inputs on the device."""


class Fills(Protocol):
    """What writes a batch to the memory that a graph reads, such as the staging of the device."""

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Concatenate rows, [b, ...] each, into the target, and return it: queued on the current stream."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Graph:
    """One captured batch size.

    Attributes:
        inputs: the memory that it reads, [B, ...] each, where B is the captured batch size.
        outputs: the memory that it writes, [B, ...] each.
        replay: queues it on the stream that is current.
    """

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    replay: Callable[[], None]


class Graphs:
    """The CUDA graphs of an instance.

    Every method must be called inside the runtime's scope, with gradients disabled.

    Args:
        runtime: the runtime of the device.
        staging: copies a batch's rows into a graph's inputs.
        compute: the function to capture. It must do the same for every batch of a size: only its work on the
            device is replayed, none of its Python.

    Attributes:
        given_up: why no further capture is attempted; None as long as each may be.
    """

    def __init__(self, runtime: Runtime, staging: Fills, compute: Compute) -> None:
        self._runtime = runtime
        self._staging = staging
        self._compute = compute
        self._by_shape: dict[object, dict[int, _Graph | None]] = {}
        self.given_up: str | None = None

    def capture(self, parts: Parts, num_rows: int) -> str | None:
        """Capture a graph for batches of the size and shape of this one, which has been run before.

        The batch is first run once more with waits forbidden: this reveals most of what can't be captured,
        whereas a failed capture leaves torch's allocator damaged. If either fails for another reason than
        memory, no further capture is attempted.

        Returns:
            None on success; else why batches of this size run without a graph. A fault of the device shows
            at the next wait.

        Sync:
            Host with device.
        """
        sizes = self._by_shape.setdefault(_shape_of(parts), {})
        # A size whose capture fails keeps this None: it runs without a graph, and not with a larger one's.
        sizes[num_rows] = None
        if self.given_up is not None:
            return self.given_up
        try:
            sizes[num_rows] = self._record(parts, num_rows)
        except Exception as error:
            release_frames(error)
            if is_out_of_memory(error):
                self._runtime.release_memory()
            else:
                self.given_up = describe(error)
            return describe(error)
        return None

    def run(self, parts: Parts, num_rows: int | None) -> dict[str, torch.Tensor] | None:
        """Compute a batch with the graph of its size or the next larger one, padded with its last row.

        Returns:
            The first `num_rows` rows of the outputs, in memory that the next forward overwrites; None if no
            graph fits the batch.

        Sync:
            None: the work is queued on the current stream.
        """
        graph = self._find(parts, num_rows) if num_rows else None
        if graph is None or num_rows is None:
            return None
        for name, target in graph.inputs.items():
            self._staging.put(parts[name], target[:num_rows])
            # Overwritten, so that a batch's outputs never depend on the rows of an earlier batch.
            if num_rows != len(target):
                target[num_rows:] = target[num_rows - 1]
        graph.replay()
        return {name: output[:num_rows] for name, output in graph.outputs.items()}

    def _find(self, parts: Parts, num_rows: int) -> _Graph | None:
        """Return the graph of the smallest configured size that fits; None if that size has none."""
        if not self._by_shape:
            return None
        # A hook `collate` may change the number of rows; that is reported when the outputs are checked.
        if any(sum(map(len, tensors)) != num_rows for tensors in parts.values()):
            return None
        sizes = self._by_shape.get(_shape_of(parts), {})
        return sizes.get(min((size for size in sizes if size >= num_rows), default=0))

    def _record(self, parts: Parts, num_rows: int) -> _Graph:
        inputs = {
            name: self._staging.put(tensors, self._empty(tensors[0], num_rows))
            for name, tensors in parts.items()
        }
        with self._runtime.forbid_waits():
            self._check(self._compute(inputs), num_rows)
        outputs: dict[str, torch.Tensor] = {}
        raised: list[Exception] = []

        def work() -> None:
            try:
                outputs.update(self._compute(inputs))
            except Exception as error:
                raised.append(error)
                raise

        try:
            replay = self._runtime.capture(work)
        except Exception as error:
            # A failed capture ends with an error of its own, which hides what `work` raised.
            raise raised[0] if raised else error from None
        return _Graph(inputs, outputs, replay)

    def _empty(self, like: torch.Tensor, num_rows: int) -> torch.Tensor:
        return torch.empty((num_rows, *like.shape[1:]), dtype=like.dtype, device=self._runtime.device)

    def _check(self, outputs: Mapping[str, torch.Tensor], num_rows: int) -> None:
        for name, output in outputs.items():
            if not isinstance(output, torch.Tensor):
                raise KindAwareError(
                    message(
                        f"forward output {name!r}",
                        expected="one tensor for the whole batch, which a graph can write again",
                        got=f"a {type(output).__name__}",
                        remedy="make one value per request in postprocess",
                    )
                )
            if output.device != self._runtime.device or output.shape[:1] != (num_rows,):
                raise KindAwareError(
                    message(
                        f"forward output {name!r}",
                        expected=f"{num_rows} rows on {self._runtime.device}",
                        got=f"shape {list(output.shape)} on {output.device}",
                        remedy="compute it there in forward, and anything else in postprocess",
                    )
                )


def _shape_of(parts: Parts) -> object:
    """Return the key of batches that one graph can serve: names, dtypes and row shapes."""
    return frozenset((name, tensors[0].dtype, tensors[0].shape[1:]) for name, tensors in parts.items())
