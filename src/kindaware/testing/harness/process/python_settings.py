"""Settings of Python and of the operating system that a model may change."""

from __future__ import annotations

import asyncio
import builtins
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing.context
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from typing import Any

from kindaware.testing.harness.process.setting import Setting, attribute, contents

_STDERR = 2
_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
_TIMER_TOLERANCE_SECONDS = 0.5
_NOT_OF_MODELS = ("__import__", "_")  # the harness's own, and an interactive session's last result


def settings_of_python() -> dict[str, Setting]:
    """Return the settings by name."""
    return {**_of_interpreter(), **_of_standard_library(), **_of_system(), **_of_signals()}


def _of_interpreter() -> dict[str, Setting]:
    hooks = ("excepthook", "unraisablehook", "displayhook", "breakpointhook")
    found = {
        f"sys.{name}": attribute(sys, name)
        for name in (*hooks, "stdin", "stdout", "stderr", "tracebacklimit")
    }
    found |= {f"sys.{name}": contents(getattr(sys, name)) for name in ("meta_path", "path_hooks")}
    found |= {
        "builtins": Setting(_read_builtins, _write_builtins),
        "sys.setrecursionlimit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
        "sys.setswitchinterval": Setting(sys.getswitchinterval, sys.setswitchinterval),
        "sys.setdlopenflags": Setting(sys.getdlopenflags, sys.setdlopenflags),
        "sys.settrace": Setting(sys.gettrace, sys.settrace, is_of_thread=True),
        "sys.setprofile": Setting(sys.getprofile, sys.setprofile, is_of_thread=True),
        "sys.set_asyncgen_hooks": Setting(
            lambda: tuple(sys.get_asyncgen_hooks()),
            lambda value: sys.set_asyncgen_hooks(*value),
            is_of_thread=True,
        ),
        "sys.set_coroutine_origin_tracking_depth": Setting(
            sys.get_coroutine_origin_tracking_depth,
            sys.set_coroutine_origin_tracking_depth,
            is_of_thread=True,
        ),
        "gc.disable": Setting(gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
        "gc.set_threshold": Setting(gc.get_threshold, lambda value: gc.set_threshold(*value)),
        "gc.set_debug": Setting(gc.get_debug, gc.set_debug),
        "gc.callbacks": contents(gc.callbacks),
        "tracemalloc": Setting(_read_tracemalloc, _write_tracemalloc),
        "faulthandler": Setting(
            faulthandler.is_enabled,
            lambda value: faulthandler.enable(_STDERR) if value else faulthandler.disable(),
        ),
    }
    if hasattr(sys, "set_int_max_str_digits"):
        found["sys.set_int_max_str_digits"] = Setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits)
    return found


def _of_standard_library() -> dict[str, Setting]:
    root = logging.getLogger()
    policy: Any = asyncio.events
    return {
        "warnings.filters": Setting(lambda: list(warnings.filters), _set_warning_filters),
        "warnings.showwarning": attribute(warnings, "showwarning"),
        "threading.excepthook": attribute(threading, "excepthook"),
        "threading.settrace": Setting(threading.gettrace, threading.settrace),
        "threading.setprofile": Setting(threading.getprofile, threading.setprofile),
        "threading.stack_size": Setting(_stack_size, threading.stack_size),
        "root logger's handlers": contents(root.handlers),
        "root logger's filters": contents(root.filters),
        "root logger's level": Setting(lambda: root.level, root.setLevel),
        "root logger's disabled": attribute(root, "disabled"),
        "logging.disable": Setting(lambda: root.manager.disable, logging.disable),
        "logging.captureWarnings": attribute(logging, "_warnings_showwarning"),
        "logging.setLoggerClass": attribute(logging, "_loggerClass"),
        "logging.setLogRecordFactory": Setting(logging.getLogRecordFactory, logging.setLogRecordFactory),
        "logging.lastResort": attribute(logging, "lastResort"),
        "logging.raiseExceptions": attribute(logging, "raiseExceptions"),
        "logging.addLevelName": Setting(_read_level_names, _write_level_names),
        "asyncio.set_event_loop_policy": attribute(policy, "_event_loop_policy"),
        "asyncio.set_event_loop": Setting(_read_event_loop, _write_event_loop, is_of_thread=True),
        "multiprocessing.set_start_method": attribute(
            multiprocessing.context._default_context,
            "_actual_context",
        ),
        "tempfile.tempdir": attribute(tempfile, "tempdir"),
        "ssl._create_default_https_context": attribute(ssl, "_create_default_https_context"),
        "socket.setdefaulttimeout": Setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
        "locale.setlocale": Setting(
            lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)
        ),
        "decimal.setcontext": Setting(_read_decimal, _write_decimal, is_of_thread=True),
    }


