"""What is raised when a server can't be started, or stops doing what was asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kindaware._errors import KindAwareError, OptionError, message

if TYPE_CHECKING:
    from typing_extensions import Self


class ServerError(KindAwareError):
    """The server could not be started, died, or refused what was asked of it.

    Args:
        text: the whole message.
        models: why each model that failed did so, in the server's words, by model name.
        log: the server's log as far as it was written.
    """

    def __init__(self, text: str, *, models: Mapping[str, str] | None = None, log: str = "") -> None:
        super().__init__(text)
        self.models: dict[str, str] = dict(models or {})
        self.log = log

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str) -> Self:
        """Build the error from its four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy))


class ServerOptionError(ServerError, OptionError):
    """The server was asked for with options that it can't have."""


class LostStubError(ServerError):
    """The server waits for a process that has ended, and loads no model any more."""
