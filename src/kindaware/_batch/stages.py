"""The stages of a call of `execute`, and the methods that implement them, for profiling."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A method that implements a stage of a call, or part of one.

    Attributes:
        name: name of the stage, one of `STAGES`.
        owner: the object that has the method.
        method: name of the method.
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
"""All stages, in the order in which a batch goes through them."""
