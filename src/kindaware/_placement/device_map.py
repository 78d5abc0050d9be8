"""A module over several devices: which part lies where, and inputs brought to the part that runs."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from kindaware._errors import ConfigError

_Module = TypeVar("_Module", bound=nn.Module)
_MAX_NAMED = 5


def place_module(
    module: _Module,
    device_map: Mapping[str, torch.device | str | int],
    devices: Sequence[torch.device] | None = None,
) -> _Module:
    """Spread a module over several devices, as a map says.

        def load(self):
            return place_module(Net(), {"embed": 0, "layers": 0, "layers.5": 1, "head": 1}, self.devices)

    Each parameter and buffer goes to the device of the longest key that is a path to it: `layers.5` above
    lies on the second device, the other layers on the first. From then on inputs follow: before a part of the
    module runs that lies on one device as a whole, or is named in the map, all tensors among its arguments
    are brought to its device, also those in tuples, lists and dicts. Such a container is copied when a tensor
    in it moves, and handed on as it is otherwise. Outputs stay where they were computed.

    Use it in `load`, for an instance of KIND_MODEL that has several devices.

    Args:
        module: what to place, in place.
        device_map: paths of modules in `module`, as `named_modules` gives them, and their devices: a
            `torch.device`, a name such as `cuda:1`, or a position in `devices`. The path "" stands for all
            that no other key covers.
        devices: those that may be used, such as `self.devices`; None allows all, by name.

    Returns:
        The module.

    Raises:
        ConfigError: a key is no module's path, a device is none of `devices`, a parameter or buffer isn't
            covered or has no data, or one that several modules share would lie on two devices.

    Sync:
        Moving parameters and buffers waits, as `Tensor.to` does. A copy of inputs from GPU to GPU doesn't: it
        is queued behind the work that both devices' current streams have, and before what they get next. A
        copy of inputs from a GPU to the host waits.
        Source: torch, `aten/src/ATen/native/cuda/Copy.cu`, copy_device_to_device.
    """
    subject = f"device map of {type(module).__name__}"
    modules = dict(module.named_modules(remove_duplicate=False))
    _check_keys(device_map, modules, module, subject)
    wanted = {key: _read_device(value, devices, subject, key) for key, value in device_map.items()}
    chosen = {path: device for path in modules if (device := _longest(wanted, path)) is not None}
    _check_tensors(module, chosen, subject)
    targets = _targets(modules, wanted, chosen)
    _check_shared(module, modules, chosen, targets, subject)
    for path, device in chosen.items():
        modules[path]._apply(_mover(device), recurse=False)
    _check_placed(module, chosen, subject)
    for one, device in {modules[path]: device for path, device in targets.items()}.items():
        one.register_forward_pre_hook(_BringInputs(device), with_kwargs=True)
    return module


@dataclass(frozen=True, slots=True)
class _BringInputs:
    """A forward pre-hook that brings all tensors among the arguments to a device."""

    device: torch.device

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _bring(args, self.device), _bring(kwargs, self.device)


def _bring(value: Any, device: torch.device) -> Any:
    """Give the value with its tensors on the device; the value itself if they all are."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device)
    if isinstance(value, PackedSequence):
        move: Any = value.to  # knows which of its tensors stays on the host
        return move(device)
    if isinstance(value, (tuple, list)):
        brought = [_bring(one, device) for one in value]
        if all(new is old for new, old in zip(brought, value, strict=True)):
            return value
        return value._make(brought) if hasattr(value, "_make") else type(value)(brought)
    if isinstance(value, dict):
        moved = {key: new for key, old in value.items() if (new := _bring(old, device)) is not old}
        if moved:
            value = copy.copy(value)
        for key, new in moved.items():
            value[key] = new
    return value


def _mover(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(device)


def _targets(
    modules: Mapping[str, nn.Module], wanted: Collection[str], chosen: Mapping[str, torch.device]
) -> dict[str, torch.device]:
    """Choose the modules whose inputs are brought to them, and where to.

    Those named in the map; those with tensors of their own whose parts lie on several devices; and the
    outermost of the others that are called, for what is around one of these may lie elsewhere.
    """
    parts: dict[str, set[torch.device]] = {path: set() for path in modules}
    for path, device in chosen.items():
        if path in wanted or _has_tensors(modules[path]):
            for above in _prefixes(path):
                parts[above].add(device)
    targets: dict[str, torch.device] = {}
    whole: set[str] = set()
    for path, one in modules.items():  # each module comes before its parts
        is_whole = len(parts[path]) == 1 and _is_called(one)
        is_inside = any(above in whole for above in _prefixes(path) if above != path)
        if path in wanted or (len(parts[path]) > 1 and _has_tensors(one)):
            targets[path] = chosen[path]
        elif is_whole and not is_inside:
            (targets[path],) = parts[path]
        if is_whole:
            whole.add(path)
    return targets


def _is_called(module: nn.Module) -> bool:
    """Whether a module's parts run inside of its own call; those of a list or a Sequential may not."""
    has_forward = type(module).forward is not nn.Module.forward
    return has_forward and not isinstance(module, nn.Sequential)


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in _tensors(module, recurse=False))


