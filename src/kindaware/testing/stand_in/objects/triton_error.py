"""`pb_utils.TritonError` and `pb_utils.TritonModelException`."""

from __future__ import annotations

from typing import Any, ClassVar

from kindaware._errors import ERROR_CODES
from kindaware.testing.stand_in.pybind.convert import shown, to_instance, to_str
from kindaware.testing.stand_in.pybind.enum import Enum, new_enum
from kindaware.testing.stand_in.pybind.pybind import MODULE, Arg, method, named_as_server, pybind11_object


class TritonModelException(Exception):  # noqa: N818 - the server's name
    """What the Python backend raises; one class for all hosts."""


TritonModelException.__module__ = MODULE

ErrorCode = new_enum("TritonError.__ErrorCode", ERROR_CODES)
"""The type of `TritonError.INTERNAL` and the others. Source: python_backend `pb_stub.cc`, ErrorCode."""

_INTERNAL: Enum = ErrorCode.__members__["INTERNAL"]


@named_as_server
class TritonError(pybind11_object):
    """The error that one request is answered with; not an exception."""

    __slots__ = ()
    _constants = frozenset(ERROR_CODES)
    UNKNOWN: ClassVar[Any]
    INTERNAL: ClassVar[Any]
    NOT_FOUND: ClassVar[Any]
    INVALID_ARG: ClassVar[Any]
    UNAVAILABLE: ClassVar[Any]
    UNSUPPORTED: ClassVar[Any]
    ALREADY_EXISTS: ClassVar[Any]
    CANCELLED: ClassVar[Any]

    @method(
        Arg("message", "str", to_str),
        Arg("code", f"{MODULE}.TritonError.__ErrorCode", to_instance(ErrorCode), _INTERNAL),
    )
    def __init__(self, message: str, code: Any = _INTERNAL) -> None:
        self._kindaware = (message, code)

    @method(returns="str")
    def message(self) -> str:
        """Return the text that the client reads."""
        return shown(self._kindaware[0])

    @method(returns=f"{MODULE}.TritonError.__ErrorCode")
    def code(self) -> Any:
        """Return the code, a member of the class."""
        return self._kindaware[1]


# Past the metaclass, which lets nobody set a constant.
for _name, _member in ErrorCode.__members__.items():
    type.__setattr__(TritonError, _name, _member)
type.__setattr__(TritonError, "__ErrorCode", ErrorCode)
