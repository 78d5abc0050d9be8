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
    ("read", "_answering.direct._read"),
    ("gather", "_answering.direct._join"),
    (FORWARD, "_answering.direct._forward"),
    ("postprocess", "_answering.direct._check"),
    ("respond", "_answering.direct._respond"),
)
_BOUNDS = (
    ("read", "_bridge.read"),
    ("gather", "_device_pass._joining.parts"),
    ("forward", "_device_pass._forward"),
    ("postprocess", "_device_pass._finish"),
    ("copy out", "_device_pass._fetch"),
    ("scatter", "_device_pass.scatter"),
    ("respond", "_bridge.respond"),
)


def mark_stages(model: Any, recorder: Recorder) -> None:
    """Put a span around `execute` of an instance, and in a `KindAwareModel` around each of its stages.

    Rows are joined where they are brought to the device: on the CPU that is `gather`, on a GPU `copy in`.
    Plain models on the CPU go a short way, on which `respond` cuts rows apart as well.
    """
    if isinstance(model, KindAwareModel):
        bounds = [
            *_BOUNDS,
            ("gather" if model.device.type == "cpu" else "copy in", "_device_pass._staging.put"),
        ]
        if model._answering is not None and model._answering.direct is not None:
            bounds += _DIRECT_BOUNDS
        if callable(getattr(model, "preprocess", None)):
            bounds.append(("preprocess", "_device_pass.preprocess"))
        if model.settings.cuda_graphs and model.device.type == "cuda":
            bounds.append((FORWARD, "_device_pass._graphs.run"))
        for stage, path in bounds:
            owner, _, method = path.rpartition(".")
            recorder.wrap(attrgetter(owner)(model), method, stage)
    recorder.wrap(model, "execute", EXECUTE)
