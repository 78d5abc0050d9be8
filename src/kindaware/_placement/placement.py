"""The torch devices of an instance, derived from Triton's kind and device id.

Placement depends only on the args dict and the number of visible devices; torch.cuda is never called here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kindaware._config.args import InstanceArgs, parse_config, parse_instance_name, parse_kind
from kindaware._config.model_spec import parameters_of
from kindaware._config.settings import Settings
from kindaware._errors import ConfigError

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices of one instance.

    Attributes:
        kind: `CPU`, `GPU` or `MODEL`, as Triton passes it.
        devices: the devices that the instance may use; at least one.
        moves_modules: whether the library moves the model's modules to `device`; False if the model spreads
            itself over several devices.
        reason: why these devices were chosen, for the log.
        host_kinds: the kinds whose instances compute on the CPU, and share its cores.
    """

    kind: str
    devices: tuple[torch.device, ...]
    moves_modules: bool
    reason: str
    host_kinds: tuple[str, ...] = ("CPU",)

    @property
    def device(self) -> torch.device:
        """The device on which `forward` gets its inputs: the first of `devices`."""
        return self.devices[0]

    @property
    def uses_cuda(self) -> bool:
        """Whether any device is a GPU."""
        return any(device.type == "cuda" for device in self.devices)

    @classmethod
    def from_args(
        cls,
        args: Mapping[str, str],
        *,
        num_devices: int,
        on_missing_gpu: str | None = None,
        model_devices: str | None = None,
    ) -> Placement:
        """Return the placement of an instance.

        Args:
            args: the dict of strings that Triton passes to `initialize`. `model_instance_kind` and
                `model_instance_device_id` are required; `model_config`, if present, is read for `kindaware.*`
                parameters.
            num_devices: number of GPUs that this process sees, as `torch.cuda.device_count()` counts them.
            on_missing_gpu: the setting of that name, unless the configuration overrides it.
            model_devices: the setting of that name, unless the configuration overrides it.

        Raises:
            ConfigError: the args are not those that Triton passes, the requested GPU isn't visible, or the
                kind is KIND_MODEL and `model_devices` is unset.
        """
        kind, device_id = parse_kind(args)
        parameters = parameters_of(parse_config(args)) if "model_config" in args else {}
        attributes = {"on_missing_gpu": on_missing_gpu or "error", "model_devices": model_devices}
        settings = Settings.resolve(attributes, parameters)
        return _place(kind, device_id, parse_instance_name(args), num_devices, settings)

    @classmethod
    def of_instance(cls, args: InstanceArgs, settings: Settings, *, num_devices: int) -> Placement:
        """Return the placement of an instance whose args and settings are already parsed."""
        return _place(args.kind, args.device_id, args.instance_name, num_devices, settings)


def _place(kind: str, device_id: int, name: str, num_devices: int, settings: Settings) -> Placement:
    host_kinds = ("CPU", "MODEL") if settings.model_devices == "cpu" else ("CPU",)
    if kind == "CPU":
        return Placement(kind, (_CPU,), True, "KIND_CPU", host_kinds)
    if kind == "GPU":
        wanted: tuple[int, ...] = (device_id,)
        moves_modules, reason = True, f"KIND_GPU {device_id}"
    elif kind != "MODEL":
        raise NotImplementedError(f"_place: expected a kind that it places, got {kind!r}; add it here")
    else:
        policy = settings.model_devices
        if policy is None:
            raise ConfigError.of(
                f"instance {name!r} of KIND_MODEL",
                expected="the setting model_devices to say which devices it uses",
                got="no such setting",
                remedy="set parameter kindaware.model_devices to 'all', 'round_robin', 'cpu' or devices "
                "such as 'cuda:0,cuda:1'",
            )
        if policy == "cpu":
            return Placement(kind, (_CPU,), True, "model_devices=cpu", host_kinds)
        wanted = _devices_of_policy(policy, name, num_devices)
        # With 'all' the model places itself, even where all is one GPU: its code is the same on both hosts.
        moves_modules, reason = policy != "all" and len(wanted) == 1, f"model_devices={policy}"
    missing = [ordinal for ordinal in wanted if ordinal >= num_devices]
    if missing and settings.on_missing_gpu == "cpu":
        reason = f"on_missing_gpu=cpu: {reason} asked for cuda:{missing[0]}, {num_devices} visible"
        return Placement(kind, (_CPU,), True, reason, host_kinds)
    if missing:
        raise _missing_gpu(kind, missing[0], num_devices, name)
    devices = tuple(torch.device("cuda", ordinal) for ordinal in wanted)
    return Placement(kind, devices, moves_modules, reason, host_kinds)


def _devices_of_policy(policy: str, name: str, num_devices: int) -> tuple[int, ...]:
    if policy == "all":
        # Never empty: with no GPU visible, device 0 is what gets reported as missing.
        return tuple(range(num_devices)) or (0,)
    if policy == "round_robin":
        # Triton names instances <group>_<n>, and passes the number nowhere else.
        ordinal = re.search(r"_([0-9]{1,9})$", name)
        if ordinal is None:
            raise ConfigError.of(
                "args['model_instance_name']",
                expected="a name that ends in the instance's number, for model_devices=round_robin",
                got=repr(name),
                remedy="pass Triton's instance name, such as 'model_0_1'",
            )
        return (int(ordinal.group(1)) % max(num_devices, 1),)
    return tuple(int(device.removeprefix("cuda:")) for device in policy.split(","))


def _missing_gpu(kind: str, device_id: int, num_devices: int, name: str) -> ConfigError:
    return ConfigError.of(
        f"instance {name!r} of KIND_{kind}",
        expected=f"GPU {device_id} to be visible to torch",
        got=f"{num_devices} visible devices ({describe_cuda()})",
        remedy="make the device visible, install a torch built for this driver, change instance_group, or "
        "set parameter kindaware.on_missing_gpu to 'cpu'",
    )


def describe_cuda() -> str:
    """Describe what determines the GPUs that torch sees, without initialising CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    driver = Path("/proc/driver/nvidia/version")
    version = re.search(r"\d+\.\d+(\.\d+)?", driver.read_text()) if driver.exists() else None
    return (
        f"CUDA_VISIBLE_DEVICES {'not set' if visible is None else repr(visible)}, "
        f"torch.version.cuda {torch.version.cuda}, driver {version.group() if version else 'not found'}"
    )
