"""The way in which `forward`, `stream` or `begin` gets its inputs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kindaware._config.model_spec import ModelSpec
from kindaware._errors import ConfigError
from kindaware._tensors.bytes_arrays import Value

RESERVED_PARAMETERS = ("lengths", "requests")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Parameters:
    """The parameters of `forward` that may get what `preprocess` returns, by name.

    Attributes:
        names: names of the parameters.
        required: those without a default.
        takes_any_name: whether it takes any further name, with `**inputs`.
    """

    names: frozenset[str]
    required: frozenset[str]
    takes_any_name: bool

    @classmethod
    def of(cls, parameters: Sequence[inspect.Parameter]) -> Parameters | None:
        """Return the parameters; None if one of them can't be passed by name."""
        if any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in parameters):
            return None
        named = _by_name(parameters)
        required = frozenset(name for name, p in named.items() if p.default is p.empty)
        return cls(frozenset(named), required, any(p.kind is p.VAR_KEYWORD for p in parameters))

    def take(self, names: Collection[str]) -> bool:
        """Whether `forward` can be called with tensors of these names."""
        return self.required <= set(names) and (self.takes_any_name or self.names >= set(names))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call:
    """How a batch's tensors are passed to `forward`.

    Attributes:
        positional: input names in positional order; None if tensors are passed by keyword.
        extras: those of `RESERVED_PARAMETERS` that it names; they are always passed by keyword.
        parameters: the parameters that may get what `preprocess` returns under names of its own; None if
            there is no such hook, or they can't.
        takes_inputs: whether it can be called with the declared inputs.
    """

    positional: tuple[str, ...] | None
    extras: tuple[str, ...] = ()
    parameters: Parameters | None = None
    takes_inputs: bool = True

    def __call__(self, forward: Callable[..., Any], inputs: Mapping[str, Value], **extras: Any) -> Any:
        """Call `forward` with one batch."""
        if self.positional is None:
            return forward(**inputs, **extras)
        # Names that differ from the inputs' are those of the parameters; see `Preprocessor`.
        if self.parameters is not None and inputs.keys() != set(self.positional):
            return forward(**inputs, **extras)
        return forward(*[inputs[name] for name in self.positional], **extras)

    @classmethod
    def bind(
        cls,
        forward: Callable[..., Any],
        spec: ModelSpec,
        subject: str,
        *,
        hook: str = "forward",
        has_preprocess: bool = False,
    ) -> Call:
        """Determine from the parameters of `forward`, `stream` or `begin` how it gets its tensors.

        With a hook `preprocess` they are passed by keyword if it returns them under the names of the
        parameters. What it returns is known only when it runs; so then the parameters need not fit the
        inputs, unless one looks like a misspelled input.

        Declared inputs are passed by keyword if there is a parameter of the same name for every one, by
        position in the configuration's order if there is none for any. An optional input needs a parameter of
        its name with a default.

        Raises:
            ConfigError: only some inputs have a parameter of their name, or the number of parameters differs.
        """
        parameters = list(inspect.signature(forward).parameters.values())
        names = [spec.name for spec in spec.inputs]
        named = _by_name(parameters)
        extras = tuple(name for name in RESERVED_PARAMETERS if name in named and name not in names)
        produced = Parameters.of([one for one in parameters if one.name not in extras])
        if not has_preprocess or produced is None:
            return cls._bind_inputs(forward, spec, subject, hook)
        try:
            return replace(cls._bind_inputs(forward, spec, subject, hook), parameters=produced)
        except ConfigError:
            missing = [name for name in names if name not in named]
            is_misspelled = len(missing) < len(names) and _hint(missing, named)
            if is_misspelled or (spec.sequences is not None and spec.sequences.controls & set(named)):
                raise
            return cls(None, extras, produced, takes_inputs=False)

    @classmethod
    def _bind_inputs(cls, forward: Callable[..., Any], spec: ModelSpec, subject: str, hook: str) -> Call:
        parameters = list(inspect.signature(forward).parameters.values())
        names = [spec.name for spec in spec.inputs]
        named = _by_name(parameters)
        takes_any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        subject = f"{subject} {hook}{_signature(forward)}"
        _check_controls(named, spec, subject)
        # An input may itself be called `lengths` or `requests`; then the parameter gets the input.
        extras = tuple(name for name in RESERVED_PARAMETERS if name in named and name not in names)
        # A reserved name behind the inputs doesn't shift their positions; one among them would.
        behind = parameters[len(names) :]
        parameters = [parameter for parameter in parameters if parameter.name not in extras]
        matching = [name for name in names if name in named]
        # **kwargs takes the inputs that have no parameter of their name.
        if names and (len(matching) == len(names) or takes_any_name):
            _check_keywords(parameters, spec, subject)
            return cls(None, extras)
        if matching:
            missing = [name for name in names if name not in named]
            raise ConfigError.of(
                subject,
                expected=f"a parameter for each input {names}, or for none of them",
                got=f"none for {missing}",
                remedy="name the parameters after the inputs in config.pbtxt" + _hint(missing, named),
            )
        # No parameter has an input's exact name, so the names can't tell the order; near misses may.
        _check_positions(parameters, spec, subject, hook)
        _check_order(parameters, names, subject)
        for name in extras:
            if named[name] not in behind and named[name].kind is not inspect.Parameter.KEYWORD_ONLY:
                raise ConfigError.of(
                    subject,
                    expected=f"{name!r} behind the parameters for the inputs {names}",
                    got="it among them",
                    remedy=f"make {name} the last parameter",
                )
        return cls(tuple(names), extras)


