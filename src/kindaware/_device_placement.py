"""`DevicePlacement`: device and threads of an instance, for models that keep their own `execute`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch

from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import instance_groups_of, parameters_of
from kindaware._config.settings import Settings
from kindaware._device.runtime import Runtime, count_devices, open_runtime
from kindaware._placement.openmp import stop_spinning
from kindaware._placement.placement import Placement
from kindaware._placement.threads import ThreadBudget, count_cores


class DevicePlacement:
    """Mixin that puts an instance where its `instance_group` says, and nothing else.

        class TritonPythonModel(DevicePlacement):
            def initialize(self, args):
                super().initialize(args)
                self.model = make_model().to(self.device)

            def execute(self, requests):
                ...

    `initialize` sets `self.device`, `self.devices` and `self.placement`, makes a GPU the current device of
    the calling thread, and gives torch the instance's share of the host's cores. An instance of
    KIND_CPU never initialises CUDA.

    The settings `on_missing_gpu`, `model_devices`, `num_threads` and `wait_policy` may be set as class
    attributes or as parameters `kindaware.<name>` in config.pbtxt, which win; see docs/settings.md.

    Attributes:
        args: Triton's args dict, typed (`InstanceArgs`).
        placement: kind, devices and the reason for them (`Placement`).
        thread_budget: number of threads and the reason for it (`ThreadBudget`).
        settings: the settings as they stand.
        parameters: the configuration's own `parameters`, name to string value.
    """

    on_missing_gpu: ClassVar[str] = "error"
    model_devices: ClassVar[str | None] = None
    num_threads: ClassVar[int | str] = "auto"
    wait_policy: ClassVar[str] = "default"

    _known_settings: ClassVar[Collection[str]] = (
        "on_missing_gpu",
        "model_devices",
        "num_threads",
        "wait_policy",
    )

    args: InstanceArgs
    settings: Settings
    parameters: Mapping[str, str]
    placement: Placement
    thread_budget: ThreadBudget
    _runtime: Runtime

    @property
    def device(self) -> torch.device:
        """The instance's device; the first one when it has several."""
        return self.placement.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices that the instance may use."""
        return self.placement.devices

    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance.

        Args:
            args: the dict of strings that Triton hands over.

        Raises:
            ConfigError: the args are none that Triton passes, a setting is unknown or wrong, or the GPU that
                was asked for isn't visible.
        """
        self.args = InstanceArgs.from_dict(args)
        self.parameters = parameters_of(self.args.config)
        attributes: dict[str, Any] = {name: getattr(type(self), name) for name in self._known_settings}
        self.settings = Settings.resolve(attributes, self.parameters, known=self._known_settings)
        self.placement = Placement.of_instance(
            self.args, self.settings, num_devices=count_devices(self.args.kind)
        )
        self.thread_budget = ThreadBudget.of_instance(
            self.args,
            instance_groups_of(self.args.config),
            self.placement,
            num_threads=self.settings.num_threads,
            model_devices=self.settings.model_devices,
            num_cores=count_cores(),
            environment=os.environ,
        )
        torch.set_num_threads(self.thread_budget.num_threads)
        if self.settings.wait_policy == "passive":
            stop_spinning(self.thread_budget.num_threads, os.environ)
        self._runtime = open_runtime(self.placement)
        self._runtime.activate()

    def _describe_placement(self) -> str:
        """Say in the log where the instance runs, and with how many threads."""
        threads = self.thread_budget
        why = "" if self.args.kind == "CPU" else f", {self.placement.reason}"
        where = ", own stream" if self.placement.uses_cuda else why
        devices = ",".join(map(str, self.devices))
        where = f"kind {self.args.kind}, device {devices}{where}"
        return f"{where}, threads {threads.num_threads} ({threads.reason})"
