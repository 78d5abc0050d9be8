"""The contract of the hooks, checked when the model loads: their names, and how `forward` gets its inputs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kindaware._errors import ConfigError
from kindaware._settings import SETTING_NAMES
from kindaware._spec import ModelSpec

HOOKS = (
    "load",
    "forward",
    "preprocess",
    "collate",
    "postprocess",
    "warmup_inputs",
    "unload",
    "is_ready",
    "stream",
)
DECLARATIONS = ("inputs", "outputs", "max_batch_size")
RESERVED_PARAMETERS = ("lengths", "requests")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CLOSE = 0.86
"""How alike names must be for one to be taken as a misspelling: `foward` is, `download` (unload) isn't."""


def check_class(model_class: type, base: type) -> None:
    """Refuse a class that can't be what its author meant.

    Args:
        model_class: the user's class.
        base: the library's base class; what the classes between the two define is checked.

    Raises:
        ConfigError: `load` or `forward` is missing, `execute` is overridden, a hook is asynchronous or not
            built, or a public name is close to the name of a hook or setting.
    """
    own = _own_names(model_class, base)
    subject = f"class {model_class.__name__}"
    if "execute" in own:
        raise ConfigError.of(
            subject,
            expected="execute left to KindAwareModel",
            got="its own execute",
            remedy="implement forward instead, or derive from kindaware.DevicePlacement to keep execute",
        )
    for name, value in own.items():
        if not name.startswith("_") and not hasattr(base, name) and name not in HOOKS:
            _refuse_misspelling(subject, name, value)
    if "stream" in own:
        raise ConfigError.of(
            subject, expected="forward", got="stream", remedy="streaming is not built in this version"
        )
    for name in ("load", "forward"):
        if not callable(getattr(model_class, name, None)):
            raise ConfigError.of(
                subject,
                expected=f"a method {name}",
                got=f"methods {sorted(key for key in own if key in HOOKS)}",
                remedy="define load(self) to return the module"
                if name == "load"
                else "define forward(self, ...) with a parameter per input",
            )
    for name in own.keys() & set(HOOKS):
        hook = getattr(model_class, name)
        is_async = inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook)
        if is_async or not (callable(hook) or hook is None):
            raise ConfigError.of(
                f"{subject} hook {name}",
                expected="a plain method",
                got="async def" if is_async else type(hook).__name__,
                remedy="define it with def",
            )


def _own_names(model_class: type, base: type) -> dict[str, Any]:
    """Collect what the user's classes define, the most derived definition of each name."""
    own: dict[str, Any] = {}
    for one in reversed(model_class.__mro__):
        if one not in base.__mro__:
            own.update(vars(one))
    return own


def _refuse_misspelling(subject: str, name: str, value: object) -> None:
    known = HOOKS if callable(value) else (*SETTING_NAMES, *DECLARATIONS)
    plain = _plain(name)
    for candidate in known:
        other = _plain(candidate)
        is_close = difflib.SequenceMatcher(None, plain, other).ratio() >= _CLOSE
        if is_close or sorted(plain) == sorted(other):
            raise ConfigError.of(
                f"{subject} attribute {name!r}",
                expected=f"the name {candidate!r}",
                got=repr(name),
                remedy="correct the name, or begin it with an underscore if it is a helper of your own",
            )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