def _tensors(module: nn.Module, *, recurse: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Give all parameters and buffers with their names, shared ones under each of these."""
    yield from module.named_parameters(recurse=recurse, remove_duplicate=False)
    yield from module.named_buffers(recurse=recurse, remove_duplicate=False)


def _prefixes(path: str) -> list[str]:
    """Give the paths of a module and all around it, the longest first, "" last."""
    parts = path.split(".") if path else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def _longest(wanted: Mapping[str, torch.device], path: str) -> torch.device | None:
    return next((wanted[prefix] for prefix in _prefixes(path) if prefix in wanted), None)


def _owner(name: str) -> str:
    """Give the path of the module that has a parameter or buffer."""
    return name.rpartition(".")[0]


def _check_keys(device_map: Any, modules: Mapping[str, nn.Module], module: nn.Module, subject: str) -> None:
    if not isinstance(device_map, Mapping):
        raise ConfigError.of(
            subject,
            expected="a mapping of paths to devices",
            got=type(device_map).__name__,
            remedy="pass a dict such as {'': 0}",
        )
    for key in device_map:
        if key in modules:
            continue
        if key in dict(_tensors(module)):
            got, remedy = "a parameter or buffer", f"name the module that has it, {_owner(key)!r}"
        else:
            close = difflib.get_close_matches(str(key), modules, n=1, cutoff=0.0)
            got, remedy = "no such module", f"correct it; the nearest is {close[0]!r}"
        raise ConfigError.of(
            f"{subject} key {key!r}", expected="the path of a module in it", got=got, remedy=remedy
        )


def _read_device(
    value: object, devices: Sequence[torch.device] | None, subject: str, key: str
) -> torch.device:
    """Read one value of the map."""
    allowed = None if devices is None else ", ".join(map(str, devices))
    try:
        if isinstance(value, (str, torch.device)):
            device = torch.device(value)
            is_exact = device.type != "cuda" or device.index is not None
            if is_exact and (devices is None or device in devices):
                return torch.device("cpu") if device.type == "cpu" else device
        elif isinstance(value, int) and not isinstance(value, bool) and devices is not None:
            return devices[value]
    except (RuntimeError, IndexError):
        pass  # torch knows no such device, or there is none at that position
    raise ConfigError.of(
        f"{subject} key {key!r}",
        expected=f"one of the devices {allowed}, or a position among them"
        if allowed is not None
        else "a torch.device, or a name such as 'cuda:1'",
        got=repr(value)[:80],
        remedy="correct it" if allowed is not None else "correct it; for positions pass devices=self.devices",
    )


def _check_tensors(module: nn.Module, chosen: Mapping[str, torch.device], subject: str) -> None:
    """Refuse tensors that no key covers, and those without data."""
    left = [name for name, _ in _tensors(module) if _owner(name) not in chosen]
    if left:
        more = f" and {len(left) - _MAX_NAMED} more" if len(left) > _MAX_NAMED else ""
        raise ConfigError.of(
            subject,
            expected="a device for every parameter and buffer",
            got=f"none for {', '.join(map(repr, left[:_MAX_NAMED]))}{more}",
            remedy=f"add a key that covers them, such as {_owner(left[0])!r}, or '' for all the rest",
        )
    for name, tensor in _tensors(module):
        if tensor.is_meta and chosen[_owner(name)].type != "meta":
            raise ConfigError.of(
                f"{subject} tensor {name!r}",
                expected="a tensor with data",
                got="one on the device meta",
                remedy="load the weights first",
            )


def _check_shared(
    module: nn.Module,
    modules: Mapping[str, nn.Module],
    chosen: Mapping[str, torch.device],
    targets: Mapping[str, torch.device],
    subject: str,
) -> None:
    """Refuse a tensor or module that has several names, and not one device for all of them."""
    named = [(name, tensor, chosen[_owner(name)]) for name, tensor in _tensors(module)]
    placed = [(path, modules[path], device) for path, device in targets.items()]
    for kind, entries in (("tensor", named), ("module", placed)):
        first: dict[int, tuple[str, torch.device]] = {}
        for name, one, device in entries:
            other, other_device = first.setdefault(id(one), (name, device))
            if device != other_device:
                raise ConfigError.of(
                    f"{subject} {kind} {name!r}",
                    expected=f"the device {other_device} of {other!r}, which is the same {kind}",
                    got=str(device),
                    remedy="give both names one device, or make a copy",
                )


def _check_placed(module: nn.Module, chosen: Mapping[str, torch.device], subject: str) -> None:
    """Refuse a module that has kept a tensor where it was."""
    for name, tensor in _tensors(module):
        if tensor.device != chosen[_owner(name)]:
            raise ConfigError.of(
                f"{subject} tensor {name!r}",
                expected=f"device {chosen[_owner(name)]}",
                got=str(tensor.device),
                remedy="let the module be moved: it overrides _apply",
            )
