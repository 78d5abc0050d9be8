"""A placed instance: its args and settings, its device, and its share of the host's cores."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch

from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import instance_groups_of, parameters_of
from kindaware._config.settings import Settings
from kindaware._device.runtime import count_devices, open_runtime
from kindaware._placement.openmp import stop_spinning
from kindaware._placement.placement import Placement
from kindaware._placement.threads import ThreadBudget, count_cores
from kindaware._placement.versions import count_versions


class PlacedInstance:
    """An instance on its device.

    The constructor sets the number of torch's threads and, on a GPU, the current device of the thread.

    Args:
        model_class: the user's class, whose attributes are the settings.
        args: the dict of strings that Triton passes.
        known: names of the settings that this kind of model has.

    Attributes:
        args: the args, typed and checked.
        parameters: the configuration's `parameters`, name to string value.
        settings: the settings in effect.
        placement: the devices of the instance.
        thread_budget: the number of torch's threads.
        runtime: the runtime of the device, active.

    Raises:
        ConfigError: the args are not those that Triton passes, a setting is unknown or invalid, or the
            requested GPU isn't visible.
    """

    def __init__(self, model_class: type, args: Mapping[str, str], known: Collection[str]) -> None:
        self.args = InstanceArgs.from_dict(args)
        self.parameters = parameters_of(self.args.config)
        attributes: dict[str, Any] = {name: getattr(model_class, name) for name in known}
        self.settings = Settings.resolve(attributes, self.parameters, known=known)
        self.placement = Placement.of_instance(
            self.args, self.settings, num_devices=count_devices(self.args.kind)
        )
        self.thread_budget = ThreadBudget.of_instance(
            self.args,
            instance_groups_of(self.args.config),
            self.placement,
            num_threads=self.settings.num_threads,
            num_cores=count_cores(),
            num_versions=count_versions(self.args.repository, self.args.config),
            environment=os.environ,
        )
        torch.set_num_threads(self.thread_budget.num_threads)
        # After set_num_threads, whose number decides how many idle threads are needed.
        if self.settings.wait_policy == "passive":
            stop_spinning(self.thread_budget.num_threads, os.environ)
        # Last, since it creates the CUDA context: a refused instance takes no memory on the GPU.
        self.runtime = open_runtime(self.placement)
        self.runtime.activate()

    def describe_placement(self) -> str:
        """Return a description of devices and threads for the log."""
        threads = self.thread_budget
        why = "" if self.args.kind == "CPU" else f", {self.placement.reason}"
        where = ", own stream" if self.placement.uses_cuda else why
        devices = ",".join(map(str, self.placement.devices))
        where = f"kind {self.args.kind}, device {devices}{where}"
        return f"{where}, threads {threads.num_threads} ({threads.reason})"
