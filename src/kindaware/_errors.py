"""The library's exceptions, and the one form that their messages have."""

from __future__ import annotations

import contextlib
import gc
import inspect
import operator
import traceback
from collections.abc import Iterable
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import SupportsIndex

ERROR_CODES = (
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
)
"""Names of the codes of `pb_utils.TritonError`. Source: python_backend `pb_stub.cc`, enum ErrorCode."""


_MAX_PART_LENGTH = 600
"""A name or value out of a configuration can have any length; a message in a log can't."""


def message(subject: str, *, expected: str, got: str, remedy: str) -> str:
    """Put a message into the form that every error of this library has; overlong parts are cut."""
    subject, expected, got, remedy = map(_cut, (subject, expected, got, remedy))
    return f"{subject}: expected {expected}, got {got}; {remedy}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_PART_LENGTH else text[: _MAX_PART_LENGTH - 3] + "..."


def describe(error: BaseException) -> str:
    """Return an exception's class and text, also of an exception whose `__str__` raises."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(error: BaseException) -> str:
    """Return an exception's text, also of an exception whose `__str__` raises."""
    try:
        return str(error)
    except BaseException as other:
        return f"its text raised {type(other).__name__}"


def format_traceback(error: BaseException) -> str:
    """Return the traceback as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as other:  # of a __str__ or __repr__ of the user's
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{describe(error)} (formatting it raised {type(other).__name__})"


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions that an exception group holds, however deep; of another one, itself."""
    inner = getattr(error, "exceptions", None)
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
            linked += [one.__cause__, one.__context__, *(leaf for leaf in leaves_of(one) if leaf is not one)]
    return list(found.values())


def release_frames(error: BaseException) -> None:
    """Clear the frames that an error's traceback leads through; where it was raised can still be told.

    They hold the batch's tensors for as long as the error lives, so that memory which ran out stayed full.
    Frames of generators and coroutines that go on are left alone: clearing one would end it.
    """
    for one in linked_errors(error):
        for frame, _ in traceback.walk_tb(one.__traceback__):
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


class KindAwareError(Exception):
    """Base class of everything that this library raises on purpose."""


class ConfigError(KindAwareError):
    """The model can't be loaded as it is configured or written; raised while the model loads."""

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str) -> ConfigError:
        """Build the error from its four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy))


class CallTooEarlyError(KindAwareError):
    """Another model was called while this one loads or ends."""


class ProcessExitError(KindAwareError):
    """A hook raised what is no `Exception`, such as `SystemExit`, which would have ended the process."""


class NotInitializedError(KindAwareError, AttributeError):
    """Something that `initialize` provides was used before it ran; `hasattr` sees an absent attribute."""


class RequestError(KindAwareError):
    """One request can't be answered; raise it in a hook to refuse that request and no other.

    Args:
        text: what the client gets to read, unchanged.
        code: name of a Triton error code, one of `ERROR_CODES`; `INVALID_ARG` unless said.
        rows: for use in `forward`: the rows of the batch that are to blame, by number (0 is the first row of
            the first request) or as a mask of booleans with an entry per row. The requests that own these
            rows fail, the others are run again without them.

    Attributes:
        rows: the numbers of the rows; None if `rows` was not given.
        mask_length: how many entries the mask had; None if `rows` was none.

    Raises:
        ValueError: `code` is not one of Triton's.
        TypeError: `rows` are no whole numbers.
    """

    # For a subclass whose constructor leaves this one out, as that of a dataclass does.
    code: str = "INVALID_ARG"
    rows: tuple[int, ...] | None = None
    mask_length: int | None = None

    def __init__(
        self, text: str, *, code: str = "INVALID_ARG", rows: Iterable[SupportsIndex] | None = None
    ) -> None:
        if code not in ERROR_CODES:
            raise ValueError(
                message(
                    "RequestError code",
                    expected="one of " + ", ".join(ERROR_CODES),
                    got=repr(code),
                    remedy="use a name of pb_utils.TritonError",
                )
            )
        super().__init__(text)
        self.code = code
        if rows is not None:
            self.rows, self.mask_length = _read_rows(rows)


def _read_rows(rows: Iterable[SupportsIndex]) -> tuple[tuple[int, ...], int | None]:
    """Return the numbers of rows; a mask of booleans, in any container, stands for its true entries.

    Returns:
        The numbers, and the length of the mask, if it is one.
    """
    plain = rows.tolist() if hasattr(rows, "tolist") else list(rows)
    values = [one.tolist() if hasattr(one, "tolist") else one for one in plain]
    if values and all(isinstance(one, bool) for one in values):
        return tuple(row for row, is_guilty in enumerate(values) if is_guilty), len(values)
    if any(isinstance(one, (bool, list)) for one in values):
        raise TypeError(
            message(
                "RequestError rows",
                expected="whole numbers, or a mask with one boolean per row",
                got=repr(values)[:200],
                remedy="pass one or the other",
            )
        )
    return tuple(map(operator.index, values)), None


class OutputError(KindAwareError):
    """A hook returned what does not fit the configuration; its text is what the client reads."""
