"""A model's own answer to the question whether it is ready."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from kindaware.testing.harness.failures import describe

ASKED_SINCE = (26, 3)
"""Servers before that know no `is_ready`."""

_LIMIT_SECONDS = 5.0


def find_obstacle(check: Callable[[], Any], instance_name: str) -> str:
    """Call a model's `is_ready` on a thread, as the stub does; return why it is not ready, or an empty text.

    Source: python_backend `pb_stub.cc`, the readiness check of the stub's monitor thread (commit f9088ff);
    not measured.
    """
    answers: list[Any] = []
    thread = threading.Thread(target=_ask, args=(check, answers), name="kindaware-is-ready", daemon=True)
    thread.start()
    thread.join(_LIMIT_SECONDS)
    if not answers:
        return f"is_ready() of '{instance_name}' took longer than {_LIMIT_SECONDS:g} s"
    answer = answers[0]
    if isinstance(answer, BaseException):
        return describe(answer)
    if not isinstance(answer, bool):
        return "is_ready() must return a boolean value"
    return "" if answer else f"Model '{instance_name}' is not ready (user-defined check failed)."


def _ask(check: Callable[[], Any], answers: list[Any]) -> None:
    try:
        answer = check()
        answers.append(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer)
    except BaseException as error:
        answers.append(error)
