"""Spans around parts of the code: their seconds, and their place in torch's trace."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch

PREFIX = "kindaware."
"""What the names of all spans begin with in the trace."""


class Recorder:
    """Adds up what each span takes, without the spans in it.

    For one thread at a time.

    Attributes:
        is_traced: let the spans show in torch's trace, which costs a few microseconds each.
        seconds: by span, on the host's clock.
    """

    def __init__(self) -> None:
        self.is_traced = False
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def clear(self) -> None:
        """Reset the sums."""
        self.seconds.clear()

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Add the time of the block to a span."""
        trace = torch.profiler.record_function(PREFIX + name) if self.is_traced else contextlib.nullcontext()
        with trace:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                yield
            finally:
                lasted = time.perf_counter() - started
                self.seconds[name] += lasted - self._inner.pop()
                if self._inner:
                    self._inner[-1] += lasted

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Put a span around a method of one object; its class stays as it is."""
        function: Callable[..., Any] = getattr(owner, method)

        @wraps(function)
        def spanned(*args: Any, **kwargs: Any) -> Any:
            with self.span(name):
                return function(*args, **kwargs)

        vars(owner)[method] = spanned
