"""The last stage of a batch: `postprocess`, the checks of its outputs, and their copy off the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.outputs import check_outputs, name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._device.staging import Staging
from kindaware._tensors.rows import Output


class OutputStage:
    """Turns what `forward` returned, or an item of a stream, into checked outputs.

    Args:
        plan: plan of the instance.
        staging: copies tensors off the device.
    """

    def __init__(self, plan: Plan, staging: Staging) -> None:
        self._spec = plan.spec
        self._hook = plan.answering_hook
        self._postprocess = plan.hooks.postprocess
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._casts = plan.settings.cast_outputs
        self._computed_dtype = plan.precision.dtype
        self._text_outputs = [output.name for output in plan.spec.outputs if output.dtype.torch is None]
        self._staging = staging

    def finish(self, outputs: dict[str, Any], requests: Sequence[Request]) -> dict[str, Output]:
        """Run `postprocess`, and check the outputs against the configuration. Called in inference mode.

        Args:
            outputs: outputs by name, as `forward` returned them, or items of `stream` or `step`.
            requests: the requests of the batch.

        Returns:
            Contiguous tensors by name, on the device that computed them, and BYTES arrays; or a list of one
            per request.

        Raises:
            OutputError: an output doesn't match the configuration.
            Exception: what `postprocess` raised.
        """
        # `postprocess` and the checks read what lies on the host: a cast, or making it contiguous.
        self._staging.land(outputs.values())
        if self._postprocess is not None:
            extras = self._hook_requests.argument("postprocess", requests)
            outputs = name_outputs(self._postprocess(outputs, **extras), self._spec, "postprocess")
            self._staging.land(outputs.values())
        return check_outputs(
            outputs,
            self._spec,
            rows=[one.rows for one in requests],
            cast=self._casts,
            computed_dtype=self._computed_dtype,
            hook=self._hook if self._postprocess is None else "postprocess",
        )

    def fetch(self, outputs: Mapping[str, Output]) -> dict[str, Output]:
        """Copy tensors to where the responses need them; BYTES arrays are on the host already.

        Sync:
            Host with stream.
        """
        # Without BYTES outputs, as in most models, the mapping is passed on without a copy.
        texts = {name: outputs[name] for name in self._text_outputs}
        tensors: Any = {name: one for name, one in outputs.items() if name not in texts} if texts else outputs
        fetched: dict[str, Any] = self._staging.fetch(tensors)
        # Into the mapping that the staging returned: it replaces entries if a further forward must run.
        fetched.update(texts)
        return fetched
