"""The library's exceptions, and the common form of their messages."""

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
"""Names of the error codes of `pb_utils.TritonError`. Source: python_backend `pb_stub.cc`, enum ErrorCode."""


_MAX_PART_LENGTH = 600
"""Characters. Names and values from a configuration can be of any length; a log message should not be."""


def message(subject: str, *, expected: str, got: str, remedy: str) -> str:
    """Return an error message in the library's common form; overlong parts are truncated."""
    subject, expected, got, remedy = map(_cut, (subject, expected, got, remedy))
    return f"{subject}: expected {expected}, got {got}; {remedy}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_PART_LENGTH else text[: _MAX_PART_LENGTH - 3] + "..."


def describe(error: BaseException) -> str:
    """Return an exception's class and text, even if its `__str__` raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text can't be had"


def format_traceback(error: BaseException) -> str:
    """Return the traceback in the format in which Python prints it."""
    return "".join(traceback.format_exception(error))


def release_frames(error: BaseException) -> None:
    """Clear the local variables of all frames in an error's traceback; its line numbers remain.

    The frames keep the batch's tensors alive for as long as the error lives, so that after an out-of-memory
    error the memory would stay occupied.
    """
    # A chain of causes and contexts can be a cycle, so errors that were visited are remembered.
    linked: list[BaseException | None] = [error]
    seen: set[int] = set()
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            linked += [one.__cause__, one.__context__]


class KindAwareError(Exception):
    """Base class of all exceptions that this library defines."""


class ConfigError(KindAwareError):
    """The model can't be loaded as it is written or configured; raised while it loads."""

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str) -> ConfigError:
        """Return an error with the message made of these four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy))


class CallTooEarlyError(KindAwareError):
    """Another model was called while this one was loading or shutting down."""


class NotInitializedError(KindAwareError, AttributeError):
    """Something that `initialize` provides was used before it ran.

    An AttributeError too, so that `hasattr` returns False until then.
    """


class RequestError(KindAwareError):
    """Error for a single request; raise it in a hook to refuse that request and no other.

    Args:
        text: the message that the client receives, unchanged.
        code: name of a Triton error code, one of `ERROR_CODES`.
        rows: for use in `forward`: the offending rows of the batch, by index (0 is the first row of the first
            request) or as a boolean mask with one entry per row. The requests that own these rows fail; the
            others are run again without them.

    Attributes:
        code: name of the Triton error code.
        rows: indices of the rows; None if `rows` was not given.
        mask_length: number of entries of the mask; None if `rows` was not a mask.

    Raises:
        ValueError: `code` is not a Triton error code.
        TypeError: `rows` contains something other than whole numbers or booleans, or a mix of the two.
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
    """Return row indices; a boolean mask, in any container, stands for the indices of its true entries.

    Returns:
        The indices, and the length of the mask; None if it is not a mask.
    """
    # tolist turns tensors and arrays, and scalars of either in a list, into plain Python values.
    plain = rows.tolist() if hasattr(rows, "tolist") else list(rows)
    values = [one.tolist() if hasattr(one, "tolist") else one for one in plain]
    # Booleans are integers to Python, so a mask must be told apart before indices are read.
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
    """A hook returned a value that doesn't match the configuration; the client receives its text."""
