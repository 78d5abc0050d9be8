"""Modules that `load` has placed itself: recognised, and checked against the devices of the instance.

Quantised modules refuse to be moved, and those that accelerate has dispatched must not be.
Source: accelerate, `big_modeling.py`, dispatch_model, and `hooks.py`, AlignDevicesHook.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from kindaware._device.module_tree import named_parts, named_tensors, own_tensors, parts_of
from kindaware._errors import ConfigError, describe
from kindaware._placement.placement import Placement


def is_dispatched(module: nn.Module) -> bool:
    """Whether accelerate has placed the module, or one within it."""
    return any("hf_device_map" in vars(one) for one in parts_of(module))


def check_placed(name: str, module: nn.Module, placement: Placement) -> None:
    """Check that a module which `load` has placed lies on devices of the instance.

    A tensor without data may be offloaded, if a hook of accelerate brings it to one of these devices.

    Args:
        name: of the attribute that holds the module, for the message.
        module: the module.
        placement: the placement of the instance.

    Raises:
        ConfigError: a parameter or buffer lies elsewhere, or a hook runs a part elsewhere.
    """
    hooked: set[str] = set()
    for path, one in named_parts(module):
        parent = path.rpartition(".")[0]
        hooks = list(_hooks_of(one))
        if hooks or (path and parent in hooked):
            hooked.add(path)
        for hook in hooks:
            device = getattr(hook, "execution_device", None)
            if device is not None and _device(device, placement) not in placement.devices:
                raise _misplaced(f"{name!r} part {path!r}", device, placement)
        for key, tensor in own_tensors(one):
            is_offloaded = tensor.device.type == "meta" and path in hooked
            if not is_offloaded and tensor.device not in placement.devices:
                raise _misplaced(f"{name!r} tensor {f'{path}.{key}'.lstrip('.')!r}", tensor.device, placement)


def refuse_unmovable(name: str, module: nn.Module, device: torch.device, error: Exception) -> None:
    """Raise for a module that can't be moved, unless it lies on the device already.

    Raises:
        ConfigError: it lies elsewhere, or has tensors without data.
    """
    tensors = dict(named_tensors(module))
    empty = [key for key, tensor in tensors.items() if tensor.device.type == "meta"]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise ConfigError.of(
            f"module {name!r} tensor {empty[0]!r}{more}",
            expected="data after load()",
            got="none: still on the device 'meta'",
            remedy="load it from the checkpoint, make the network without torch.device('meta'), "
            "or set move_modules to False if load() has offloaded it",
        ) from error
    if not tensors or any(tensor.device != device for tensor in tensors.values()):
        raise ConfigError.of(
            f"module {name!r}",
            expected=f"one that can be moved to {device}",
            got=describe(error),
            remedy="make it on self.device in load(), or set move_modules to False if load() has placed it",
        ) from error


def _hooks_of(module: nn.Module) -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        # Several hooks of one module are kept in one.
        yield from getattr(hook, "hooks", (hook,))


def _device(named: torch.device | str | int, placement: Placement) -> torch.device:
    device = torch.device("cuda", named) if isinstance(named, int) else torch.device(named)
    is_current = device.type == "cuda" and device.index is None
    return placement.device if is_current and placement.uses_cuda else device


def _misplaced(subject: str, device: object, placement: Placement) -> ConfigError:
    devices = ", ".join(map(str, placement.devices))
    return ConfigError.of(
        f"module {subject}",
        expected=f"a device of the instance, {devices}, after load() has placed it",
        got=str(device),
        remedy="place it on self.device or self.devices, or change instance_group",
    )
