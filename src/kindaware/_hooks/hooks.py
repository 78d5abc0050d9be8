"""The hooks: one table of what each may be, and those that answer requests, bound to an instance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kindaware._hooks.binding import Call
from kindaware._hooks.blame import blamed
from kindaware._tensors.bytes_arrays import Value

_RULE = "rule"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Rule:
    """What a hook may be.

    Attributes:
        num_arguments: the number of its arguments without self; None if its parameters are bound to inputs.
        may_be_async: whether it may be written with `async def`; all that are run on one event loop.
        takes_requests: whether it may have an additional parameter `requests`.
        sees_batch: whether it is called once per batch, with the requests of all of it.
        skips_streams: whether it is not called for `stream`, so that a class with only that can't have it.
    """

    num_arguments: int | None
    may_be_async: bool = False
    takes_requests: bool = False
    sees_batch: bool = False
    skips_streams: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Hooks:
    """The hooks that answer requests, bound to an instance; None for those that the class doesn't define.

    Each is a field with its rule, in the order in which a batch goes through them; an optional one is passed
    by keyword. One that is defined keeps a model off the fast path.

    Attributes:
        preprocess: called per request.
        row_cost: called per request, after `preprocess`.
        collate: called per input of a batch.
        forward: called with a batch's tensors through `call`; `stream` or `begin` if the model is decoupled,
            which are called with a single request's.
        begin_batch: called in place of `begin` if several streams begin at once, with the inputs of each.
        step: called with the states of all open streams.
        postprocess: called per batch.
        end: called with the state of a stream that has ended.
        call: how tensors are passed to `forward`.
        is_async: whether `forward` was defined with `async def`; here it is a blocking function already.
        with_requests: names of the hooks that get the requests' `RequestInfo`, in the order of the fields.
    """

    preprocess: Callable[..., Mapping[str, Value]] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, takes_requests=True)}
    )
    row_cost: Callable[[Mapping[str, Any]], float] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, skips_streams=True)}
    )
    collate: Callable[[str, list[Any]], Value] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(2, skips_streams=True)}
    )
    forward: Callable[..., Any] = field(
        metadata={_RULE: Rule(None, may_be_async=True, takes_requests=True, sees_batch=True)}
    )
    begin_batch: Callable[..., Any] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, takes_requests=True, sees_batch=True)}
    )
    step: Callable[..., Any] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, takes_requests=True, sees_batch=True)}
    )
    postprocess: Callable[..., Any] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, takes_requests=True, sees_batch=True)}
    )
    end: Callable[[Any], Any] | None = field(default=None, kw_only=True, metadata={_RULE: Rule(1)})
    call: Call
    is_async: bool = False
    with_requests: tuple[str, ...] = field(init=False)

    @classmethod
    def of(cls, model: object, forward: Callable[..., Any], call: Call, *, is_async: bool) -> Hooks:
        """Return the hooks of a model.

        Args:
            model: the user's object; the optional hooks that its class defines are bound.
            forward: its `forward`, `stream` or `begin`.
            call: how `forward` gets its inputs.
            is_async: whether `forward` is asynchronous.
        """
        defined = {name: getattr(model, name, None) for name in _OPTIONAL}
        optional = {name: hook and blamed(name, hook) for name, hook in defined.items()}
        return cls(forward, call, is_async=is_async, **optional)

    def defined(self) -> dict[str, Callable[..., Any]]:
        """Return the hooks that there are, by the names of their fields."""
        hooks = {name: getattr(self, name) for name in _OF_REQUESTS}
        return {name: hook for name, hook in hooks.items() if hook is not None}

    @property
    def is_plain(self) -> bool:
        """Whether `forward` is the only hook, and gets nothing but its inputs."""
        return all(getattr(self, name) is None for name in _OPTIONAL) and not self.call.extras

    @property
    def seeing_batch(self) -> tuple[str, ...]:
        """Names of the hooks that get the `RequestInfo` of a whole batch, in the order of their calls."""
        return tuple(name for name in self.with_requests if _OF_REQUESTS[name].sees_batch)

    def __post_init__(self) -> None:
        named = [name for name, rule in _OF_REQUESTS.items() if rule.takes_requests and self._gets(name)]
        object.__setattr__(self, "with_requests", tuple(named))

    def _gets(self, name: str) -> bool:
        # For `forward` the call decides: its parameter `requests` may be an input of that name.
        return "requests" in self.call.extras if name == "forward" else names_requests(getattr(self, name))


_OF_REQUESTS: dict[str, Rule] = {
    one.name: one.metadata[_RULE] for one in fields(Hooks) if _RULE in one.metadata
}
_OPTIONAL = tuple(name for name in _OF_REQUESTS if name != "forward")

HOOKS_OF_INSTANCE = {
    "load": Rule(0, may_be_async=True),
    "warmup_inputs": Rule(1),
    "unload": Rule(0, may_be_async=True),
    "is_ready": Rule(0),
}
"""The hooks of an instance's life: no request is answered by them, and they are called where they are due."""

HOOKS = {
    **HOOKS_OF_INSTANCE,
    **_OF_REQUESTS,
    "stream": _OF_REQUESTS["forward"],
    "begin": Rule(None, takes_requests=True),
}
"""All hooks; `stream`, or `begin` and `step`, take the place of `forward` in a decoupled model."""


def names_requests(hook: Any) -> bool:
    """Whether a hook has a parameter `requests`, and so gets a `RequestInfo` per request."""
    return hook is not None and "requests" in inspect.signature(hook).parameters
