"""The traits that all classes and functions of the server's C++ module share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeVar

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.pybind.convert import MismatchError

MODULE = "c_python_backend_utils"
REQUIRED: Any = object()
_NO_SETTER = "property of 'pybind11_type' object has no setter"

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Object = TypeVar("_Object", bound="pybind11_object")


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of a function of the C++ module.

    Attributes:
        name: the keyword; a name such as `arg0` can't be used as one.
        type: its type in error texts.
        convert: returns the value for the function, or raises MismatchError.
        default: the value if the argument is left out.
        shown: how error texts show the default.
    """

    name: str
    type: str
    convert: Callable[[Any], Any]
    default: Any = REQUIRED
    shown: str | None = None

    @property
    def is_positional(self) -> bool:
        """Whether the argument has no keyword."""
        return self.name == "self" or self.name[:3] == "arg"

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}"
        return text if self.default is REQUIRED else f"{text} = {self.shown or repr(self.default)}"


class _SelfCheck:
    """A function of a class, with checked arguments; on an object, the object is the first of them."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Arg], returns: str) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._args = (Arg("self", "?", self._check_self), *args)
        self._returns = returns
        self.owner: type = object

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = match(self._args, args, kwargs)
        if values is None:
            raise TypeError(self._mismatch(args, kwargs))
        return self._function(*values)

    def _check_self(self, value: Any) -> Any:
        if isinstance(value, self.owner):
            return value
        raise MismatchError

    def _mismatch(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        name = f"{MODULE}.{self.owner.__qualname__}"
        if self._function.__name__ == "__init__":
            signature = f"{name}({', '.join(map(str, self._args[1:]))})"
            return mismatch("__init__", "constructor", signature, args[1:], kwargs)
        shown = ", ".join([f"self: {name}", *map(str, self._args[1:])])
        return mismatch(self._function.__name__, "function", f"({shown}) -> {self._returns}", args, kwargs)


class pybind11_type(type):  # noqa: N801 - the name of the real one
    """Refuses objects whose `__init__` was not reached, and changes of constants."""

    _constants: frozenset[str] = frozenset()

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        for function in namespace.values():
            if isinstance(function, _SelfCheck) and function.owner is object:
                function.owner = cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Create an object; raise TypeError if its `__init__` was not reached."""
        made = super().__call__(*args, **kwargs)
        if not hasattr(made, "_kindaware"):
            base = next(one for one in cls.__mro__ if one.__module__ == MODULE)
            raise TypeError(f"{MODULE}.{base.__name__}.__init__() must be called when overriding __init__")
        return made

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in cls._constants:
            raise AttributeError(_NO_SETTER)
        super().__setattr__(name, value)


