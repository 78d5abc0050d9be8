"""Preparation of the modules that `load` made: eval mode, device, precision, memory format, compilation."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import FROZEN, Settings
from kindaware._device.exported_modules import check_exported, move_exported
from kindaware._device.module_tree import named_tensors, parts_of
from kindaware._device.nested import Nested
from kindaware._device.placed_modules import check_placed, is_dispatched, refuse_unmovable
from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._errors import ConfigError, describe
from kindaware._placement.placement import Placement

_NO_SCOPE = contextlib.nullcontext()
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Precision:
    """A parsed `precision` setting.

    Attributes:
        dtype: the dtype to compute in; None for `32-true`.
        is_mixed: whether autocast chooses the dtype per operation; if not, modules and inputs are converted.
    """

    dtype: torch.dtype | None
    is_mixed: bool

    @classmethod
    def of(cls, name: str) -> Precision:
        """Parse one of Lightning's names, such as `bf16-mixed`."""
        bits, kind = name.split("-")
        return cls(_DTYPES.get(bits), kind == "mixed")

    def scope(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Return the context manager in which `forward` runs: autocast for mixed precision."""
        if self.dtype is None or not self.is_mixed:
            return _NO_SCOPE
        return torch.autocast(device.type, dtype=self.dtype)

    @property
    def converts_to(self) -> torch.dtype | None:
        """The dtype to which modules and floating-point inputs are converted; None for no conversion."""
        return None if self.is_mixed else self.dtype


def hook_scope(
    runtime: Runtime, precision: Precision, settings: Settings
) -> contextlib.AbstractContextManager[None]:
    """Return what one step of a hook runs in: device and stream, inference mode and precision."""
    return Nested(runtime.scope, lambda: gradients_off(settings), lambda: precision.scope(runtime.device))


def gradients_off(settings: Settings) -> contextlib.AbstractContextManager[Any]:
    """Return the context manager in which hooks compute: inference mode, or only without gradients."""
    return torch.inference_mode() if settings.inference_mode else torch.no_grad()


def check_loaded(returned: object, spec: ModelSpec) -> nn.Module | None:
    """Return what `load` returned, checked.

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
    """Prepare every module among the attributes of `owner` in place, as the settings require.

    Modules that are attributes of `owner`, or lie in its lists, tuples and dicts, are put into eval mode,
    moved to the instance's device (unless `load` has placed them), and converted to the precision and memory
    format.

    Eval mode is set without a call of `eval` or `train`: to a module that is more than a network, `train` may
    be what starts a training, and modules of torch.export refuse both.

    Args:
        owner: the user's object, after `load`.
        placement: the placement of the instance.
        settings: `move_modules`, `precision` and `memory_format` are used.

    Raises:
        ConfigError: a parameter or buffer is still on another device afterwards, a module refuses to be
            converted, or one made by torch.export can't be served as it is.
    """
    precision = Precision.of(settings.precision)
    for name, module in _modules_of(owner):
        for one in parts_of(module):
            one.training = False
        check_exported(name, module, precision.converts_to)
        is_placed = is_dispatched(module) or not settings.move_modules
        if is_placed:
            check_placed(name, module, placement)
        elif placement.moves_modules:
            _move(name, module, placement.device)
        convert_module(name, module, settings)
        if placement.moves_modules and not is_placed:
            _check_devices(name, module, placement.device)


def convert_module(name: str, module: nn.Module, settings: Settings) -> None:
    """Convert a module to the precision and memory format of the settings.

    Raises:
        ConfigError: it refuses, as quantised modules do.
    """
    dtype = Precision.of(settings.precision).converts_to
    if dtype is not None:
        _convert(name, module, "precision", settings.precision, dtype)
    if settings.memory_format == "channels_last":
        _convert(name, module, "memory_format", "channels_last", torch.channels_last)


def convert_modules(owner: object, settings: Settings) -> None:
    """Convert the modules among the attributes of `owner`, prepared as by default, as the settings require.

    Args:
        owner: the user's object.
        settings: `precision` and `memory_format` are used.

    Raises:
        ConfigError: a module refuses to be converted.
    """
    for name, module in _modules_of(owner):
        check_exported(name, module, Precision.of(settings.precision).converts_to)
        convert_module(name, module, settings)


def modules_of(owner: object) -> list[tuple[str, nn.Module]]:
    """Return the modules among the attributes of `owner`, each once, with the attribute's name."""
    return list(_modules_of(owner))


def compile_modules(owner: object, settings: Settings) -> None:
    """Have torch compile every module among the attributes of `owner` when it is first called.

    Compiled with frozen weights, a module doesn't notice when its weights are changed.

    Args:
        owner: the user's object, with its modules prepared.
        settings: `compile` is used.
    """
    is_frozen = settings.compile == FROZEN
    if is_frozen:
        import torch._inductor.config as inductor

        # For the process and not for a call: dynamo reads it as well, and again for each new size of inputs.
        inductor.freezing = True
    for _, module in _modules_of(owner):
        # In place and not torch.compile(module), so that references the model holds are compiled too.
        nn.Module.compile(module, mode=None if is_frozen else settings.compile)


def stop_compiling() -> None:
    """Forget all that torch has compiled in this process, and that weights were to be frozen."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
    inductor = sys.modules.get("torch._inductor.config")
    if inductor is not None:
        inductor.freezing = False  # type: ignore[attr-defined]


def has_modules(owner: object) -> bool:
    """Whether there are modules among the attributes of `owner`."""
    return any(True for _ in _modules_of(owner))


def converts_inputs(settings: Settings, precision: Precision) -> bool:
    """Whether `prepare_input` does anything with these settings."""
    return precision.converts_to is not None or settings.memory_format == "channels_last"


def prepare_input(tensor: torch.Tensor, settings: Settings, precision: Precision) -> torch.Tensor:
    """Return an input converted to the dtype and memory format of the settings; a no-op for the defaults."""
    if precision.converts_to is not None and tensor.is_floating_point():
        tensor = tensor.to(precision.converts_to)
    # channels_last is defined for [B, C, H, W] only.
    if settings.memory_format == "channels_last" and tensor.dim() == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _modules_of(owner: object) -> Iterator[tuple[str, nn.Module]]:
    """Yield each module among the attributes of `owner` once, with the attribute's name."""
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


def _move(name: str, module: nn.Module, device: torch.device) -> None:
    move_exported(module, device)
    try:
        module.to(device)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        refuse_unmovable(name, module, device, error)


def _convert(
    name: str, module: nn.Module, setting: str, value: str, change: torch.dtype | torch.memory_format
) -> None:
    """Convert a module as a setting says.

    Raises:
        ConfigError: it refuses, as quantised modules do.
    """
    try:
        if isinstance(change, torch.dtype):
            module.to(change)
        else:
            module.to(memory_format=change)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError.of(
            f"module {name!r} setting {setting!r}",
            expected=f"a module that can be converted to {value}",
            got=describe(error),
            remedy=f"leave {setting} out, and convert in load() what can be converted",
        ) from error


def _check_devices(name: str, module: nn.Module, device: torch.device) -> None:
    # A module that overrides `_apply` may have kept its tensors where they were.
    for key, tensor in named_tensors(module):
        if tensor.device != device:
            raise ConfigError.of(
                f"module {name!r} tensor {key!r}",
                expected=f"device {device} after load()",
                got=str(tensor.device),
                remedy="do not pin modules to a device of their own; for several devices use KIND_MODEL with "
                "kindaware.model_devices; for modules that load() places, set move_modules to False",
            )
