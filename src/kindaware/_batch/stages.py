"""The stages of a call of `execute`, and the methods that are their bounds, for whoever measures them."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A method that is a stage of a call, or a part of one.

    Attributes:
        name: of the stage.
        owner: whose method it is.
        method: its name.
    """

    name: str
    owner: object
    method: str


READ = "read"
PREPROCESS = "preprocess"
COLLATE = "collate"
COPY_IN = "copy in"
FORWARD = "forward"
POSTPROCESS = "postprocess"
COPY_OUT = "copy out"
SPLIT = "split"
RESPOND = "respond"

STAGES = (READ, PREPROCESS, COLLATE, COPY_IN, FORWARD, POSTPROCESS, COPY_OUT, SPLIT, RESPOND)
"""In the order in which a batch goes through them."""
