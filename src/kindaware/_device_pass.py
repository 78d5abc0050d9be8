"""One batch: from the requests' tensors to the device, through `forward`, and to the answers' tensors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from logging import Logger
from typing import Any

import torch

from kindaware._batch import Request
from kindaware._errors import KindAwareError, OutputError, describe, format_traceback, message
from kindaware._hooks import Hooks
from kindaware._modules import Precision, prepare_input
from kindaware._outcomes import Tensors
from kindaware._outputs import check_outputs, name_outputs
from kindaware._runtime import Runtime
from kindaware._settings import Settings
from kindaware._spec import ModelSpec
from kindaware._staging import Staging


class DevicePass:
    """Takes batches through the device.

    Args:
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        runtime: the device.
        staging: the way there and back.
        logger: told when the device has failed.

    Attributes:
        fault: the error after which the device is unusable; None while all is well.
        has_answered: whether a batch has ever come back.
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
        self.has_answered = False
        self._spec = spec
        self._settings = settings
        self._hooks = hooks
        self._runtime = runtime
        self._staging = staging
        self._logger = logger
        self._precision = Precision.of(settings.precision)
        self._input_names = {tensor.name for tensor in spec.inputs}
        self._required_names = {tensor.name for tensor in spec.inputs if not tensor.optional}

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the call before are no longer needed."""
        self._staging.begin_call()

    def preprocess(self, request: Request) -> Request:
        """Run the user's `preprocess` on one request, with the device and stream current and no gradients.

        Not in inference mode; see `_compute`.

        Raises:
            OutputError: it returned what `forward` can't take.
        """
        if self._hooks.preprocess is None:
            return request
        with self._runtime.scope(), torch.no_grad():
            inputs = self._hooks.preprocess(dict(request.inputs))
        return Request(request.id, self._checked(inputs, request), request.rows)

    def _checked(self, inputs: Any, request: Request) -> Tensors:
        is_mapping = isinstance(inputs, Mapping) and self._required_names <= set(inputs) <= self._input_names
        if is_mapping and all(
            isinstance(one, torch.Tensor) and (request.rows is None or one.shape[:1] == (request.rows,))
            for one in inputs.values()
        ):
            return inputs  # type: ignore[no-any-return]  # a mapping of tensors, as just checked
        raise OutputError(
            message(
                f"model {self._spec.name!r} preprocess",
                expected=f"a mapping of {sorted(self._input_names)} to tensors with {request.rows} rows",
                got=repr({k: list(getattr(v, "shape", ())) for k, v in inputs.items()})
                if isinstance(inputs, Mapping)
                else type(inputs).__name__,
                remedy="return the inputs, changed, with as many rows as they had",
            )
        )

    def run(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Take one batch through the device and back.

        Args:
            requests: at least one; what they have in common is that their inputs can be joined.

        Returns:
            Tensors by name, contiguous, [B, ...] when the model batches, computed, valid until `begin_call`:
            on the host, or with `output_device` `instance` where `forward` and `postprocess` left them.

        Sync:
            Waits once for the device; on an error too, if anything is queued. Not after a fault: a wait would
            only raise over it, and no buffer is used again.
        """
        rows = [request.rows for request in requests]
        num_rows = None if rows[0] is None else sum(one or 0 for one in rows)
        with self._runtime.scope():
            self._staging.begin_forward()
            try:
                with torch.no_grad():
                    inputs = {name: self._put(name, requests) for name in requests[0].inputs}
                checked = self._compute(inputs, num_rows)
                fetched = self._staging.fetch(checked)
            except BaseException as error:
                if not self._runtime.is_fault(error):
                    self._staging.settle()
                raise
            self._staging.settle()
        self.has_answered = True
        return fetched

    def _compute(self, inputs: dict[str, torch.Tensor], num_rows: int | None) -> dict[str, torch.Tensor]:
        """Run the hooks in inference mode.

        The inputs were joined outside of it: torch.compile tells tensors that were made in inference mode
        from others, so it would compile once for batches of one request and again for all others.
        """
        hooks = self._hooks
        with torch.inference_mode():
            with self._precision.scope(self._runtime.device):
                outputs = name_outputs(hooks.call(hooks.forward, inputs), self._spec)
            if hooks.postprocess is not None:
                outputs = name_outputs(hooks.postprocess(outputs), self._spec)
            return check_outputs(
                outputs,
                self._spec,
                num_rows=num_rows,
                cast=self._settings.cast_outputs,
                computed_dtype=self._precision.dtype,
            )

    def attempt(self, requests: Sequence[Request]) -> dict[str, torch.Tensor] | Exception:
        """Do as `run` does, and give what was raised instead of raising it.

        What was raised holds no tensors any more. When memory ran out, what the device is still at work on
        is waited for, and memory that nobody uses is handed back, so that a smaller batch finds room.
        """
        try:
            try:
                return self.run(requests)
            except Exception as error:
                release_frames(error)
                if is_out_of_memory(error):
                    self._runtime.wait()
                    self._runtime.release_memory()
                raise
        except Exception as error:
            self.note_fault(error)
            return error
        except SystemExit as error:  # of a library that takes a server for a program
            left = KindAwareError(f"forward ended the process: SystemExit({error.code!r})")
            left.__cause__ = error
            return left

    def note_fault(self, error: Exception) -> bool:
        """Whether the error leaves the device unusable; the first one is kept in `fault`, and logged."""
        if not self._runtime.is_fault(error):
            return False
        if self.fault is None:
            self.fault = describe(error)
            self._logger.error("%s\n%s", self.unavailable(), format_traceback(error))
        return True

    def unavailable(self) -> str:
        """Say what every client gets to read after a fault."""
        return message(
            f"model {self._spec.name!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {self.fault}",
            remedy="unload and load the model, or restart the server: its process has lost the device",
        )

    def _put(self, name: str, requests: Sequence[Request]) -> torch.Tensor:
        tensors = [request.inputs[name] for request in requests]
        if self._hooks.collate is not None and requests[0].rows is not None:
            tensors = [self._hooks.collate(name, tensors)]
        return prepare_input(self._staging.put(tensors), self._settings, self._precision)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may go where this one did not.

    CUDA, cuBLAS and cuDNN say it in words of their own where torch's allocator did not ask for the memory.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = r"CUDA error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED"
    return isinstance(error, RuntimeError) and bool(re.search(said, str(error)))


def release_frames(error: BaseException) -> None:
    """Empty the frames that an error's traceback leads through; where it was raised can still be told.

    They hold the batch's tensors for as long as the error lives, so memory that ran out stayed full.
    """
    linked: list[BaseException | None] = [error]
    seen: set[int] = set()
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            linked += [one.__cause__, one.__context__]
