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

    A module's forward may call any of them. Their sizes and times stand for what is in them.
    """
    return _digest([torch.__version__, sys.version, *sorted(_loaded_files())])


def digest_state(module: nn.Module) -> str:
    """Return a digest of what a module's forward may branch on: its parts and their attributes, not weights.

    Attributes count as they are printed, without addresses: numbers, texts, and configurations that print
    what is in them.
    """
    return _digest(_facts_of(module))


def _loaded_files() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and name.partition(".")[0] not in _OF_VERSIONS:
            try:
                found = Path(path).stat()
            except OSError:  # in an archive, or gone since
                yield name
            else:
                yield f"{name} {found.st_size} {found.st_mtime_ns}"


def _facts_of(module: nn.Module) -> Iterator[str]:
    for path, part in named_parts(module):
        yield f"{path}: {type(part).__module__}.{type(part).__qualname__}"
        for name, tensor in own_tensors(part):
            yield f"{name} {tensor.dtype} {list(tensor.shape)} {tensor.stride()}"
        for name, value in sorted(vars(part).items()):
            if name not in _OF_TORCH:
                yield f"{name} {_ADDRESS.sub('', repr(value))}"


def _digest(facts: Any) -> str:
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()
