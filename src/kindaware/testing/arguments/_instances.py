"""Which instance of a model an args dict is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kindaware._config.args import KINDS, KINDS_TEXT
from kindaware._errors import ConfigError


@dataclass(frozen=True)
class Instance:
    """One instance, as the server would start it.

    Attributes:
        name: `model_instance_name`.
        kind: one of `KINDS`.
        device_id: ordinal of the GPU, 0 for other kinds.
        note: which part of the configuration was overruled, or empty.
    """

    name: str
    kind: str
    device_id: int
    note: str = ""


def place_instance(
    config: Any,
    *,
    kind: str | None,
    device_id: int,
    group_index: int,
    instance_index: int,
    num_gpus: int,
) -> Instance:
    """Choose an instance; a kind that isn't that of its group changes the group, in place.

    Args:
        config: `inference.ModelConfig` with its groups filled in.
        kind: the wanted kind; None takes the group's.
        device_id: the wanted GPU.
        group_index: which of the groups.
        instance_index: which instance of the group.
        num_gpus: what the host has; where it has none, no group gets one.

    Raises:
        ConfigError: there is no such kind or group.
    """
    _check(config, kind, device_id, group_index, instance_index)
    group = config.instance_group[group_index]
    configured = _kind_of(group)
    subject = f"instance_group {group_index} of model {config.name!r}"
    note = ""
    if kind is None:
        kind = configured
        device_id = device_id or next(iter(group.gpus), 0)
    elif kind != configured:
        note = (
            f"instance_group {group_index} of model {config.name!r} has KIND_{configured}, started as {kind}"
        )
        group.kind = type(group).Kind.Value(f"KIND_{kind}")
        group.gpus[:] = [device_id] if kind == "GPU" and num_gpus else []
    elif kind == "GPU" and num_gpus and device_id not in group.gpus:
        note = f"{subject} has no GPU {device_id}, added it"
        group.gpus.append(device_id)
    return Instance(
        name=f"{group.name}_{instance_index}",
        kind=kind,
        device_id=device_id if kind == "GPU" else 0,
        note=note,
    )


def count_gpus(config: Any, kind: str | None, device_id: int) -> int:
    """Return how many GPUs a host must have for an instance of this kind and the configuration's groups.

    Groups that leave their kind to the host take none.
    """
    counts = [device_id + 1 if kind == "GPU" else 0]
    for group in config.instance_group:
        if _kind_of(group) == "GPU":
            counts.append(max(group.gpus, default=0) + 1)
    return max(counts)


def _check(config: Any, kind: str | None, device_id: int, group_index: int, instance_index: int) -> None:
    if kind not in (None, *KINDS):
        raise ConfigError.of("kind", expected=KINDS_TEXT, got=repr(kind), remedy="pass one of those")
    for name, number in (("device_id", device_id), ("instance_index", instance_index)):
        if number < 0:
            raise ConfigError.of(name, expected="0 or more", got=str(number), remedy="pass an ordinal")
    if not 0 <= group_index < len(config.instance_group):
        raise ConfigError.of(
            f"group_index of model {config.name!r}",
            expected=f"one of its {len(config.instance_group)} instance groups, counted from 0",
            got=str(group_index),
            remedy="pass another, or add the group",
        )


def _kind_of(group: Any) -> str:
    return str(type(group).Kind.Name(group.kind)).removeprefix("KIND_")
