"""The single attribute that the library keeps on a user's object, and access to it."""

from __future__ import annotations

from typing import Any

from kindaware._errors import NotInitializedError, message

ATTRIBUTE = "_kindaware_instance"


def attach(owner: object, instance: object) -> None:
    """Store an instance on a user's object."""
    # object's own, since the user's class may define __setattr__, and the library's refuses this name.
    object.__setattr__(owner, ATTRIBUTE, instance)


def attached(owner: object, what: str) -> Any:
    """Return the instance that is stored on a user's object.

    Args:
        owner: the user's object.
        what: what is being accessed, such as `self.device`, for the message.

    Raises:
        NotInitializedError: the library's `initialize` has not run.
    """
    try:
        return object.__getattribute__(owner, ATTRIBUTE)
    except AttributeError:
        raise NotInitializedError(
            message(
                f"class {type(owner).__name__} {what}",
                expected="super().initialize(args) to have been called",
                got="no call of it so far",
                remedy="make it the first line of your initialize; in a test, call initialize(args) first",
            )
        ) from None
