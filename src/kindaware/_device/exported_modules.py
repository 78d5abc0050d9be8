"""Modules that torch.export made: their graph names devices and dtypes, which `Module.to` leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from kindaware._device.module_tree import parts_of
from kindaware._errors import ConfigError


def is_exported(module: nn.Module) -> bool:
    """Whether torch.export made the module; those of `torch.fx.symbolic_trace` can be treated like others.

    torch replaces `eval` of such a module, on the object, by a function that raises.
    """
    return isinstance(module, GraphModule) and "eval" in vars(module)


def check_exported(name: str, module: nn.Module, converts_to: torch.dtype | None) -> None:
    """Refuse exported modules, also inside of another one, that can't be served as they are.

    Args:
        name: of the attribute that holds the module, for the message.
        module: the module.
        converts_to: the dtype that modules are converted to; None for no conversion.

    Raises:
        ConfigError: one was exported in training mode, or its dtypes can't be changed any more.
    """
    for one in _exported(module):
        node = next((node for node in one.graph.nodes if _trains(node)), None)
        if node is not None:
            raise ConfigError.of(
                f"module {name!r}, made by torch.export",
                expected="a program in eval mode, which is fixed when it is exported",
                got=f"{node.target} in training mode",
                remedy="call eval() on the module before torch.export.export",
            )
        if converts_to is not None:
            raise ConfigError.of(
                f"module {name!r}, made by torch.export",
                expected="precision 32-true or a mixed one, since its graph names dtypes",
                got=f"a conversion to {converts_to}",
                remedy="convert the module before torch.export.export, and leave precision out",
            )


def move_exported(module: nn.Module, device: torch.device) -> None:
    """Move the exported modules in a module: also their constants, and the devices that their graphs name.

    Each tensor is replaced and not changed, since the exported program may still refer to it.

    Sync:
        Host with device, as `Tensor.to`.
    """
    for exported in _exported(module):
        moved: dict[torch.Tensor, torch.Tensor] = {}
        for one in parts_of(exported):
            kinds: tuple[dict[str, Any], ...] = (one._parameters, one._buffers, vars(one))
            for tensors in kinds:
                for key, value in tensors.items():
                    if isinstance(value, torch.Tensor) and value.device != device:
                        tensors[key] = moved[value] = moved.get(value, _moved(value, device))
            if isinstance(one, GraphModule):
                _retarget(one, device)


def _exported(module: nn.Module) -> Iterator[GraphModule]:
    return (one for one in parts_of(module) if isinstance(one, GraphModule) and is_exported(one))


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved = tensor.detach().to(device)
    return nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved


def _retarget(module: GraphModule, device: torch.device) -> None:
    """Replace every device among the arguments of a graph's operations."""

    def target(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in module.graph.nodes:
        node.args, node.kwargs = map_aggregate(node.args, target), map_aggregate(node.kwargs, target)
    module.recompile()


def _trains(node: Node) -> bool:
    """Whether an operation is a dropout or batch normalisation in training mode."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not any(kind in schema.name for kind in ("dropout", "batch_norm")):
        return False
    names = [argument.name for argument in schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return True in (given.get("train"), given.get("training"))
