"""The device of an instance: its runtime, the staging of tensors to and from it, and its health."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from logging import Logger

import torch

from kindaware._config.settings import Settings
from kindaware._device.health import Health
from kindaware._device.runtime import Runtime
from kindaware._device.staging import Staging, open_staging


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Device:
    """The device that an instance computes on.

    Attributes:
        runtime: streams, events, pinned memory and copies.
        staging: copies inputs to the device and outputs back.
        health: whether the device still works.
    """

    runtime: Runtime
    staging: Staging
    health: Health

    @classmethod
    def open(cls, runtime: Runtime, settings: Settings, model: str, logger: Logger) -> Device:
        """Create staging and health for an active runtime.

        Args:
            runtime: the runtime of the device.
            settings: the settings in effect; see `open_staging`.
            model: name of the model, for messages.
            logger: gets a record when the device has failed.
        """
        health = Health(runtime, model, logger, settings.error_detail)
        return cls(runtime, open_staging(runtime, settings), health)

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Make device and stream current for one batch, with gradients disabled.

        Sync:
            Host with stream at the end, after an error too: pinned buffers and Triton's input memory must not
            be reused while a copy is in flight. Not after a device fault, since a wait would only raise
            another error in place of the first.
        """
        # set_grad_enabled and not inference_mode: inputs are collated here; see `BatchRunner._forward`.
        return _Batch(self)


class _Batch:
    """What `Device.batch` returns: written out, since each batch enters it; see `Nested` for why a class."""

    __slots__ = ("_device", "_gradients", "_scope")

    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._scope = self._device.runtime.scope()
        self._scope.__enter__()
        self._gradients = torch.set_grad_enabled(False)
        try:
            self._device.staging.begin_forward()
        except BaseException as error:
            self.__exit__(None, error, None)
            raise

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        device = self._device
        try:
            if error is None or not device.runtime.is_fault(error):
                device.staging.settle()
        finally:
            self._gradients.__exit__(None, None, None)
            self._scope.__exit__(None, None, None)
