"""Enumerations as pybind11 makes them: an int in all but type, so that no plain int is accepted for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kindaware.testing.stand_in.pybind.convert import to_uint32
from kindaware.testing.stand_in.pybind.pybind import MODULE, Arg, make, method, pybind11_object, pybind11_type


class Enum(pybind11_object):
    """Base of the enumerations; its slot holds the number."""

    __slots__ = ()
    __members__: dict[str, Any]

    @method(Arg("value", "int", to_uint32))
    def __init__(self, value: int) -> None:
        self._kindaware = value

    @property
    def name(self) -> str:
        """The member's name."""
        return next((name for name, one in self.__members__.items() if int(one) == int(self)), "???")

    @property
    def value(self) -> int:
        """The member's number."""
        return int(self._kindaware)

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return self.value

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"

    def __reduce_ex__(self, protocol: object) -> Any:
        return type(self), (self.value,)


def new_enum(qualname: str, names: Sequence[str]) -> type[Enum]:
    """Return an enumeration whose members count from 0."""
    namespace = {
        "__doc__": "Members:\n\n" + "\n\n".join(f"  {name}" for name in names),
        "__slots__": (),
        "__module__": MODULE,
        "__qualname__": qualname,
        "_constants": frozenset(names),
    }
    enum: Any = pybind11_type(qualname.rpartition(".")[2], (Enum,), namespace)
    members = {name: make(enum, number) for number, name in enumerate(names)}
    # Past the metaclass, which lets nobody set a constant.
    for name, member in members.items():
        type.__setattr__(enum, name, member)
    enum.__members__ = members
    return enum  # type: ignore[no-any-return]
