"""Rules for what a user's class may define, checked when the class is defined and when the model loads."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import SETTING_NAMES
from kindaware._errors import ConfigError, message
from kindaware._hooks.attachment import ATTRIBUTE
from kindaware._hooks.graphed import graphed_methods, mark_of
from kindaware._hooks.hooks import HOOKS, names_requests
from kindaware._hooks.names import COUNTERPARTS, SETTING_COUNTERPARTS, find_misspelled

DECLARATIONS = ("inputs", "outputs", "max_batch_size")
LIFE_CYCLE = {"initialize": "load", "execute": "forward", "finalize": "unload"}
"""The methods that Triton calls, and the hook to define instead."""

PLACEMENT_ATTRIBUTES = frozenset(
    {ATTRIBUTE, "args", "device", "devices", "parameters", "placement", "settings", "thread_budget"}
)
"""The attributes that `DevicePlacement` provides on an instance, and the one that holds its state."""

OWN_ATTRIBUTES = PLACEMENT_ATTRIBUTES | {
    "call",
    "call_async",
    "call_stream",
    "cuda_stream",
    "logger",
    "reschedule",
    "sequence_state",
    "spec",
}
"""The attributes that `KindAwareModel` provides on an instance."""

_POLICY = "model_transaction_policy { decoupled: true }"


def check_definition(model_class: type) -> None:
    """Refuse a class that overrides the methods that Triton calls, as soon as it is defined.

    An `initialize` that doesn't call the base class's would load and then fail every request, and a module
    created after the base class's would stay on its device and in train mode.

    Raises:
        ConfigError: the class defines `initialize`, `execute` or `finalize`.
    """
    for name, hook in LIFE_CYCLE.items():
        if name in vars(model_class):
            raise ConfigError.of(
                f"class {model_class.__name__}",
                expected=f"{name} left to KindAwareModel",
                got=f"its own {name}",
                remedy=f"implement {hook} instead, or derive from kindaware.DevicePlacement to keep {name}",
            )


def check_class(model_class: type, base: type) -> None:
    """Refuse a class that can't work as written.

    Args:
        model_class: the user's class.
        base: the library's base class; only the definitions of classes derived from it are checked.

    Raises:
        ConfigError: `load` is missing, or `forward`, `stream` and `step` are; one of `begin` and `step` is,
            or they are beside another of those; a hook is asynchronous that can't be, or has the wrong
            parameters; `stream` is not a generator, or another hook is one; a method is marked with `graphed`
            that no `step` can call, or that a graph can't repeat; a public name looks like a
            misspelled hook or setting, or is one that the library provides; or a declaration is not a list
            of `TensorSpec`.
    """
    own = _own_names(model_class, base)
    subject = f"class {model_class.__name__}"
    for name, value in own.items():
        if name in OWN_ATTRIBUTES:
            raise own_attribute_error(subject, name)
        # A leading underscore marks a name as the author's own, however close it is to a hook's.
        if not name.startswith("_") and not hasattr(base, name) and name not in HOOKS:
            _refuse_misspelled(subject, name, value)
    for name, remedy in (
        ("load", "define load(self) to return the module"),
        ("forward", "define forward(self, ...) with a parameter per input"),
    ):
        streams = name == "forward" and streaming_hook(model_class) is not None
        if not callable(getattr(model_class, name, None)) and not streams:
            got = f"methods {sorted(key for key in own if key in HOOKS)}"
            # Another framework's name for the missing hook, such as `predict`, is what to rename.
            alike = [one for one in own if COUNTERPARTS.get(one) == name]
            raise ConfigError.of(
                subject,
                expected=f"a method {name}",
                got=got,
                remedy=f"rename {alike[0]} to {name}" if alike else remedy,
            )
    for name in own.keys() & HOOKS.keys():
        _check_hook(subject, model_class, name)
    _check_steps(subject, model_class)
    has_step = callable(getattr(model_class, "step", None))
    for name, value in own.items():
        _check_graphed(subject, name, value, has_step=has_step)
    for name in ("inputs", "outputs"):
        check_declaration(subject, name, getattr(model_class, name))


def streaming_hook(model_class: Any) -> str | None:
    """Return the hook with which a class begins to answer a request of a decoupled model; None for none."""
    return next((name for name in ("begin", "stream") if callable(getattr(model_class, name, None))), None)


def _check_steps(subject: str, model_class: type) -> None:
    """Refuse hooks of `step` one without the other, and beside other hooks that answer requests."""
    has = {name: callable(getattr(model_class, name, None)) for name in HOOKS}
    found = [name for name in ("begin", "step", "end", "begin_batch") if has[name]]
    missing = [name for name in ("begin", "step") if not has[name]]
    others = [name for name in ("stream", "forward") if has[name]]
    if not found or not (missing or others):
        return
    remedy = f"write _{found[0]} if it is a helper of your own"
    if others:
        expected, got, remedy = f"no {others[0]} beside it", "both", f"remove {others[0]}, or {remedy}"
    else:
        define = f"{missing[0]}(self, {'states' if missing[0] == 'step' else '...'})"
        expected, got, remedy = f"{missing[0]} beside it", "none", f"define {define}, or {remedy}"
    raise ConfigError.of(f"{subject} hook {found[0]}", expected=expected, got=got, remedy=remedy)


def _check_graphed(subject: str, name: str, method: Any, *, has_step: bool) -> None:
    """Refuse the mark of `graphed` where it would have no effect, or where a graph would repeat nothing."""
    if mark_of(method) is None:
        return
    is_late = is_asynchronous(method) or inspect.isgeneratorfunction(inspect.unwrap(method))
    if not has_step:
        expected, got, remedy = "step beside a method with graphed", "none", "remove graphed from it"
    elif name in HOOKS:
        expected, got = "graphed on a method that step calls", f"it on the hook {name}"
        remedy = "move what computes with tensors into a method of its own, and mark that"
    elif is_late:
        expected, got, remedy = (
            "a plain method",
            "async def or yield",
            "define it with def, or remove graphed",
        )
    else:
        return
    raise ConfigError.of(f"{subject} method {name}", expected=expected, got=got, remedy=remedy)


def check_graphs(model_class: type, subject: str, sizes: Collection[int]) -> None:
    """Refuse CUDA graphs of a class with `step` that marks no method for them.

    Raises:
        ConfigError: there are sizes, and no method has the mark of `graphed`.
    """
    if sizes and streaming_hook(model_class) == "begin" and not graphed_methods(model_class):
        raise ConfigError.of(
            f"{subject} setting 'cuda_graphs'",
            expected="a method marked with kindaware.graphed, which step calls",
            got="none, and step itself runs Python that no graph repeats",
            remedy="move what computes with tensors into such a method, or set cuda_graphs to 'off'",
        )


def check_placement_class(model_class: type, base: type, settings: Collection[str]) -> None:
    """Refuse a class with `DevicePlacement` that can't work as written.

    Args:
        model_class: the user's class.
        base: the library's base class.
        settings: the settings that such a class has.

    Raises:
        ConfigError: the class defines an attribute that the library provides, or what looks like a misspelled
            setting.
    """
    subject = f"class {model_class.__name__}"
    for name, value in _own_names(model_class, base).items():
        if name in PLACEMENT_ATTRIBUTES:
            raise own_attribute_error(subject, name)
        _check_graphed(subject, name, value, has_step=False)
        # Its methods are its own affair: none of them is a hook.
        if not name.startswith("_") and not callable(value) and name not in SETTING_COUNTERPARTS:
            _refuse_near(subject, name, settings)


def check_transaction_policy(model_class: type, spec: ModelSpec) -> str:
    """Return the hook that gets a request's inputs: `forward`, `stream` or `begin`.

    Raises:
        ConfigError: the model is decoupled and has no `stream` or `step`, or isn't and has no `forward`; or
            it has a hook that is called for `forward` alone.
    """
    streaming = streaming_hook(model_class)
    has_forward = callable(getattr(model_class, "forward", None))
    subject = f"model {spec.name!r} class {model_class.__name__}"
    hook = streaming if spec.decoupled else "forward" if has_forward else None
    if hook is None:
        raise ConfigError.of(
            subject,
            expected="stream for a decoupled model"
            if spec.decoupled
            else f"{_POLICY} for a class with {_answering(streaming)}",
            got="forward" if spec.decoupled else "none of it, and no forward",
            remedy=f"define stream(self, ...) with yield, or remove {_POLICY} from config.pbtxt"
            if spec.decoupled
            else f"add {_POLICY} to config.pbtxt",
        )
    for name, rule in HOOKS.items():
        if rule.skips_streams and callable(getattr(model_class, name, None)) and not has_forward:
            raise ConfigError.of(
                subject,
                expected=f"{name} only beside forward",
                got=f"{name} and {_answering(streaming)}",
                remedy=f"remove {name}: requests to {_answering(streaming)} share no batch",
            )
    return hook


def _answering(streaming: str | None) -> str:
    """Return the hook that computes the items of a class with `begin` or `stream`."""
    return "step" if streaming == "begin" else "stream"


def check_declaration(subject: str, name: str, declared: Any) -> None:
    """Refuse `inputs` or `outputs` of a class that are not a list of `TensorSpec`."""
    if not isinstance(declared, (list, tuple)) or not all(isinstance(one, TensorSpec) for one in declared):
        raise ConfigError.of(
            f"{subject} {name}",
            expected="a list of kindaware.TensorSpec",
            got=repr(declared)[:200],
            remedy=f"write {name} = [TensorSpec('NAME', 'FP32', [3, 224, 224])]",
        )


def own_attribute_error(subject: str, name: str) -> ConfigError:
    """Return the error for an attribute that the library provides and the user's code would overwrite."""
    return ConfigError.of(
        f"{subject} attribute {name!r}",
        expected=f"self.{name} left as kindaware set it",
        got="another value for it",
        remedy=f"use self.{name} as it is, or another name for yours",
    )


