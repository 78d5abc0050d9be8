"""The device of an instance: its runtime, the staging to and from it, and its health."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from logging import Logger

import torch

from kindaware._config.settings import Settings
from kindaware._device.health import Health
from kindaware._device.runtime import Runtime
from kindaware._device.staging import Staging, open_staging


@dataclass(frozen=True, slots=True)
class Device:
    """What a batch needs of a device.

    Attributes:
        runtime: streams, events, pinned memory and copies.
        staging: inputs to the device, outputs back.
        health: whether it still works.
    """

    runtime: Runtime
    staging: Staging
    health: Health

    @classmethod
    def open(cls, runtime: Runtime, settings: Settings, model: str, logger: Logger) -> Device:
        """Make staging and health for a runtime that is active.

        Args:
            runtime: the device.
            settings: how much pinned memory may be held, and where outputs are to lie.
            model: the model's name, for messages.
            logger: told when the device has failed.
        """
        keeps_outputs = settings.output_device == "instance"
        staging = open_staging(runtime, settings.pinned_limit_bytes, keeps_outputs=keeps_outputs)
        return cls(runtime, staging, Health(runtime, model, logger))

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Make device and stream current for one batch, without gradients.

        Sync:
            Waits at the end for what is queued, after an error too; not after a fault, when a wait would only
            raise over the error.
        """
        with self.runtime.scope(), torch.set_grad_enabled(False):
            try:
                self.staging.begin_forward()
                yield
            except BaseException as error:
                if not self.runtime.is_fault(error):
                    self.staging.settle()
                raise
            self.staging.settle()
