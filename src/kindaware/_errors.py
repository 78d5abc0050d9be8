"""The library's exceptions, and the common form of their messages."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from typing_extensions import Self

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


_ABOUT_GRADIENTS = re.compile(r"[Ii]nference ?([Tt]ensor|[Mm]ode)|does not require grad")


def describe(error: BaseException) -> str:
    """Return an exception's class and text, also of an exception whose `__str__` raises.

    To torch's errors about gradients it adds the setting that is likely to be the cause.
    """
    text = text_of(error)
    if isinstance(error, RuntimeError) and _ABOUT_GRADIENTS.search(text):
        text = text.rstrip() + _GRADIENTS
    return f"{type(error).__name__}: {text}"


_GRADIENTS = (
    " (hooks compute without gradients: set kindaware.inference_mode to 'false' and enter "
    "torch.enable_grad() where they are needed; a thread of its own enters torch.inference_mode() itself)"
)


def text_of(error: BaseException) -> str:
    """Return an exception's text, also of an exception whose `__str__` raises."""
    try:
        return str(error)
    except BaseException as other:
        return f"its text raised {type(other).__name__}"


def attribute_of(error: BaseException, name: str) -> Any:
    """Return an attribute of an exception; None where it has none, and where reading it raises.

    A class of the user's may pass all names on to something else, or compute them.
    """
    try:
        return getattr(error, name, None)
    except BaseException:
        return None


class KindAwareError(Exception):
    """Base class of all exceptions that this library defines."""


class ConfigError(KindAwareError):
    """The model can't be loaded as it is written or configured; raised while it loads."""

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str) -> Self:
        """Return an error with the message made of these four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy))


class OptionError(ConfigError):
    """What was asked for can't be: an option has a value that it can't have, or contradicts another one.

    It can be told from the options alone. The commands exit with another code then.
    """


class CallTooEarlyError(KindAwareError):
    """Another model was called while this one was loading or shutting down."""


class ProcessExitError(KindAwareError):
    """A hook raised something other than an `Exception`, such as `SystemExit`: it would end the process."""


class UnreadableError(KindAwareError):
    """Stands for what a hook raised where looking at that raises in its turn.

    Args:
        raised: what looking at it raised.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(f"an error that can't be read: looking at it raised {type(raised).__name__}")


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

    # For a subclass whose constructor leaves this one out, as that of a dataclass does.
    code: str = "INVALID_ARG"
    rows: tuple[int, ...] | None = None
    mask_length: int | None = None
    _source: Iterable[SupportsIndex] | None = None

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
            if not hasattr(rows, "tolist"):
                rows = list(rows)  # which may be a generator
            self.rows, self.mask_length = _read_rows(rows)
            self._source = rows if _is_in_host_memory(rows) else None

    @property
    def is_unsettled(self) -> bool:
        """Whether `rows` came from host memory that a queued copy from a device may still write."""
        return self._source is not None

    def settle(self) -> None:
        """Read `rows` again, after the device has been waited for."""
        source, self._source = self._source, None
        if source is not None:
            self.rows, self.mask_length = _read_rows(source)


class UnsearchedError(KindAwareError):
    """A batch failed because of one of its requests, and there was no time to find out which.

    Args:
        hook: what raised for the batch.
        share: the setting `max_isolation`.
        cause: what it raised.
    """

    def __init__(self, hook: str, share: float, cause: BaseException) -> None:
        self.expected = f"time to find the request that {hook} raises for"
        self.got = f"more than {share:g} of it spent on such searches (max_isolation)"
        super().__init__(f"expected {self.expected}, got {self.got}")
        self.__cause__ = cause


class CalledModelError(RequestError):
    """The error of another model that a hook has called, or of the server that refused the call.

    Its text was not written by the author of this model, so clients may read it like that of any exception.
    """

    @property
    def is_refusal(self) -> bool:
        """Whether the called model has refused the request, rather than failed on it."""
        return self.code not in ("INTERNAL", "UNKNOWN")


def _is_in_host_memory(rows: Any) -> bool:
    """Whether these are tensors or arrays on the host, or a list with any."""
    if isinstance(rows, list):
        return any(map(_is_in_host_memory, rows))
    return hasattr(rows, "tolist") and str(getattr(rows, "device", "cpu")) == "cpu"


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
