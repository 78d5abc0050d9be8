"""What is done to the modules that `load()` made: device, eval mode, precision, layout, compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.runtime import Runtime
from kindaware._errors import ConfigError
from kindaware._placement.placement import Placement

_NO_SCOPE = contextlib.nullcontext()
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """A precision setting, taken apart.

    Attributes:
        dtype: the dtype that it computes in, or None for `32-true`.
        is_mixed: whether autocast chooses per operation; otherwise modules and inputs are converted.
    """

    dtype: torch.dtype | None
    is_mixed: bool

    @classmethod
    def of(cls, name: str) -> Precision:
        """Read one of Lightning's names."""
        bits, kind = name.split("-")
        return cls(_DTYPES.get(bits), kind == "mixed")

    def scope(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Give the context in which `forward` runs."""
        if self.dtype is None or not self.is_mixed:
            return _NO_SCOPE
        return torch.autocast(device.type, dtype=self.dtype)

    @property
    def converts_to(self) -> torch.dtype | None:
        """The dtype that modules and floating inputs are converted to, or None."""
        return None if self.is_mixed else self.dtype


@contextlib.contextmanager
def hook_scope(runtime: Runtime, precision: Precision) -> Iterator[None]:
    """Make current what a step of a hook computes in: device and stream, inference mode, precision."""
    with runtime.scope(), torch.inference_mode(), precision.scope(runtime.device):
        yield


def check_loaded(returned: object, spec: ModelSpec) -> nn.Module | None:
    """Check what `load` returned.

    Raises:
        ConfigError: it is neither a module nor None.
    """
    if returned is None or isinstance(returned, nn.Module):
        return returned
    raise ConfigError.of(
        f"model {spec.name!r} load()",
        expected="a torch.nn.Module or None",
        got=type(returned).__name__,
        remedy="return the module, or keep what you made on self and return nothing",
    )


def prepare_modules(owner: object, placement: Placement, settings: Settings) -> None:
    """Bring every module that is an attribute of `owner` into the state that the settings ask for.

    Modules directly on `owner`, and in lists, tuples and dicts there, are put into eval mode, moved to the
    instance's device (unless the model places itself), converted, laid out and compiled in place.

    Args:
        owner: the model, after `load()`.
        placement: where it runs.
        settings: precision, memory format and compilation.

    Raises:
        ConfigError: after this a parameter is still on another device.
    """
    precision = Precision.of(settings.precision)
    for name, module in _modules_of(owner):
        module.eval()
        if placement.moves_modules:
            module.to(placement.device)
        if precision.converts_to is not None:
            module.to(precision.converts_to)
        if settings.memory_format == "channels_last":
            module.to(memory_format=torch.channels_last)
        if settings.compile != "off":
            module.compile(mode=settings.compile)
        if placement.moves_modules:
            _check_devices(name, module, placement.device)


def converts_inputs(settings: Settings, precision: Precision) -> bool:
    """Whether `prepare_input` changes anything."""
    return precision.converts_to is not None or settings.memory_format == "channels_last"


def prepare_input(tensor: torch.Tensor, settings: Settings, precision: Precision) -> torch.Tensor:
    """Convert one input of a batch as the settings ask; a no-op for the defaults."""
    if precision.converts_to is not None and tensor.is_floating_point():
        tensor = tensor.to(precision.converts_to)
    if settings.memory_format == "channels_last" and tensor.dim() == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _modules_of(owner: object) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()
    for name, value in vars(owner).items():
        if isinstance(value, Mapping):
            values = list(value.values())
        else:
            values = list(value) if isinstance(value, (list, tuple)) else [value]
        for one in values:
            if isinstance(one, nn.Module) and id(one) not in seen:
                seen.add(id(one))
                yield name, one


def _check_devices(name: str, module: nn.Module, device: torch.device) -> None:
    for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.device != device:
            raise ConfigError.of(
                f"module {name!r} tensor {key!r}",
                expected=f"device {device} after load()",
                got=str(tensor.device),
                remedy="do not pin modules to a device of their own; for several devices use KIND_MODEL with "
                "kindaware.model_devices",
            )
