"""A module spread over several devices by a device map, with hooks that move inputs to the part that runs."""

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
    """Spread a module over several devices according to a device map.

        def load(self):
            return place_module(Net(), {"embed": 0, "layers": 0, "layers.5": 1, "head": 1}, self.devices)

    Each parameter and buffer goes to the device of the longest key that is a prefix of its path: `layers.5`
    above lies on the second device, the other layers on the first. From then on inputs follow: before a
    submodule runs that lies on one device as a whole, or is named in the map, all tensors among its arguments
    are moved to its device, including those in tuples, lists and dicts. A container is copied if a tensor in
    it moves, and passed on unchanged otherwise. Outputs stay on the device that computed them.

    Use it in `load`, for an instance of KIND_MODEL with several devices.

    Args:
        module: the module; it is modified in place.
        device_map: paths of submodules, as `named_modules` yields them, and their devices: a `torch.device`,
            a name such as `cuda:1`, or an index into `devices`. The path "" covers whatever no other key
            covers.
        devices: the allowed devices, such as `self.devices`; None allows any, by name.

    Returns:
        The same module.

    Raises:
        ConfigError: a key is not the path of a submodule, a device is not among `devices`, a parameter or
            buffer isn't covered or has no data, or one that several modules share would lie on two devices.

    Sync:
        Moving parameters and buffers blocks the host, as `Tensor.to` does. Moving inputs from GPU to GPU
        doesn't: the copy is queued behind the work on both devices' current streams, and ahead of what they
        get next. Moving inputs from a GPU to the host blocks.
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
    # Every check that can be made before the first tensor moves has passed: a refused map moves nothing.
    for path, device in chosen.items():
        modules[path]._apply(_mover(device), recurse=False)
    _check_placed(module, chosen, subject)
    # Keyed by module, since one that has several names must get the hook only once.
    for one, device in {modules[path]: device for path, device in targets.items()}.items():
        one.register_forward_pre_hook(_BringInputs(device), with_kwargs=True)
    return module


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _BringInputs:
    """A forward pre-hook that moves all tensors among the arguments to a device.

    A class and not a closure, so that a module with hooks can still be copied and pickled.

    Attributes:
        device: where the module lies.
    """

    device: torch.device

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _bring(args, self.device), _bring(kwargs, self.device)


def _bring(value: Any, device: torch.device) -> Any:
    """Return the value with its tensors on the device; the same object if they already are."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device)
    if isinstance(value, PackedSequence):
        move: Any = value.to  # knows which of its tensors stays on the host
        return move(device)
    if isinstance(value, (tuple, list)):
        brought = [_bring(one, device) for one in value]
        if all(new is old for new, old in zip(brought, value, strict=True)):
            return value
        # A named tuple takes its fields one by one, so its constructor can't be called with a list.
        return value._make(brought) if hasattr(value, "_make") else type(value)(brought)
    if isinstance(value, dict):
        moved = {key: new for key, old in value.items() if (new := _bring(old, device)) is not old}
        # Copied and then updated, so that a subclass, such as a model's output class, keeps its type.
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
    """Choose the modules that get a hook, and the device to which it moves their inputs.

    These are the modules named in the map; modules with tensors of their own whose submodules lie on several
    devices; and, of the modules that lie on one device as a whole, the outermost that are called, since
    the modules around them may lie elsewhere.
    """
    parts: dict[str, set[torch.device]] = {path: set() for path in modules}
    for path, device in chosen.items():
        if path in wanted or _has_tensors(modules[path]):
            for above in _prefixes(path):
                parts[above].add(device)
    targets: dict[str, torch.device] = {}
    whole: set[str] = set()
    # named_modules yields each module before its submodules, so `whole` is complete for all prefixes.
    for path, one in modules.items():
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
    """Whether the submodules run inside the module's own call; those of a list or Sequential may not."""
    has_forward = type(module).forward is not nn.Module.forward
    return has_forward and not isinstance(module, nn.Sequential)


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in _tensors(module, recurse=False))


def _tensors(module: nn.Module, *, recurse: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all parameters and buffers by name; a shared one under each of its names."""
    yield from module.named_parameters(recurse=recurse, remove_duplicate=False)
    yield from module.named_buffers(recurse=recurse, remove_duplicate=False)


def _prefixes(path: str) -> list[str]:
    """Return the paths of a module and of all modules around it, longest first, "" last."""
    parts = path.split(".") if path else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def _longest(wanted: Mapping[str, torch.device], path: str) -> torch.device | None:
    return next((wanted[prefix] for prefix in _prefixes(path) if prefix in wanted), None)


def _owner(name: str) -> str:
    """Return the path of the module that owns a parameter or buffer."""
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
    """Return the device that a value of the map denotes."""
    allowed = None if devices is None else ", ".join(map(str, devices))
    try:
        if isinstance(value, (str, torch.device)):
            device = torch.device(value)
            # 'cuda' without an index would mean whichever device is current when a tensor is moved.
            is_exact = device.type != "cuda" or device.index is not None
            if is_exact and (devices is None or device in devices):
                return torch.device("cpu") if device.type == "cpu" else device
        elif isinstance(value, int) and not isinstance(value, bool) and devices is not None:
            return devices[value]
    except (RuntimeError, IndexError):
        # torch doesn't know the name, or the index is out of range.
        pass
    raise ConfigError.of(
        f"{subject} key {key!r}",
        expected=f"one of the devices {allowed}, or a position among them"
        if allowed is not None
        else "a torch.device, or a name such as 'cuda:1'",
        got=repr(value)[:80],
        remedy="correct it" if allowed is not None else "correct it; for positions pass devices=self.devices",
    )


def _check_tensors(module: nn.Module, chosen: Mapping[str, torch.device], subject: str) -> None:
    """Refuse tensors that no key covers, and tensors without data."""
    uncovered = [name for name, _ in _tensors(module) if _owner(name) not in chosen]
    if uncovered:
        more = f" and {len(uncovered) - _MAX_NAMED} more" if len(uncovered) > _MAX_NAMED else ""
        raise ConfigError.of(
            subject,
            expected="a device for every parameter and buffer",
            got=f"none for {', '.join(map(repr, uncovered[:_MAX_NAMED]))}{more}",
            remedy=f"add a key that covers them, such as {_owner(uncovered[0])!r}, or '' for all the rest",
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
    """Refuse a tensor or module whose several names map to different devices."""
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
    """Refuse a module whose tensors did not move."""
    for name, tensor in _tensors(module):
        if tensor.device != chosen[_owner(name)]:
            raise ConfigError.of(
                f"{subject} tensor {name!r}",
                expected=f"device {chosen[_owner(name)]}",
                got=str(tensor.device),
                remedy="let the module be moved: it overrides _apply",
            )
