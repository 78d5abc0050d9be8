"""`Nested`: several context managers as one, around a hook."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


class Nested:
    """Enters context managers in order, each made when those before it are entered.

    Not a function with `contextlib.contextmanager`, which assigns to the `__traceback__` of what passes it:
    an error that is a frozen dataclass refuses that, and another error would take its place.

    Args:
        make: each returns a context manager, which may not swallow an error.
    """

    __slots__ = ("_entered", "_make")

    def __init__(self, *make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        entered = self._entered
        try:
            for make in self._make:
                manager = make()
                manager.__enter__()
                entered.append(manager)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(self, *raised: Any) -> None:
        entered = self._entered
        while entered:
            try:
                entered.pop().__exit__(*raised)
            except BaseException:
                # The others are left all the same.
                self.__exit__(*raised)
                raise
