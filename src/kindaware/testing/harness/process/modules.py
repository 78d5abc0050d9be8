"""The modules of one instance: in a server each has a process, and an import system, of its own."""

from __future__ import annotations

import builtins
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

_PLACES = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = tuple({f"{sysconfig.get_path(name)}/" for name in _PLACES})
_lock = threading.RLock()
_stack: list[ModuleSpace] = []
_current: ContextVar[ModuleSpace | None] = ContextVar("space", default=None)
_import = builtins.__import__


class ModuleSpace:
    """What an instance has in `sys.modules` and on `sys.path` that others don't.

    Modules whose file lies in one of the roots, or in a folder that the instance has put on `sys.path`,
    belong to the instance. Modules of the test with the name of one of these, unless they are installed, are
    hidden meanwhile. The space that was entered last is in place, also while the test's own code runs, so
    that a model's threads can import.

    Args:
        modules: what to start with.
        roots: directories that are appended to `sys.path`.
    """

    def __init__(self, modules: dict[str, ModuleType], roots: tuple[Path, ...] = ()) -> None:
        self.modules = dict(modules)
        self._roots = tuple(str(root) for root in roots)
        self._before: list[str] = []
        self._after = list(self._roots)
        self._own_names = {_module_name(path) for root in roots for path in root.iterdir()}
        self._displaced: dict[str, ModuleType | None] = {}
        self._known: frozenset[str] = frozenset()
        self._base_path: list[str] = []
        self._may_write = sys.dont_write_bytecode

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Install the space for as long as the block lasts."""
        self.enter()
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self.leave()

    def enter(self) -> None:
        """Install the space in place of the current one."""
        with _lock:
            if _stack and _stack[-1] is not self:
                _stack[-1]._remove()
            if not _stack or _stack[-1] is not self:
                self._install()
            _stack.append(self)
            builtins.__import__ = _import_for_current

    def leave(self) -> None:
        """Undo the last `enter`, even if other spaces were entered after it."""
        with _lock:
            index = len(_stack) - 1 - _stack[::-1].index(self)
            is_on_top = index == len(_stack) - 1
            del _stack[index]
            if not _stack:
                builtins.__import__ = _import
            if not is_on_top or (_stack and _stack[-1] is self):
                return
            self._remove()
            if _stack:
                _stack[-1]._install()

    def _install(self) -> None:
        self._base_path = list(sys.path)
        sys.path[:] = [*self._before, *self._base_path, *self._after]
        self._may_write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        hidden = _find_modules(self._own_names) - self.modules.keys()
        self._displaced = {name: sys.modules.get(name) for name in hidden | self.modules.keys()}
        for name in hidden:
            del sys.modules[name]
        sys.modules.update(self.modules)
        self._known = frozenset(sys.modules)

    def _remove(self) -> None:
        self._keep_path()
        for name in sys.modules.keys() - self._known:
            if self._owns(sys.modules[name]):
                self.modules[name] = sys.modules[name]
        for name in self.modules:
            if name in sys.modules:
                self.modules[name] = sys.modules[name]
            sys.modules.pop(name, None)
        for name, before in self._displaced.items():
            if before is not None:
                sys.modules[name] = before
        sys.dont_write_bytecode = self._may_write
        sys.path[:] = self._base_path

    def _keep_path(self) -> None:
        """Remember the entries that aren't the test's own, and on which side of those they are."""
        base = set(self._base_path)
        first = next((index for index, entry in enumerate(sys.path) if entry in base), 0)
        self._before = [entry for entry in sys.path[:first] if entry not in base]
        self._after = [entry for entry in sys.path[first:] if entry not in base]

    def _owns(self, module: object) -> bool:
        """Return whether a module's file is in a root or an added folder; does not trigger lazy modules."""
        names = getattr(module, "__dict__", {})
        place = names.get("__file__") or next(iter(names.get("__path__") or ()), None)
        if not isinstance(place, str):
            return False
        if any(place.startswith(root + "/") for root in self._roots):
            return True
        added = [entry for entry in (*self._before, *self._after) if isinstance(entry, str) and entry]
        return not place.startswith(_INSTALLED) and any(
            place.startswith(os.path.abspath(entry) + "/") for entry in added
        )


def _import_for_current(name: str, *args: Any, **kwargs: Any) -> ModuleType:
    """Import into the space of the instance whose code asks, when another's is in place.

    Instances that run at the same time, in threads or coroutines, would otherwise find each other's modules.
    """
    own = _current.get()
    if own is None or all(space is own for space in _stack):
        return _import(name, *args, **kwargs)
    with _lock:
        top = _stack[-1]
        if top is own or own not in _stack:
            return _import(name, *args, **kwargs)
        top._remove()
        own._install()
        _stack.append(own)
        try:
            return _import(name, *args, **kwargs)
        finally:
            _stack.pop()
            own._remove()
            top._install()


def _module_name(path: Path) -> str:
    return path.stem if path.suffix == ".py" or path.is_dir() else ""


def _find_modules(names: set[str]) -> set[str]:
    """Find the loaded modules with these names and their submodules, except those that are installed."""
    tops = {name for name in names if name in sys.modules and not _is_installed(sys.modules[name])}
    return {name for name in sys.modules if name.partition(".")[0] in tops} if tops else set()


def _is_installed(module: object) -> bool:
    place = getattr(module, "__dict__", {}).get("__file__")
    return not isinstance(place, str) or place.startswith(_INSTALLED)
