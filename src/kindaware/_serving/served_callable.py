"""Models made of a module or function, for the process of a model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from kindaware._model import KindAwareModel
from kindaware._serving.forms import CallForms


class _ServedCallable(KindAwareModel):
    """What the models below have in common: the callable is loaded, and its modules are found."""

    _payload: ClassVar[Path]
    _forms: ClassVar[CallForms]

    def load(self) -> nn.Module | None:
        """Load the callable; a module becomes the model, those that a function uses are placed like one."""
        # What `serve` has written for this server, in a directory of the user's own.
        if self._payload.suffix == ".pt2":
            self._function: Any = torch.export.load(self._payload).module()
        elif self._payload.suffix == ".torchscript":
            self._function = torch.jit.load(str(self._payload), map_location="cpu")  # type: ignore[no-untyped-call]
        else:
            self._function = torch.load(self._payload, map_location="cpu", weights_only=False, mmap=True)
        if isinstance(self._function, nn.Module):
            return self._function
        self.used_modules = find_modules(self._function)
        return None

    def _target(self) -> Any:
        # A module may have been replaced on its way to the device, as by torch.compile.
        return self.model if isinstance(self._function, nn.Module) else self._function


class ServedFunction(_ServedCallable):
    """A module or function that is called."""

    def forward(self, **inputs: Any) -> Any:
        """Call it, and name what it returns."""
        return self._forms.name(self._forms.call(self._target(), inputs))


class ServedCoroutine(_ServedCallable):
    """A function defined with `async def`."""

    async def forward(self, **inputs: Any) -> Any:
        """Await it, and name what it returns."""
        return self._forms.name(await self._forms.call(self._target(), inputs))


class ServedGenerator(_ServedCallable):
    """A generator, each item of which is a response."""

    def stream(self, **inputs: Any) -> Iterator[Any]:
        """Yield the items, named."""
        for item in self._forms.call(self._target(), inputs):
            yield self._forms.name(item)


KINDS = {"function": ServedFunction, "coroutine": ServedCoroutine, "generator": ServedGenerator}


def find_modules(function: Any) -> list[nn.Module]:
    """Return the modules that a function uses: bound to it, in its closure, and among its globals."""
    if isinstance(function, functools.partial):
        parts = [function.func, *function.args, *function.keywords.values()]
        return [module for part in parts for module in find_modules(part)]
    if inspect.ismethod(function):
        return [*find_modules(function.__self__), *find_modules(function.__func__)]
    if isinstance(function, nn.Module):
        return [function]
    if not inspect.isfunction(function):
        return [one for one in getattr(function, "__dict__", {}).values() if isinstance(one, nn.Module)]
    used = inspect.getclosurevars(function)
    return [one for one in {**used.globals, **used.nonlocals}.values() if isinstance(one, nn.Module)]