@dataclass(frozen=True, slots=True)
class Call:
    """How a batch's tensors are handed to `forward`.

    Attributes:
        positional: input names in order, or None when tensors go by keyword.
    """

    positional: tuple[str, ...] | None

    def __call__(self, forward: Callable[..., Any], inputs: Mapping[str, torch.Tensor]) -> Any:
        """Call `forward` with one batch."""
        if self.positional is None:
            return forward(**inputs)
        return forward(*[inputs[name] for name in self.positional])

    @classmethod
    def bind(cls, forward: Callable[..., Any], spec: ModelSpec, subject: str) -> Call:
        """Decide from `forward`'s parameters how it gets the declared inputs.

        By keyword when every declared input names a parameter, by position in the configuration's order when
        none does. An input that may be absent must name a parameter with a default.

        Raises:
            ConfigError: only some inputs name a parameter, or their number doesn't fit.
        """
        parameters = list(inspect.signature(forward).parameters.values())
        names = [spec.name for spec in spec.inputs]
        named = _by_name(parameters)
        takes_any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        subject = f"{subject} forward{_signature(forward)}"
        reserved = [name for name in RESERVED_PARAMETERS if name in named and name not in names]
        if reserved:
            raise ConfigError.of(
                subject,
                expected="parameters for inputs only",
                got=f"the reserved parameter {reserved[0]!r}",
                remedy="rename it; this version does not pass lengths or request metadata",
            )
        matching = [name for name in names if name in named]
        if names and (len(matching) == len(names) or takes_any_name):
            _check_keywords(parameters, spec, subject)
            return cls(positional=None)
        if matching:
            missing = [name for name in names if name not in named]
            raise ConfigError.of(
                subject,
                expected=f"a parameter for each input {names}, or for none of them",
                got=f"none for {missing}",
                remedy="name the parameters after the inputs in config.pbtxt" + _hint(missing, named),
            )
        _check_positions(parameters, spec, subject)
        return cls(positional=tuple(names))


def _by_name(parameters: Sequence[inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@dataclass(frozen=True, slots=True)
class Hooks:
    """The user's hooks, bound; None for those that the class leaves to the library.

    Attributes:
        forward: gets a batch's tensors through `call`.
        call: how they are handed over.
        preprocess: per request.
        collate: per input of a group.
        postprocess: per batch.
    """

    forward: Callable[..., Any]
    call: Call
    preprocess: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]] | None = None
    collate: Callable[[str, list[torch.Tensor]], torch.Tensor] | None = None
    postprocess: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]] | None = None


def _signature(forward: Callable[..., Any]) -> str:
    return "(" + ", ".join(str(p) for p in inspect.signature(forward).parameters.values()) + ")"


def _hint(missing: Sequence[str], named: Mapping[str, inspect.Parameter]) -> str:
    for name in missing:
        close = difflib.get_close_matches(name, named)
        if close:
            return f" ({close[0]!r} looks like {name!r})"
    return ""


def _check_keywords(parameters: Sequence[inspect.Parameter], spec: ModelSpec, subject: str) -> None:
    names = [tensor.name for tensor in spec.inputs]
    named = _by_name(parameters)
    for parameter in parameters:
        is_given = parameter.name in names and parameter.name in named
        is_required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if is_required and not is_given:
            raise ConfigError.of(
                subject,
                expected=f"parameters for the inputs {names}",
                got=f"a further parameter {parameter.name!r} without a default",
                remedy="remove it, declare an input of that name, or give it a default",
            )
    for tensor in spec.inputs:
        target = named.get(tensor.name)
        if tensor.optional and target is not None and target.default is target.empty:
            raise ConfigError.of(
                subject,
                expected=f"a default for the optional input {tensor.name!r}",
                got="none",
                remedy=f"write {tensor.name}=None",
            )


def _check_positions(parameters: Sequence[inspect.Parameter], spec: ModelSpec, subject: str) -> None:
    names = [tensor.name for tensor in spec.inputs]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    num_required = sum(p.default is p.empty for p in positional)
    most = len(names) if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    needs_keyword = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    if needs_keyword or not num_required <= len(names) <= most:
        raise ConfigError.of(
            subject,
            expected=f"a parameter for each of the {len(names)} inputs {names}",
            got=f"{most} positional" if num_required == most else f"{num_required} to {most} positional",
            remedy="give forward one parameter per input of config.pbtxt",
        )
    optional = [tensor.name for tensor in spec.inputs if tensor.optional]
    if optional:
        raise ConfigError.of(
            subject,
            expected=f"parameters named after the inputs, since {optional} may be absent",
            got="parameters by position",
            remedy=f"name them {', '.join(names)}",
        )
