"""Long lines of a report, folded where a terminal would break them in the middle of a word."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TextIO

_NARROWEST = 24


def hang(text: str, column: int, further: int | None = None, *, out: TextIO | None = None) -> str:
    """Return text that begins in `column`, folded in a terminal; in a pipe it stays one line.

    Args:
        text: plain text, without colours.
        column: number of characters before it on its line.
        further: indentation of its other lines; `column` if None.
        out: where it is printed; standard output if None.
    """
    if not (out or sys.stdout).isatty():
        return text
    indent = " " * (column if further is None else further)
    width = max(shutil.get_terminal_size().columns, len(indent) + _NARROWEST)
    folded = textwrap.fill(
        text,
        width,
        initial_indent=" " * column,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return folded[column:] if folded.startswith(" " * column) else folded
