"""The library's exceptions, and the one form that their messages have."""

from __future__ import annotations

import operator
import traceback
from collections.abc import Iterable
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
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text can't be had"


def format_traceback(error: BaseException) -> str:
    """Return the traceback as Python prints it."""
    return "".join(traceback.format_exception(error))


def release_frames(error: BaseException) -> None:
    """Empty the frames that an error's traceback leads through; where it was raised can still be told.

    They hold the batch's tensors for as long as the error lives, so memory that ran out stayed full.
    """
    linked: list[BaseException | None] = [error]
    seen: set[int] = set()
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            linked += [one.__cause__, one.__context__]


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
        self.rows: tuple[int, ...] | None = None
        self.mask_length: int | None = None
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