def refuse_assignment(model_class: type, name: str, provided: Collection[str]) -> None:
    """Refuse to set an attribute that the library provides.

    Raises:
        ConfigError: the name is among those that are provided.
    """
    if name in provided:
        raise own_attribute_error(f"class {model_class.__name__}", name)


def refuse_late_definition(model_class: type, name: str) -> None:
    """Refuse to set a hook or setting on an instance, where it has no effect: both are read from the class.

    Raises:
        ConfigError: the name is that of a hook, a setting, or a method that Triton calls.
    """
    if name in HOOKS:
        expected, remedy = "a method of the class", f"define {name} with def, or use another name for yours"
    elif name in LIFE_CYCLE:
        expected, remedy = "the method that Triton calls", "use another name for yours"
    elif name in SETTING_NAMES:
        expected = "a setting in the class or in config.pbtxt, which are read before load"
        remedy = f"write {name} = ... in the body of the class, or use another name for yours"
    else:
        return
    raise ConfigError.of(
        f"class {model_class.__name__} attribute {name!r}",
        expected=expected,
        got=f"self.{name} set on an instance",
        remedy=remedy,
    )


def describe_counterparts(model_class: type, base: type) -> list[str]:
    """Return a message for each name that another framework uses, naming kindaware's counterpart.

    No message if the class defines the counterpart too: then the other name is a helper's.
    """
    lines = []
    own = _own_names(model_class, base)
    for name, value in own.items():
        counterpart = (COUNTERPARTS if callable(value) else SETTING_COUNTERPARTS).get(name)
        if counterpart is not None and counterpart not in own:
            lines.append(
                message(
                    f"class {model_class.__name__} attribute {name!r}",
                    expected=f"{counterpart}, which is what kindaware looks for",
                    got=f"{name!r}, which it does not use",
                    remedy=f"rename it to {counterpart} if that is meant; keep it if it is your own",
                )
            )
    return lines


