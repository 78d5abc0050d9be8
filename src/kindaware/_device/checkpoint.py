"""A checkpoint's files, mapped into memory: opening one reads names and shapes, and no weights."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kindaware._errors import ConfigError, describe

_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of one or several files.

    Attributes:
        tensors: by name. They lie in mapped files, whose pages all processes share. A write to one changes
            the process's own copy of the page.
        state: what tells the files from others at the same paths: sizes and times. The kernel sets the time
            of change when a file is written, unpacked or moved; unlike the time of modification, no program
            can set it.
    """

    tensors: Mapping[str, Any]
    state: Sequence[object]

    @classmethod
    def open(cls, paths: Sequence[Path], *, key: str, prefix: str) -> Checkpoint:
        """Map the files.

        Args:
            paths: of the files: `.safetensors`, or what `torch.save` wrote.
            key: of the state_dict in what was saved; empty where that is the state_dict itself.
            prefix: of the names to take, which lose it.

        Raises:
            ConfigError: a file isn't there, has more in it than tensors, or can't be mapped.
        """
        tensors: dict[str, Any] = {}
        states = []
        for path in paths:
            states.append(_check_file(path))  # before it is read: it may be replaced at any time
            state = _state_dict_of(path, key)
            taken = {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
            if not taken:
                raise _refusal(path, f"names that begin with {prefix!r}", _some(state), "correct prefix")
            tensors.update(taken)
        return cls(tensors, states)


def map_tensors(path: Path) -> Any:
    """Return what `torch.save` wrote, its tensors mapped; nothing in the file is run.

    Raises:
        Exception: torch's, if there is more in the file, or it isn't one of torch's.
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_file(path: Path) -> list[object]:
    """Return a file's size and times."""
    if not path.is_file():
        remedy = "put it there; a relative path starts in the folder of model.py"
        raise _refusal(path, "a file with weights", "none", remedy)
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _state_dict_of(path: Path, key: str) -> Mapping[str, Any]:
    saved = _read(path)
    if key:
        if not isinstance(saved, Mapping) or key not in saved:
            raise _refusal(path, f"the key {key!r}", _some(saved), "correct key")
        saved = saved[key]
    if not isinstance(saved, Mapping):
        raise _refusal(path, "a state_dict", type(saved).__name__, "save network.state_dict()")
    nested = [name for name, one in saved.items() if isinstance(one, Mapping)]
    if nested and not any(isinstance(one, torch.Tensor) for one in saved.values()):
        raise _refusal(path, "a state_dict", _some(saved), f"say which it is in, such as key={nested[0]!r}")
    return saved


def _read(path: Path) -> Any:
    read = _safetensors_reader(path) if path.suffix == ".safetensors" else map_tensors
    # The format of torch before 1.6 can't be mapped.
    if read is map_tensors and not zipfile.is_zipfile(path):
        raise _refusal(
            path,
            "a file that can be mapped, of torch.save or safetensors",
            "another format",
            "write it anew: torch.save(torch.load(path, weights_only=True), path)",
        )
    try:
        return read(path)
    except Exception as error:
        remedy = "save network.state_dict(); a network with its code is loaded by torch.jit.load"
        raise _refusal(path, "tensors and nothing else", describe(error), remedy) from error


def _safetensors_reader(path: Path) -> Callable[[Path], Any]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        remedy = "pip install safetensors where the server runs"
        raise _refusal(path, "the package safetensors", "none", remedy) from None
    return load_file


def _some(saved: Any) -> str:
    if not isinstance(saved, Mapping):
        return type(saved).__name__
    return "keys " + name_some(list(map(str, saved)))


def name_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _refusal(path: Path, expected: str, got: str, remedy: str) -> ConfigError:
    return ConfigError.of(f"weights {str(path)!r}", expected=expected, got=got, remedy=remedy)