class pybind11_object(metaclass=pybind11_type):  # noqa: N801 - the name of the real one
    """Base of all classes: identity, weak references, no attributes, not picklable.

    The state of an object is in its one slot; a class that is bound to a host has it as `_host`.
    """

    __slots__ = ("__weakref__", "_kindaware")
    _host: ClassVar[Host]
    _kindaware: Any

    def __getattr__(self, name: str) -> NoReturn:
        raise _no_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self)._constants:
            raise AttributeError(_NO_SETTER)
        try:
            super().__setattr__(name, value)
        except AttributeError:
            if hasattr(type(self), name):
                raise
            raise _no_attribute(self, name) from None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle '{MODULE}.{type(self).__name__}' object")

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} object at {id(self):#x}>"


def _no_attribute(value: pybind11_object, name: str) -> AttributeError:
    cls = type(value)
    owner = f"{MODULE}.{cls.__name__}" if cls.__module__ == MODULE else cls.__name__
    return AttributeError(f"'{owner}' object has no attribute '{name}'", name=name, obj=value)


def named_as_server(cls: type[_Object]) -> type[_Object]:
    """Set the module name of a class to that of the server's class."""
    cls.__module__ = MODULE
    return cls


def bind(cls: type[_Object], host: Host, **namespace: Any) -> type[_Object]:
    """Return the class that the models of one host see."""
    later = vars(cls).get("_later", {})
    namespace.update({name: one for name, (since, one) in later.items() if host.server_version >= since})
    namespace.update(__slots__=(), __module__=MODULE, __qualname__=cls.__qualname__, __doc__=cls.__doc__)
    bound: Any = pybind11_type(cls.__name__, (cls,), {**namespace, "_host": host})
    return bound  # type: ignore[no-any-return]


def later(cls: type, since: tuple[int, int]) -> Callable[[_Function], _Function]:
    """Add a method to the class of the hosts whose server has it."""

    def add(checked: Any) -> Any:
        checked.owner = cls
        if "_later" not in vars(cls):
            type.__setattr__(cls, "_later", {})
        vars(cls)["_later"][checked.__name__] = since, checked
        return checked

    return add


def make(cls: type[_Object], state: Any) -> _Object:
    """Return an object created without its constructor."""
    made = cls.__new__(cls)
    made._kindaware = state
    return made


def no_constructor(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """`__init__` of the classes that only the server can make."""
    raise TypeError(f"{MODULE}.{type(self).__name__}: No constructor defined!")


def method(*args: Arg, returns: str = "None") -> Callable[[_Function], _Function]:
    """Check the arguments of a method as the server's module does; all are passed by position."""
    return lambda function: _SelfCheck(function, args, returns)  # type: ignore[return-value]


def function(*args: Arg, returns: str = "None") -> Callable[[_Function], _Function]:
    """Check the arguments of a function whose first argument, the host, is not part of the call."""

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(host: Host, /, *given: Any, **kwargs: Any) -> Any:
            values = match(args, given, kwargs)
            if values is None:
                signature = f"({', '.join(map(str, args))}) -> {returns}"
                raise TypeError(mismatch(function.__name__, "function", signature, given, kwargs))
            return function(host, *values)

        return call  # type: ignore[return-value]

    return decorate


@dataclass(frozen=True, slots=True)
class ModuleFunction:
    """A function that a server puts into its modules.

    Attributes:
        call: gets the host, and what the model passes.
        since: the first release that has it.
        is_in_c: whether `c_python_backend_utils` has it too; `triton_python_backend_utils` always does.
    """

    call: Callable[..., Any]
    since: tuple[int, int] = (0, 0)
    is_in_c: bool = True

    def of(self, host: Host) -> Callable[..., Any]:
        """Return the function that the models of one host see."""
        return functools.update_wrapper(functools.partial(self.call, host), self.call)


class static:  # noqa: N801 - used as a decorator
    """A `function` as attribute of a bound class; on an object, the object becomes the first argument."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, instance: Any, owner: type[pybind11_object]) -> Callable[..., Any]:
        given = () if instance is None else (instance,)
        return functools.update_wrapper(
            functools.partial(self._function, owner._host, *given), self._function
        )


def match(args: Sequence[Arg], given: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any] | None:
    """Return the converted values in the order of `args`, or None if the call does not fit."""
    if len(given) > len(args):
        return None
    left = dict(kwargs)
    values = []
    for index, arg in enumerate(args):
        if index < len(given):
            value = given[index]
        elif arg.name in left and not arg.is_positional:
            value = left.pop(arg.name)
        elif arg.default is REQUIRED:
            return None
        else:
            values.append(arg.default)
            continue
        try:
            values.append(arg.convert(value))
        except MismatchError:
            return None
    return None if left else values


def mismatch(name: str, kind: str, signature: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Write the text of the TypeError."""
    shown = ", ".join(map(_safe_repr, args))
    if kwargs:
        pairs = ", ".join(f"{key}={_safe_repr(value)}" for key, value in kwargs.items())
        shown += ("; " if args else "") + "kwargs: " + pairs
    return (
        f"{name}(): incompatible {kind} arguments. The following argument types are supported:\n"
        f"    1. {signature}\n\nInvoked with: {shown}"
    )


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return "<repr raised Error>"
