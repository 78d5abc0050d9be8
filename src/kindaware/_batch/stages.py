"""The stages of a call of `execute`, and the methods that implement them, for profiling and tracing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """A method that implements a stage of a call, or part of one.

    Attributes:
        name: name of the stage: one of `STAGES`, or what contains stages.
        owner: the object that has the method.
        method: name of the method.
        requests: returns the requests that a call of the method works for, given its arguments; None if they
            are those of the stage around it.
    """

    name: str
    owner: object
    method: str
    requests: Callable[..., Sequence[Any]] | None = None


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

BATCH = "batch"
"""One batch of a call: the stages from `collate` to `copy out`, on the fast path all."""

STREAM = "stream"
BEGIN = "begin"
STEP = "step"
END = "end"
FAIL = "fail"
"""What a decoupled model does in place of a batch: a whole stream; the hooks of `step`, and their errors."""
