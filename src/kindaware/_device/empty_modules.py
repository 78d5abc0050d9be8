"""Making a network without memory for its weights, which a checkpoint brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kindaware._errors import ConfigError, describe

_ALLOCATIONS = (torch.empty, torch.empty_strided)


def make_empty(make: Callable[[], object]) -> nn.Module:
    """Return the network that a function makes, with its uninitialised memory on the device `meta`.

    Networks make parameters with `torch.empty` and fill them afterwards, which does nothing on `meta`. What
    has values from the start, such as the frequencies of a position embedding, keeps them. Below
    `torch.device("meta")` that would be lost too, and with it buffers that no checkpoint contains.

    Raises:
        ConfigError: the function returns no module, or reads values of what has none.
        Exception: what the function raised.
    """
    try:
        with _EmptyOnMeta():
            made = make() if callable(make) else make
    except RuntimeError as error:  # NotImplementedError is one
        if "meta tensor" not in str(error):
            raise
        raise ConfigError.of(
            "load_weights network",
            expected="a function that makes the network without reading its random weights",
            got=describe(error),
            remedy="pass the network itself: load_weights(make(), ...)",
        ) from error
    if isinstance(made, nn.Module):
        return made
    raise ConfigError.of(
        "load_weights network",
        expected="a torch.nn.Module, or a function that returns one",
        got=f"a function that returns {type(made).__name__}" if callable(make) else type(made).__name__,
        remedy="make the network, and give it the weights with load_weights",
    )


class _EmptyOnMeta(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A device that the network names itself is left alone.
        if func in _ALLOCATIONS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
