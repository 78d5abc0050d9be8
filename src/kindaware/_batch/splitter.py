"""The last step of a call: the outputs of its batches, split into the result of each request, or joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Outputs, Result, Tensors
from kindaware._device.device import Device
from kindaware._errors import OutputError, message
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import concat_values, split


class Splitter:
    """Splits the outputs of batches, and joins those of slices, after all forwards of a call are done.

    Args:
        plan: plan of the instance.
        device: device of the instance.
    """

    def __init__(self, plan: Plan, device: Device) -> None:
        self._plan = plan
        self._device = device

    def split(self, outputs: Outputs, requests: Sequence[Request]) -> Sequence[Result]:
        """Return the result of each request in a batch.

        Cutting padding off makes copies; if memory runs out for them, all requests of the batch fail.

        Raises:
            Exception: the device has failed.
        """
        return self._settled(lambda: self._split(outputs, requests), requests, "cutting padding off")

    def join(self, results: Sequence[Result], request: Request) -> Result:
        """Return the result of a request that was computed in slices; the first failure if any has failed.

        Joining makes copies; if memory runs out for them, the request fails.

        Args:
            results: results of the slices, in the order of their rows.
            request: the whole request.

        Raises:
            Exception: the device has failed.

        Sync:
            Host with stream if the outputs stay on the device.
        """
        failures = [one for one in results if isinstance(one, Failure)]
        if failures:
            return failures[0]
        (joined,) = self._settled(lambda: [self._join(results)], [request], "joining the outputs of slices")
        return joined

    def _settled(
        self, work: Callable[[], Sequence[Tensors]], requests: Sequence[Request], what: str
    ) -> Sequence[Result]:
        """Return what some work returned; if it raised, a failure of each request."""
        try:
            return work()
        except Exception as error:
            health = self._device.health
            if health.note_fault(error):
                raise
            health.recover(error)
            return self._plan.reporter.fail(error, [one.id for one in requests], what)

    def _join(self, results: Sequence[Any]) -> Tensors:
        with self._device.runtime.scope():
            joined = {name: self._joined(name, [one[name] for one in results]) for name in results[0]}
            if self._plan.settings.keeps_outputs:
                self._device.runtime.wait()
        return joined

    def _joined(self, name: str, values: Sequence[Value]) -> Value:
        if len({value.shape[1:] for value in values}) > 1:
            raise OutputError(
                message(
                    f"model {self._plan.spec.name!r} output {name!r}",
                    expected=f"rows of one size in the {len(values)} slices of a request",
                    got=f"shapes {[list(value.shape) for value in values]}"[:200],
                    remedy="return rows of one size, or raise max_rows_per_forward",
                )
            )
        return concat_values(values)

    def _split(self, outputs: Outputs, requests: Sequence[Request]) -> Sequence[Tensors]:
        if self._plan.padding is not None:
            # Outputs that stay on the device were cut there, before the batch's wait.
            outputs = self._plan.padding.cut(outputs, requests)
        return split(outputs, [request.rows for request in requests])
