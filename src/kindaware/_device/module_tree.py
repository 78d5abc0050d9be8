"""The modules and tensors within a module, read past what its class may have named like torch's methods.

In a class of somebody's own `modules()` may return names, and `named_parameters()` want an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

import torch
from torch import nn


def named_parts(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Iterate over a module and all within it, by path; a shared one comes once for each of its paths."""
    yield from _walk(module, path, frozenset())


def _walk(module: nn.Module, path: str, above: Set[int]) -> Iterator[tuple[str, nn.Module]]:
    # A module may lie within itself.
    if id(module) in above:
        return
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{path}.{name}".lstrip("."), above | {id(module)})


def parts_of(module: nn.Module) -> Iterator[nn.Module]:
    """Iterate over a module and all within it, each once."""
    seen: set[int] = set()
    left = [module]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [child for child in reversed(one._modules.values()) if child is not None]


def own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the parameters and buffers of a module, without those of modules within it."""
    for tensors in (module._parameters, module._buffers):
        yield from ((name, tensor) for name, tensor in tensors.items() if tensor is not None)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the parameters and buffers of a module and all within it, by path."""
    for path, one in named_parts(module):
        yield from ((f"{path}.{name}".lstrip("."), tensor) for name, tensor in own_tensors(one))