def _of_system() -> dict[str, Setting]:
    limits = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    found = {name: _limit(number) for name, number in limits.items()}
    return {
        **found,
        "os.umask": Setting(_umask, os.umask),
        "os.sched_setaffinity": Setting(
            lambda: os.sched_getaffinity(0), lambda value: os.sched_setaffinity(0, value), is_of_thread=True
        ),
        "os.nice": Setting(
            lambda: os.getpriority(os.PRIO_PROCESS, 0),
            lambda value: os.setpriority(os.PRIO_PROCESS, 0, value),
            is_of_thread=True,
        ),
        "time.tzset": Setting(lambda: time.tzname, lambda value: time.tzset()),
    }


def _of_signals() -> dict[str, Setting]:
    handled = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    found = {f"signal {one}": _signal(one) for one in handled if signal.getsignal(one) is not None}
    found |= {name: _timer(getattr(signal, name)) for name in _TIMERS}
    found["signal.pthread_sigmask"] = Setting(
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda value: signal.pthread_sigmask(signal.SIG_SETMASK, value),
        is_of_thread=True,
    )
    return found


def _signal(number: int) -> Setting:
    return Setting(
        lambda: signal.getsignal(number), lambda value: signal.signal(number, value), is_of_thread=True
    )


class _Alarm:
    """When a timer goes off, on its clock; equal if within a fraction of a second."""

    def __init__(self, now: float, seconds: float, interval: float) -> None:
        self.interval = interval
        self.at = now + seconds if seconds else 0.0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Alarm)
            and self.interval == other.interval
            and bool(self.at) == bool(other.at)
            and abs(self.at - other.at) < _TIMER_TOLERANCE_SECONDS
        )

    __hash__ = None  # type: ignore[assignment]


def _timer(which: int) -> Setting:
    clock = time.monotonic if which == signal.ITIMER_REAL else time.process_time

    def write(alarm: _Alarm) -> None:
        seconds = max(alarm.at - clock(), 0.001) if alarm.at else 0.0
        signal.setitimer(which, seconds, alarm.interval)

    return Setting(lambda: _Alarm(clock(), *signal.getitimer(which)), write, is_of_thread=True)


def _limit(number: int) -> Setting:
    return Setting(lambda: resource.getrlimit(number), lambda value: resource.setrlimit(number, value))


def _stack_size() -> int:
    """Read the size; asking for it sets it to the default."""
    size = threading.stack_size()
    threading.stack_size(size)
    return size


def _umask() -> int:
    """Read the mask; setting it is the only way to."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_warning_filters(filters: list[Any]) -> None:
    # The same list, and told to Python, which caches what it has matched with the filters.
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _read_builtins() -> dict[str, Any]:
    return {name: value for name, value in vars(builtins).items() if name not in _NOT_OF_MODELS}


def _write_builtins(value: dict[str, Any]) -> None:
    for name in _read_builtins().keys() - value.keys():
        delattr(builtins, name)
    vars(builtins).update(value)


def _read_tracemalloc() -> int:
    return tracemalloc.get_traceback_limit() if tracemalloc.is_tracing() else 0


def _write_tracemalloc(num_frames: int) -> None:
    tracemalloc.stop()
    if num_frames:
        tracemalloc.start(num_frames)


def _read_level_names() -> dict[Any, Any]:
    return dict(logging._levelToName)


def _write_level_names(names: dict[Any, Any]) -> None:
    for found, wanted in (
        (logging._levelToName, names),
        (logging._nameToLevel, {**_ALIASES, **{name: level for level, name in names.items()}}),
    ):
        found.clear()
        found.update(wanted)


_ALIASES = {"WARN": logging.WARNING, "FATAL": logging.CRITICAL}


def _local_of_policy() -> Any:
    return getattr(getattr(asyncio.events, "_event_loop_policy", None), "_local", None)


def _read_event_loop() -> tuple[Any, bool]:
    """Return the loop of this thread, and whether there was one: then `get_event_loop` makes none."""
    local = _local_of_policy()
    return getattr(local, "_loop", None), getattr(local, "_set_called", False)


def _write_event_loop(value: tuple[Any, bool]) -> None:
    local = _local_of_policy()
    if local is not None:
        local._loop, local._set_called = value


def _read_decimal() -> tuple[Any, ...]:
    now = decimal.getcontext()
    signals = tuple(
        tuple(sorted(one.__name__ for one, on in found.items() if on)) for found in (now.traps, now.flags)
    )
    return now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp, *signals


def _write_decimal(value: tuple[Any, ...]) -> None:
    *numbers, traps, flags = value
    lists = [[getattr(decimal, name) for name in names] for names in (flags, traps)]
    decimal.setcontext(decimal.Context(*numbers, *lists))
