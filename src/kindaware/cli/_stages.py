"""Spans around the stages of an instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kindaware import KindAwareModel
from kindaware._batch.stages import FORWARD, STAGES
from kindaware._hooks.attachment import attached
from kindaware._instance import Instance
from kindaware.cli._recorder import Recorder

EXECUTE = "execute"

__all__ = ["EXECUTE", "FORWARD", "STAGES", "mark_stages", "order_stages"]


def mark_stages(model: Any, recorder: Recorder) -> None:
    """Put a span around `execute` of an instance, and in a `KindAwareModel` around each of its stages."""
    if isinstance(model, KindAwareModel):
        instance: Instance = attached(model, "profile")
        for stage in instance.stages():
            if stage.name in STAGES:
                recorder.wrap(stage.owner, stage.method, stage.name)
    recorder.wrap(model, "execute", EXECUTE)


def order_stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the stages in their order, what `execute` does between them, and all of it."""
    found = {name: seconds[name] for name in STAGES if name in seconds}
    if found:
        found["between them"] = seconds.get(EXECUTE, 0.0)
    return {**found, EXECUTE: sum(seconds.values())}
