"""`DevicePlacement`: device and threads of an instance, for models that keep their own `execute`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from kindaware._config.args import InstanceArgs
from kindaware._config.settings import PLACEMENT_SETTINGS, Settings
from kindaware._device.placed_instance import PlacedInstance
from kindaware._hooks.attachment import attach, attached
from kindaware._hooks.class_rules import PLACEMENT_ATTRIBUTES, refuse_assignment
from kindaware._placement.placement import Placement
from kindaware._placement.threads import ThreadBudget


class DevicePlacement:
    """Mixin that puts an instance where its `instance_group` says, and nothing else.

        class TritonPythonModel(DevicePlacement):
            def initialize(self, args):
                super().initialize(args)
                self.model = make_model().to(self.device)

            def execute(self, requests):
                ...

    `initialize` makes a GPU the current device of the calling thread, and gives torch the instance's share of
    the host's cores. An instance of KIND_CPU never initialises CUDA.

    The settings `on_missing_gpu`, `model_devices`, `num_threads` and `wait_policy` may be set as class
    attributes or as parameters `kindaware.<name>` in config.pbtxt, which win; see docs/settings.md.

    Until `initialize` has run, each of the properties raises an error that says so.
    """

    on_missing_gpu: ClassVar[str] = "error"
    model_devices: ClassVar[str | None] = None
    num_threads: ClassVar[int | str] = "auto"
    wait_policy: ClassVar[str] = "default"

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to overwrite what the library sets."""
        refuse_assignment(type(self), name, PLACEMENT_ATTRIBUTES)
        super().__setattr__(name, value)

    @property
    def args(self) -> InstanceArgs:
        """Triton's args dict, typed."""
        return _placed(self, "args").args

    @property
    def parameters(self) -> Mapping[str, str]:
        """The configuration's own `parameters`, name to string value."""
        return _placed(self, "parameters").parameters

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return _placed(self, "settings").settings

    @property
    def placement(self) -> Placement:
        """Kind, devices, and the reason for them."""
        return _placed(self, "placement").placement

    @property
    def thread_budget(self) -> ThreadBudget:
        """Number of torch's threads, and the reason for it."""
        return _placed(self, "thread_budget").thread_budget

    @property
    def device(self) -> torch.device:
        """The instance's device; the first one when it has several."""
        return _placed(self, "device").placement.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices that the instance may use."""
        return _placed(self, "devices").placement.devices

    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance.

        Args:
            args: the dict of strings that Triton hands over.

        Raises:
            ConfigError: the args are none that Triton passes, a setting is unknown or wrong, or the GPU that
                was asked for isn't visible.
        """
        attach(self, PlacedInstance(type(self), args, PLACEMENT_SETTINGS))


def _placed(owner: DevicePlacement, name: str) -> PlacedInstance:
    instance: PlacedInstance = attached(owner, f"self.{name}")
    return instance