def _check_hook(subject: str, model_class: type, name: str) -> None:
    hook = getattr(model_class, name)
    _check_kind(f"{subject} hook {name}", name, hook)
    rule = HOOKS[name]
    if hook is None:
        return
    _check_self(f"{subject} hook {name}", inspect.getattr_static(model_class, name))
    if rule.num_arguments is None:
        return
    # Looked up on the class, a plain function still takes self; a classmethod or staticmethod doesn't.
    is_bound = not inspect.isfunction(inspect.getattr_static(model_class, name))
    by_name = {"requests": None} if rule.takes_requests and names_requests(hook) else {}
    try:
        inspect.signature(hook).bind(*[None] * (rule.num_arguments + (not is_bound)), **by_name)
    except TypeError as error:
        raise ConfigError.of(
            f"{subject} hook {name}{inspect.signature(hook)}",
            expected=f"to be called with {rule.num_arguments} argument(s) beside self",
            got=str(error),
            remedy="correct its parameters; docs/reference/hooks.md has the signature",
        ) from None


def _check_self(subject: str, hook: Any) -> None:
    """Refuse a method that doesn't take self, and one whose parameters can't be read."""
    try:
        parameters = list(inspect.signature(getattr(hook, "__func__", hook)).parameters.values())
    except ValueError:
        raise ConfigError.of(
            subject,
            expected="a function whose parameters can be read",
            got=f"a {type(hook).__name__} without a signature",
            remedy="call it in a method that is written with def",
        ) from None
    takes_self = parameters and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY
    if inspect.isfunction(hook) and not takes_self:
        raise ConfigError.of(
            f"{subject}()", expected="self as its first parameter", got="none", remedy="write def with self"
        )


