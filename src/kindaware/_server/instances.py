"""The instances of a model, as its completed configuration has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def count_instances(config: Mapping[str, Any]) -> int:
    """Return the number of instances of one version of a model, read from its completed configuration."""
    groups = config.get("instance_group", ())
    return sum(int(group.get("count", 1)) * len(group.get("gpus") or [None]) for group in groups)


def list_instances(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and kind of each instance of a model, read from its completed configuration.

    A group on several GPUs has `count` instances on each, which share their names.
    """
    found = []
    for group in config.get("instance_group", ()):
        kind = str(group["kind"]).removeprefix("KIND_")
        for _ in group.get("gpus") or [None]:
            found += [(f"{group['name']}_{number}", kind) for number in range(int(group["count"]))]
    return found
