"""The token of a server: on the command line, in a file or in the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kindaware._errors import OptionError

TOKEN_VARIABLE = "KINDAWARE_TOKEN"

Token = Annotated[
    str | None,
    typer.Option(envvar=TOKEN_VARIABLE, metavar="TOKEN", help="The server's token.", show_default=False),
]
TokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the token.", show_default=False)
]


def read_token(token: str | None, token_file: Path | None) -> str | None:
    """Return the token that one of the two gives, or None.

    Raises:
        OptionError: both do, the file can't be read, or what it gives can't be in a header.
    """
    if token_file is None and token is None:
        return None
    if token_file is not None and token is not None:
        raise OptionError.of(
            "--token with --token-file", expected="one of them", got="both", remedy="leave one out"
        )
    source = "--token" if token_file is None else f"--token-file {token_file}"
    found = _read(token_file) if token_file is not None else str(token)
    if not re.fullmatch(r"[!-~]+", found):  # the characters of a header, without a blank
        raise OptionError.of(
            source,
            expected="a token, of ASCII letters, digits and signs",
            got="none" if not found else "others, or a blank",
            remedy="correct it",
        )
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError.of(
            f"--token-file {path}", expected="a file to read", got=str(error), remedy="correct the path"
        ) from error
