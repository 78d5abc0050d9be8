"""The stages of an instance, and the methods that are their bounds."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from kindaware import KindAwareModel
from kindaware.cli.profile._recorder import Recorder

EXECUTE = "execute"
FORWARD = "forward"
STAGES = (
    "read",
    "preprocess",
    "gather",
    "copy in",
    FORWARD,
    "postprocess",
    "copy out",
    "scatter",
    "respond",
)
"""In the order in which a batch goes through them."""

_DIRECT_BOUNDS = (
    ("read", "_executor.direct._read"),
    ("gather", "_executor.direct._join"),
    (FORWARD, "_executor.direct._forward"),
    ("postprocess", "_executor.direct._check"),
    ("respond", "_executor.direct._respond"),
)
_BOUNDS = (
    ("read", "_adapter.read"),
    ("gather", "_runner._collator.parts"),
    ("forward", "_runner._forward"),
    ("postprocess", "_runner._finish"),
    ("copy out", "_runner._fetch"),
    ("scatter", "_runner.split"),
    ("respond", "_adapter.respond"),
)


def mark_stages(model: Any, recorder: Recorder) -> None:
    """Put a span around `execute` of an instance, and in a `KindAwareModel` around each of its stages.

    Rows are joined where they are brought to the device: on the CPU that is `gather`, on a GPU `copy in`.
    Plain models on the CPU go a short way, on which `respond` cuts rows apart as well.
    """
    if isinstance(model, KindAwareModel):
        bounds = [
            *_BOUNDS,
            ("gather" if model.device.type == "cpu" else "copy in", "_runner._staging.put"),
        ]
        if model._executor is not None and model._executor.direct is not None:
            bounds += _DIRECT_BOUNDS
        if callable(getattr(model, "preprocess", None)):
            bounds.append(("preprocess", "_runner.preprocess"))
        if model.settings.cuda_graphs and model.device.type == "cuda":
            bounds.append((FORWARD, "_runner._graphs.run"))
        for stage, path in bounds:
            owner, _, method = path.rpartition(".")
            recorder.wrap(attrgetter(owner)(model), method, stage)
    recorder.wrap(model, "execute", EXECUTE)
