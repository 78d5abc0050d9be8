"""Loading weights such that the instances of a host share them.

Tensors of a mapped checkpoint take no memory of their own: all processes that map the file use the same
pages. A conversion ends that, since its results are each process's own. So the first instance on the CPU
writes them to the cache, and all of them map that file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kindaware._cache import Cache, Entry
from kindaware._config.settings import Settings
from kindaware._device.checkpoint import Checkpoint, map_tensors, name_some
from kindaware._device.empty_modules import make_empty
from kindaware._device.module_tree import named_parts, named_tensors
from kindaware._device.modules import convert_module
from kindaware._errors import ConfigError
from kindaware._placement.placement import Placement

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Which weights to load.

    Attributes:
        model: name of the model, for messages and for files of the cache.
        repository: the model's directory. The server may download it into another one at each start, so the
            cache knows the files in it by their place there, and all others by their whole path.
        paths: of the checkpoint's files.
        key: of the state_dict in what was saved; empty where that is the state_dict itself.
        prefix: of the names to take, which lose it.
        strict: whether the checkpoint must have just the network's names.
    """

    model: str
    repository: str
    paths: Sequence[Path]
    key: str = ""
    prefix: str = ""
    strict: bool = True

    def load(
        self,
        network: nn.Module | Callable[[], object],
        placement: Placement,
        settings: Settings,
        environment: Mapping[str, str],
    ) -> nn.Module:
        """Load the weights into a network.

        Args:
            network: the network, which may be on the device `meta`, or a function that makes it.
            placement: the placement of the instance.
            settings: `precision`, `memory_format` and `move_modules` are used.
            environment: of the process; names the cache's folder.

        Returns:
            The network. On the CPU its tensors lie in mapped files, as the settings want them; for a GPU they
            are on the instance's device, unless modules aren't moved there.

        Raises:
            ConfigError: the network can't be made, or the checkpoint's names or shapes aren't the network's.
            CacheError: a conversion is needed, and the cache can't be written to.

        Sync:
            Until another instance has written the converted tensors; on a GPU, host with device.
        """
        module = network if isinstance(network, nn.Module) else make_empty(network)
        tied = _tied(module)
        # Without memory this costs nothing, and it tells what each tensor is to become.
        convert_module("network", module, settings)
        twins = dict(named_tensors(module))
        checkpoint = Checkpoint.open(self.paths, key=self.key, prefix=self.prefix)
        self._assign(module, tied, checkpoint)
        tensors = dict(named_tensors(module))
        if placement.uses_cuda and placement.moves_modules and settings.move_modules:
            device = placement.device
            _replace(module, _unique(tensors, lambda path, one: _like(twins[path], one.to(device))))
            return module
        unfit = {path: one for path, one in tensors.items() if not _fits(one, twins[path], settings)}
        if unfit:

            def write(path: Path) -> None:
                _save(_unique(unfit, lambda name, one: _like(twins[name], one)), path)

            entry = self._entry(checkpoint, {path: twins[path] for path in unfit})
            _replace(module, map_tensors(Cache("weights", environment).obtain(entry, write)))
        return module

    def _assign(self, module: nn.Module, tied: list[list[str]], checkpoint: Checkpoint) -> None:
        """Make the mapped tensors those of the module; what it ties stays tied."""
        try:
            found = module.load_state_dict(checkpoint.tensors, strict=False, assign=True)
        except RuntimeError as error:
            raise self._refusal(
                "tensors of the network's shapes",
                " ".join(str(error).split()),
                "make the network that was trained, with its sizes and its number of classes",
            ) from error
        missing = self._tie(module, tied, set(found.missing_keys))
        unexpected = found.unexpected_keys if self.strict else []
        valueless = {path for path, one in named_tensors(module) if one.is_meta}
        # What the network has made with values may stay where the checkpoint need not be complete.
        missing = missing if self.strict else missing & valueless
        if missing or unexpected:
            self._refuse_names(sorted(missing), unexpected)
        if valueless:
            raise self._refusal(
                "a value for every buffer of the network",
                f"none for {name_some(sorted(valueless))}, which state_dict() leaves out",
                "pass the function that makes the network in place of the network, "
                "and make the buffer from values and not by filling torch.empty",
            )

    def _tie(self, module: nn.Module, tied: list[list[str]], missing: set[str]) -> set[str]:
        """Make one tensor of those with several names; return the names that are still missing."""
        loaded = dict(named_tensors(module))
        for group in tied:
            given = [path for path in group if path not in missing]
            for path in given[1:]:
                if not torch.equal(loaded[path], loaded[given[0]]):
                    raise self._refusal(
                        f"one value of {given[0]!r} and {path!r}, which the network ties",
                        "two",
                        "load the checkpoint of this network, or untie them",
                    )
            if given:
                _replace(module, dict.fromkeys(group, loaded[given[0]]))
                missing = missing.difference(group)
        return missing

    def _refuse_names(self, missing: list[str], unexpected: list[str]) -> None:
        parts = [
            f"{what} {name_some(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        prefix = _common_prefix(missing, unexpected)
        remedy = "load the checkpoint of this network"
        if prefix:
            remedy = f"pass prefix={prefix!r}"
        elif not missing:
            remedy += ", or pass strict=False to leave out what the network doesn't have"
        raise self._refusal("the names of the network's parameters and buffers", "; ".join(parts), remedy)

    def _entry(self, checkpoint: Checkpoint, unfit: Tensors) -> Entry:
        forms = {path: [str(twin.dtype), list(twin.stride())] for path, twin in unfit.items()}
        paths = [path.resolve() for path in self.paths]
        names = [str(path.absolute()).removeprefix(self.repository) for path in self.paths]
        use = {"files": names, "key": self.key, "prefix": self.prefix, "forms": forms}
        return Entry(self.model, use, {"paths": paths, "files": checkpoint.state}, ".pt")

    def _refusal(self, expected: str, got: str, remedy: str) -> ConfigError:
        names = ", ".join(path.name for path in self.paths)
        return ConfigError.of(
            f"model {self.model!r} weights {names}", expected=expected, got=got, remedy=remedy
        )


def _fits(tensor: torch.Tensor, twin: torch.Tensor, settings: Settings) -> bool:
    """Whether a tensor can be used as it is."""
    # Any strides do, unless the setting demands some; also those of sizes of 1, which `Module.to` looks at.
    has_strides = settings.memory_format == "contiguous" or tensor.stride() == twin.stride()
    return has_strides and tensor.dtype == twin.dtype


def _like(twin: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with the dtype and strides of its twin."""
    if tensor.dtype == twin.dtype and tensor.stride() == twin.stride():
        return tensor
    made = torch.empty_strided(twin.shape, twin.stride(), dtype=twin.dtype, device=tensor.device)
    return made.copy_(tensor)


def _save(tensors: Tensors, path: Path) -> None:
    try:
        torch.save(tensors, path)
    except RuntimeError as error:
        # torch doesn't say why.
        free = shutil.disk_usage(path.parent).free // 2**20
        raise OSError(f"torch.save failed with {free} MiB free: {error}") from error


def _unique(tensors: Tensors, make: Callable[[str, torch.Tensor], torch.Tensor]) -> Tensors:
    """Make one tensor of each, such that several names of one tensor are names of one again."""
    made: dict[int, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in made:
            made[id(tensor)] = make(name, tensor)
    return {name: made[id(tensor)] for name, tensor in tensors.items()}


def _replace(module: nn.Module, tensors: Tensors) -> None:
    """Put tensors in the places of those that a module has, as parameters where those are."""
    old = dict(named_tensors(module))

    def alike(path: str, tensor: torch.Tensor) -> torch.Tensor:
        is_parameter = isinstance(old[path], nn.Parameter)
        return nn.Parameter(tensor, old[path].requires_grad) if is_parameter else tensor

    parts = dict(named_parts(module))
    for path, tensor in _unique(tensors, alike).items():
        parent, _, name = path.rpartition(".")
        # Modules such as nn.LSTM keep lists of their tensors, which they update here.
        setattr(parts[parent], name, tensor)


def _tied(module: nn.Module) -> list[list[str]]:
    """Return the names of each tensor that has several."""
    names: dict[int, list[str]] = {}
    for path, tensor in named_tensors(module):
        names.setdefault(id(tensor), []).append(path)
    return [group for group in names.values() if len(group) > 1]


def _common_prefix(missing: Sequence[str], unexpected: Iterable[str]) -> str:
    """Return what the checkpoint's names have in front of all those that the network misses."""
    given = set(unexpected)
    for name in given if missing else ():
        prefix = name.removesuffix(missing[0])
        if all(prefix + one in given for one in missing):
            return prefix
    return ""
