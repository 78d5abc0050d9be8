"""`DevicePlacement`: a mixin that sets device and threads of a model that keeps its own `execute`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kindaware._config.args import InstanceArgs
from kindaware._config.settings import PLACEMENT_SETTINGS, PlacementSettings, Settings
from kindaware._device.placed_instance import PlacedInstance
from kindaware._hooks.attachment import attach, attached
from kindaware._hooks.class_rules import PLACEMENT_ATTRIBUTES, check_placement_class, refuse_assignment
from kindaware._placement.placement import Placement
from kindaware._placement.threads import ThreadBudget


class DevicePlacement(PlacementSettings):
    """Mixin that only places an instance on the device of its `instance_group`.

        class TritonPythonModel(DevicePlacement):
            def initialize(self, args):
                super().initialize(args)
                self.model = make_model().to(self.device)

            def execute(self, requests):
                ...

    On a GPU, `initialize` makes the instance's device current for the calling thread. It sets torch's
    intra-op threads to the instance's share of the host's cores. An instance of KIND_CPU never initialises
    CUDA.

    The settings `on_missing_gpu`, `model_devices`, `num_threads` and `wait_policy` are class attributes, or
    parameters `kindaware.<name>` in config.pbtxt, which override them; see docs/reference/settings.md.

    Raises:
        KindAwareError: a property was read before `initialize` had run.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; raise `ConfigError` for one that the library provides."""
        refuse_assignment(type(self), name, PLACEMENT_ATTRIBUTES)
        super().__setattr__(name, value)

    @property
    def args(self) -> InstanceArgs:
        """Triton's args dict, typed and checked."""
        return _placed(self, "args").args

    @property
    def parameters(self) -> Mapping[str, str]:
        """The `parameters` of the model configuration, name to string value."""
        return _placed(self, "parameters").parameters

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return _placed(self, "settings").settings

    @property
    def placement(self) -> Placement:
        """The instance's kind and devices, and why they were chosen."""
        return _placed(self, "placement").placement

    @property
    def thread_budget(self) -> ThreadBudget:
        """The number of torch's intra-op threads, and how it was determined."""
        return _placed(self, "thread_budget").thread_budget

    @property
    def device(self) -> torch.device:
        """The instance's device; the first if it has several."""
        return _placed(self, "device").placement.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices that the instance may use."""
        return _placed(self, "devices").placement.devices

    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance: make its device current, and set the number of torch's threads.

        Args:
            args: the dict of strings that Triton passes.

        Raises:
            ConfigError: the class defines an attribute that the library provides, the args are not those that
                Triton passes, a setting is unknown, misspelled or invalid, or the requested GPU isn't
                visible.
        """
        check_placement_class(type(self), DevicePlacement, PLACEMENT_SETTINGS)
        attach(self, PlacedInstance(type(self), args, PLACEMENT_SETTINGS))


def _placed(owner: DevicePlacement, name: str) -> PlacedInstance:
    instance: PlacedInstance = attached(owner, f"self.{name}")
    return instance
