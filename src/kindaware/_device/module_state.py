"""The state of modules that a setting changes: their tensors, and whether torch compiles them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from kindaware._device.module_tree import parts_of


class ModuleState:
    """How modules were when this was made: which tensors they had, and which compiled code.

    A conversion to another dtype or memory format makes new tensors, so that modules can go from one state to
    another and back. It takes the memory of both.

    Args:
        modules: the modules, whose tensors nothing else changes.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules: list[tuple[nn.Module, Callable[..., Any] | None]] = []
        self._tensors: list[tuple[dict[str, Any], str, torch.Tensor, torch.Tensor]] = []
        for module in modules:
            self._modules.append((module, module._compiled_call_impl))
            for part in parts_of(module):
                for tensors in (part._parameters, part._buffers):
                    self._tensors += [
                        (tensors, name, tensor, tensor.data)
                        for name, tensor in tensors.items()
                        if tensor is not None
                    ]

    def enter(self) -> None:
        """Give the modules their tensors and their compiled code again."""
        for module, compiled in self._modules:
            module._compiled_call_impl = compiled
        for tensors, name, tensor, data in self._tensors:
            # Conversions put other data into a parameter, and other buffers into a module.
            tensor.data = data
            tensors[name] = tensor
