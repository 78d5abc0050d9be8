"""The last step of a call: the outputs of its batches, split into the result of each request."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Outputs, Result, Tensors, failure_of, log_failure
from kindaware._device.device import Device
from kindaware._hooks.blame import report
from kindaware._tensors.rows import split


class Splitter:
    """Splits the outputs of batches, after all forwards of a call are done.

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
        try:
            return self._split(outputs, requests)
        except Exception as error:
            health, model = self._device.health, self._plan.spec.name
            if health.note_fault(error):
                raise
            health.recover(error)
            log_failure(self._plan.logger, model, [one.id for one in requests], report(error))
            return [failure_of(error, model, one.id, "cutting padding off") for one in requests]

    def _split(self, outputs: Outputs, requests: Sequence[Request]) -> Sequence[Tensors]:
        if self._plan.padding is not None:
            # Outputs that stay on the device were cut there, before the batch's wait.
            outputs = self._plan.padding.cut(outputs, requests)
        return split(outputs, [request.rows for request in requests])
