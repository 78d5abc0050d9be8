"""One piece of state of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """How one setting is read and written.

    Attributes:
        read: returns its value, which can be compared.
        write: puts a value back.
        is_of_thread: whether each thread has its own, or only the main thread can change it.
        may_be_none: whether None is a value; else it says that the setting can't be read.
    """

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    is_of_thread: bool = False
    may_be_none: bool = True


def attribute(owner: Any, name: str, *, is_of_thread: bool = False) -> Setting:
    """Return the setting that an attribute holds; an attribute that is missing stays missing."""

    def write(value: Any) -> None:
        if value is not _MISSING:
            setattr(owner, name, value)
        elif hasattr(owner, name):
            delattr(owner, name)

    return Setting(lambda: getattr(owner, name, _MISSING), write, is_of_thread)


def contents(found: Any) -> Setting:
    """Return the setting that the contents of a list or dict are."""

    def write(value: Any) -> None:
        found.clear()
        found.extend(value) if isinstance(found, list) else found.update(value)

    return Setting(lambda: type(found)(found), write)


_MISSING = object()
