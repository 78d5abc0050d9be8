"""Sizes of memory as Kubernetes writes them."""

from __future__ import annotations

import re

from kindaware._errors import OptionError

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(option: str, text: str | None) -> int | None:
    """Read a size such as `512Mi`; None stays None.

    Raises:
        OptionError: it isn't one.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,12})(Ki|Mi|Gi|Ti|k|M|G|T)?", text)
    if match is None or not int(match[1]):
        raise OptionError.of(
            option, expected="a size, such as 512Mi or 2Gi", got=repr(text), remedy="write it like that"
        )
    return int(match[1]) * _UNITS.get(match[2], 1)
