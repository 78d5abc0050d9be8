"""Torch as it works without an accelerator, for what the simulation itself computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextmanager
def without_dispatch() -> Iterator[None]:
    """Turn dispatch modes off: up to torch 2.4, some of torch's C++ fails under a mode."""
    guard: Any = torch._C._DisableTorchDispatch()  # lasts as long as the object
    try:
        yield
    finally:
        del guard


class plain_torch:  # noqa: N801 - used as a function
    """Computes on host memory as torch does without an accelerator, without gradients and autocast.

    It is entered several times per operation, so it holds torch's C++ guards rather than context managers
    written in Python, which take longer.
    """

    __slots__ = ("_autocast", "_dispatch", "_functions", "_inference")

    _autocast: Any
    _dispatch: Any
    _functions: Any
    _inference: Any

    def __enter__(self) -> None:
        self._dispatch = torch._C._DisableTorchDispatch()
        self._functions = torch._C.DisableTorchFunction()
        self._functions.__enter__()
        self._inference = torch._C._InferenceMode(True)
        self._inference.__enter__()
        self._autocast = torch._C._ExcludeDispatchKeyGuard(_AUTOCAST)
        self._autocast.__enter__()

    def __exit__(self, *_: object) -> None:
        self._autocast.__exit__(None, None, None)
        self._inference.__exit__(None, None, None)
        self._functions.__exit__(None, None, None)
        self._dispatch = None