def is_asynchronous(hook: Any) -> bool:
    """Whether a hook is defined with `async def`, under any decorators that set `__wrapped__`."""
    written = inspect.unwrap(hook) if callable(hook) else hook
    return inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)


def _check_kind(subject: str, name: str, hook: Any) -> None:
    """Refuse `async def` and `yield` where they aren't supported, and a `stream` without `yield`."""
    # A decorator such as torch.no_grad hides what it wraps.
    written = inspect.unwrap(hook) if callable(hook) else hook
    is_generator = inspect.isgeneratorfunction(written) or inspect.isasyncgenfunction(written)
    may_be_async = HOOKS[name].may_be_async and inspect.iscoroutinefunction(written)
    is_async = is_asynchronous(hook) and not may_be_async
    if name == "stream" and hook is not None:
        if not is_generator:
            raise ConfigError.of(
                subject,
                expected="a generator",
                got="a method without yield",
                remedy="yield each item; for the items of another generator write yield from",
            )
    elif is_generator or is_async or not (callable(hook) or hook is None):
        kind = "async def" if is_async else "a generator" if is_generator else type(hook).__name__
        remedy = "call it stream" if is_generator and name == "forward" else "define it with def"
        raise ConfigError.of(subject, expected="a plain method", got=kind, remedy=remedy)


def _own_names(model_class: type, base: type) -> dict[str, Any]:
    """Return the attributes that the user's classes define; of each name the most derived definition."""
    own: dict[str, Any] = {}
    # From the most basic class on, so that a derived definition replaces an inherited one.
    for one in reversed(model_class.__mro__):
        if one not in base.__mro__:
            own.update(vars(one))
    return own


def _refuse_misspelled(subject: str, name: str, value: object) -> None:
    known = tuple(HOOKS) if callable(value) else (*SETTING_NAMES, *DECLARATIONS)
    counterparts = COUNTERPARTS if callable(value) else SETTING_COUNTERPARTS
    if name not in counterparts:
        _refuse_near(subject, name, known)


def _refuse_near(subject: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that looks like a misspelling of one of those known."""
    candidate = find_misspelled(name, known)
    if candidate is not None:
        raise ConfigError.of(
            f"{subject} attribute {name!r}",
            expected=f"the name {candidate!r}",
            got=repr(name),
            remedy="correct the name, or begin it with an underscore if it is a helper of your own",
        )
