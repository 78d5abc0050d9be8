"""What a client may read of an error that isn't about its request; the log has the rest, under an id."""

from __future__ import annotations

import re
import secrets

from kindaware._errors import attribute_of, describe
from kindaware._hooks.blame import place_of

_HIDDEN = "<path>"

# Absolute paths, and those in a home directory. In quotes they may have blanks; `</b>`, `//`, `a/b` and the
# address of a page are none.
_PATHS = re.compile(
    r"""file://[^\s'"`]+
    |(?<=['"`])(?:~[\w.-]*)?/[^'"`\n]+(?=['"`])
    |(?<![\w/.~<:'"`-])(?:~[\w.-]*)?/+[^\s/'"`,;:()\[\]{}<>|][^\s'"`,;:()\[\]{}<>|]*
    |(?<=[:'"`])(?:~[\w.-]*)?/[^\s/'"`,;:()\[\]{}<>|][^\s'"`,;:()\[\]{}<>|]*""",
    re.VERBOSE,
)


def new_error_id() -> str:
    """Return an id for an error in the log: eight hexadecimal digits."""
    return secrets.token_hex(4)


def without_paths(text: str) -> str:
    """Return a text with `<path>` in the place of each path that begins at the root or a home directory."""
    return _PATHS.sub(_HIDDEN, text)


def disclose(error: BaseException, detail: str, error_id: str = "") -> str:
    """Return what a client may read of an error.

    Args:
        error: what was raised.
        detail: `message` for its class and text without paths; `full` for its text as it is, and the line
            that raised it; `id` for its id in the log.
        error_id: that id; empty where the client reads it elsewhere.
    """
    if detail == "id":
        return f"error {error_id}" if error_id else "an error"
    text = describe(error)
    if detail == "full":
        place = place_of(error)
        return f"{text} ({place})" if place else text
    for name in ("filename", "filename2"):
        # Of an OSError, whose text has them in quotes, also where they are relative.
        if path := attribute_of(error, name):
            text = text.replace(repr(path), repr(_HIDDEN))
    return without_paths(text)