def _by_name(parameters: Sequence[inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _signature(forward: Callable[..., Any]) -> str:
    return "(" + ", ".join(str(p) for p in inspect.signature(forward).parameters.values()) + ")"


def _hint(missing: Sequence[str], named: Mapping[str, inspect.Parameter]) -> str:
    for name in missing:
        close = difflib.get_close_matches(name, named)
        if close:
            return f" ({close[0]!r} looks like {name!r})"
    return ""


def _check_controls(named: Collection[str], spec: ModelSpec, subject: str) -> None:
    """Refuse a parameter for a control input, which the server adds and no hook gets."""
    controls = [] if spec.sequences is None else sorted(spec.sequences.controls & set(named))
    if controls:
        raise ConfigError.of(
            subject,
            expected="a parameter requests, which says what control inputs say",
            got=f"parameters for the control inputs {controls}",
            remedy="use is_start, is_end and correlation_id of requests[n]",
        )


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


def _check_positions(
    parameters: Sequence[inspect.Parameter], spec: ModelSpec, subject: str, hook: str
) -> None:
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
            remedy=f"give {hook} one parameter per input of config.pbtxt",
        )
    optional = [tensor.name for tensor in spec.inputs if tensor.optional]
    if optional:
        raise ConfigError.of(
            subject,
            expected=f"parameters named after the inputs, since {optional} may be absent",
            got="parameters by position",
            remedy=f"name them {', '.join(names)}",
        )


def _check_order(parameters: Sequence[inspect.Parameter], names: Sequence[str], subject: str) -> None:
    """Refuse parameters whose names match the inputs but for case and underscores, in another order."""
    # A parameter `inputids` gets an input by position, which need not be `input_ids`: a silent swap.
    alike = [name.replace("_", "").lower() for name in names]
    for position, parameter in enumerate(parameters):
        plain = parameter.name.replace("_", "").lower()
        if plain in alike and alike.index(plain) != position:
            raise ConfigError.of(
                subject,
                expected=f"parameters in the order of the inputs {list(names)}, or with their exact names",
                got=f"{parameter.name!r} at place {position + 1}",
                remedy=f"call it {names[alike.index(plain)]!r}",
            )
