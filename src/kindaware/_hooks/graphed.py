"""`graphed`: the mark of a method that `step` calls and that CUDA graphs are captured of."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kindaware._hooks.attachment import attached

_MARK = "_kindaware_graphed"

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class Graphed:
    """A method with the mark.

    Attributes:
        function: the method as it is written, which takes self.
        signature: its parameters, self included.
    """

    function: Callable[..., Any]
    signature: inspect.Signature

    @property
    def name(self) -> str:
        """The method's name, for messages."""
        return self.function.__name__


def graphed(method: Method) -> Method:
    """Mark a method that `step` calls, to have it replayed by CUDA graphs.

        class TritonPythonModel(KindAwareModel):
            cuda_graphs = (1, 8, 32)

            @graphed
            def decode(self, tokens, slots, lengths):
                return self.model(tokens, self.cache, slots, lengths)

    With the setting `cuda_graphs`, on a GPU, a graph is captured for each of its sizes when the instance
    starts, with the inputs of the first call that `step` makes in the warm-up. From then on a call with so
    many rows or fewer is padded to the next size with copies of its last row, and replayed. All other calls,
    those on a CPU and those of other threads than the one that runs the hooks run the method itself.

    The method takes tensors, [rows, ...] each, on the instance's device, and returns a tensor, or tensors in
    a tuple, list or dict, [rows, ...] each, there too. What a replay returns is a copy, so states may keep
    it. The method must leave its arguments as they are, do the same for all calls with the same number of
    rows, and wait for nothing. It may write to memory of the model's; since the last row is repeated, what it
    writes for a row twice must be the same as once.

    Returns:
        The method, for all who call it.

    Raises:
        OutputError: when called: an argument or a result isn't as above.
        NotInitializedError: when called before `initialize`.

    Sync:
        None of its own, when called: the work is queued on the instance's stream.
    """
    mark = Graphed(method, inspect.signature(method))

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        graphs = getattr(attached(self, f"self.{mark.name}"), "graphs", None)
        # While the model is loaded there is nothing to replay yet.
        if graphs is None:
            return method(self, *args, **kwargs)
        return graphs.call(mark, mark.signature.bind(self, *args, **kwargs))

    setattr(call, _MARK, mark)
    return cast("Method", call)


def mark_of(method: Any) -> Graphed | None:
    """Return the mark of an attribute of a class, or bound to an object; None if it has none."""
    return getattr(method, _MARK, None) if callable(method) else None


def graphed_methods(model: object) -> list[Graphed]:
    """Return the methods of a class, or of an object's, that have the mark, by name."""
    model_class = model if isinstance(model, type) else type(model)
    marks = [mark_of(inspect.getattr_static(model_class, name)) for name in dir(model_class)]
    return [one for one in marks if one is not None]
