"""What an exception holds: its traceback, the frames in it, and the exceptions that it groups or follows."""

from __future__ import annotations

import contextlib
import gc
import inspect
import traceback
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType

from kindaware._errors import CallTooEarlyError, RequestError, attribute_of, describe


def format_traceback(error: BaseException) -> str:
    """Return the traceback as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as other:  # of a __str__ or __repr__ of the user's
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{describe(error)} (formatting it raised {type(other).__name__})"


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions that an exception group holds, however deep; of another one, itself."""
    inner = attribute_of(error, "exceptions")
    if not isinstance(inner, tuple) or not all(isinstance(one, BaseException) for one in inner):
        return [error]
    return [leaf for one in inner for leaf in leaves_of(one)] or [error]


def ungrouped(error: BaseException) -> BaseException:
    """Return what an exception group is about, as `asyncio.TaskGroup` raises one for a single failed task.

    One leaf, or the first of those that refuse the request when all do. A group of several other errors stays
    as it is.
    """
    leaves = leaves_of(error)
    if len(leaves) == 1 or all(isinstance(one, (RequestError, CallTooEarlyError)) for one in leaves):
        return leaves[0]
    return error


def linked_errors(error: BaseException) -> list[BaseException]:
    """Return an error, what it was raised from or while handling, and what the groups among these hold."""
    linked: list[BaseException | None] = [error]
    found: dict[int, BaseException] = {}
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in found:
            found[id(one)] = one
            links = [attribute_of(one, "__cause__"), attribute_of(one, "__context__")]
            linked += [*links, *(leaf for leaf in leaves_of(one) if leaf is not one)]
    return list(found.values())


def release_frames(error: BaseException) -> None:
    """Clear the frames that an error's traceback leads through; where it was raised can still be told.

    They hold the batch's tensors for as long as the error lives, so that memory which ran out stayed full.
    Frames of generators and coroutines that go on are left alone: clearing one would end it.
    """
    for one in linked_errors(error):
        for frame, _ in traceback.walk_tb(attribute_of(one, "__traceback__")):
            if not _is_suspended(frame):
                with contextlib.suppress(RuntimeError):  # it is being executed
                    frame.clear()


_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _is_suspended(frame: FrameType) -> bool:
    """Whether a generator or coroutine that goes on still owns the frame.

    Nothing in a frame says so before Python 3.14. Its generator refers to it until it ends.
    """
    if not frame.f_code.co_flags & _GENERATORS:
        return False
    owners = (GeneratorType, CoroutineType, AsyncGeneratorType)
    return any(isinstance(one, owners) for one in gc.get_referrers(frame))
