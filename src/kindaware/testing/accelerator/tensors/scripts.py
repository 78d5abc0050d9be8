"""TorchScript modules on simulated devices: their tensors are kept in C++, and moved one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kindaware.testing.accelerator.machine.plain import without_dispatch
from kindaware.testing.accelerator.tensors.moves import get_data


def apply_to_script(module: Any, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
    """Do as `Module._apply` does, on which `to`, `cuda` and `half` are built."""
    for part in module.modules() if recurse else [module]:
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, tensor in tensors:
            part._c.setattr(name, change(get_data(tensor)))
    return module


def load_script(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `torch.jit.load`: a module for a device is loaded to the host, then moved."""

    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        device = None if map_location is None else torch.device(map_location)
        is_here = device is None or device.type != "cuda"
        with without_dispatch():
            module = original(f, map_location if is_here else torch.device("cpu"), *args, **kwargs)
        return module if is_here else module.to(device)

    return load
