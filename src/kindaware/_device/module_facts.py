"""What code compiled from a module depends on: the Python files that were loaded, and the module's state."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kindaware._device.module_tree import named_parts, own_tensors

_OF_VERSIONS = sys.stdlib_module_names | {"torch", "sympy", "mpmath"}
"""Packages that a version stands for. torch imports parts of itself, and these two, when it needs them."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_OF_TORCH = frozenset({*vars(nn.Module()), "_compiled_call_impl"}) - {"training"}


def digest_code() -> str:
    """Return a digest of torch's and Python's versions, and of the files of all other imported modules.

    A module's forward may call any of them. Their times don't count: a repository that the server downloads
    has new ones, and an image that is built again. Of libraries in machine code only the size does.
    """
    return _digest([torch.__version__, sys.version, *sorted(_loaded_files())])


def digest_state(module: nn.Module, repository: str) -> str:
    """Return a digest of what a module's forward may branch on: its parts and their attributes, not weights.

    Attributes count as they are printed, without addresses: numbers, texts, and configurations that print
    what is in them.

    Args:
        module: the module.
        repository: the model's directory, which attributes may name. It doesn't count: the server downloads
            a repository into another one at each start.
    """
    return _digest(_facts_of(module, repository))


def _loaded_files() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and name.partition(".")[0] not in _OF_VERSIONS:
            try:
                yield f"{name} {_content_of(Path(path))}"
            except OSError:  # in an archive, or gone since
                yield name


def _content_of(path: Path) -> str:
    if path.suffix != ".py":
        return str(path.stat().st_size)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _facts_of(module: nn.Module, repository: str) -> Iterator[str]:
    for path, part in named_parts(module):
        yield f"{path}: {type(part).__module__}.{type(part).__qualname__}"
        for name, tensor in own_tensors(part):
            yield f"{name} {tensor.dtype} {list(tensor.shape)} {tensor.stride()}"
        for name, value in sorted(vars(part).items()):
            if name not in _OF_TORCH:
                yield f"{name} {_ADDRESS.sub('', repr(value)).replace(repository, '')}"


def _digest(facts: Any) -> str:
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()
