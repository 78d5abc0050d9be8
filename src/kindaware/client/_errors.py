"""What a client raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kindaware._errors import KindAwareError, OptionError, message

if TYPE_CHECKING:
    from typing_extensions import Self


class ModelClientError(KindAwareError):
    """A request can't be sent, or the server has refused it.

    Args:
        text: what happened.
        code: gRPC's name of the status, such as `INVALID_ARGUMENT`; over HTTP the name that gRPC has for it.

    Attributes:
        code: the name; `CLIENT` for what this side refuses to send.
        was_sent: whether the server may have seen the request.
    """

    def __init__(self, text: str, code: str = "CLIENT", *, was_sent: bool = True) -> None:
        super().__init__(text)
        self.code = code
        self.was_sent = was_sent and code != "CLIENT"

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str, code: str = "CLIENT") -> Self:
        """Build the error from its four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy), code)


class UrlError(ModelClientError, OptionError):
    """A URL is none of a server that can be asked."""
