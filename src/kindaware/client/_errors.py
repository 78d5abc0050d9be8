"""What a client raises."""

from __future__ import annotations

from kindaware._errors import KindAwareError, message


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
    def of(
        cls, subject: str, *, expected: str, got: str, remedy: str, code: str = "CLIENT"
    ) -> ModelClientError:
        """Build the error from its four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy), code)
