"""CUDA graphs of `forward`: one per listed batch size, recorded at load, replayed with new inputs.

A graph reads its inputs where they lay when it was recorded, and leaves its outputs in one place. So a batch
is copied into the graph's inputs, and its outputs are good until the next forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._device.staging import Staging
from kindaware._errors import KindAwareError, describe, message, release_frames

Parts = Mapping[str, Sequence[torch.Tensor]]
"""What a batch consists of: by input, the requests' tensors, [b, ...] each."""

Compute = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
"""From a batch's inputs on the device to its outputs by name."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """One recorded forward: the memory it reads, the memory it writes, and what queues it."""

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    replay: Callable[[], None]


class Graphs:
    """The graphs of an instance.

    Every method is called inside the runtime's scope, without gradients.

    Args:
        runtime: the device.
        staging: brings a batch's rows into a graph's inputs.
        compute: what is recorded. It must do the same for every batch of a size: only its work on the device
            is replayed, and none of its Python.
    """

    def __init__(self, runtime: Runtime, staging: Staging, compute: Compute) -> None:
        self._runtime = runtime
        self._staging = staging
        self._compute = compute
        self._by_shape: dict[object, dict[int, _Graph | None]] = {}
        self._given_up: str | None = None

    def capture(self, parts: Parts, num_rows: int) -> str | None:
        """Record a graph for batches of the size and shape of this one, which has been run before.

        It is run once more, with waits forbidden: most of what a capture can't record shows there, and a
        capture that is spoilt leaves torch's allocator in a lesser state. When either fails, no other is
        tried, unless it was for memory.

        Returns:
            None; or why batches of the size run without a graph. Whether the device has survived shows with
            the next wait.

        Sync:
            Host with device.
        """
        sizes = self._by_shape.setdefault(_shape_of(parts), {})
        sizes[num_rows] = None
        if self._given_up is not None:
            return self._given_up
        try:
            sizes[num_rows] = self._record(parts, num_rows)
        except Exception as error:
            release_frames(error)
            if is_out_of_memory(error):
                self._runtime.release_memory()
            else:
                self._given_up = describe(error)
            return describe(error)
        return None

    def run(self, parts: Parts, num_rows: int | None) -> dict[str, torch.Tensor] | None:
        """Compute a batch with the graph of its size or the next larger one, padded with its last row.

        Returns:
            The first `num_rows` rows of the outputs, in memory that the next forward overwrites; None where
            there is no graph for the batch.

        Sync:
            Nothing.
        """
        graph = self._find(parts, num_rows) if num_rows else None
        if graph is None or num_rows is None:
            return None
        for name, target in graph.inputs.items():
            self._staging.put(parts[name], target[:num_rows])
            if num_rows != len(target):
                target[num_rows:] = target[num_rows - 1]
        graph.replay()
        return {name: output[:num_rows] for name, output in graph.outputs.items()}

    def _find(self, parts: Parts, num_rows: int) -> _Graph | None:
        """Choose among the listed sizes; one that could not be recorded is none of the next larger's."""
        if not self._by_shape:
            return None
        if any(sum(map(len, tensors)) != num_rows for tensors in parts.values()):
            return None  # of collate, which is told so where its outputs are checked
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
            # A capture that work has spoilt ends with an error of its own, which doesn't say why.
            raise raised[0] if raised else error from None
        return _Graph(inputs, outputs, replay)

    def _empty(self, like: torch.Tensor, num_rows: int) -> torch.Tensor:
        return torch.empty((num_rows, *like.shape[1:]), dtype=like.dtype, device=self._runtime.device)

    def _check(self, outputs: Mapping[str, torch.Tensor], num_rows: int) -> None:
        for name, output in outputs.items():
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
    """What batches have in common that one graph can serve: names, dtypes, sizes of a row."""
    return frozenset((name, tensors[0].dtype, tensors[0].shape[1:]) for name, tensors in parts.items())
