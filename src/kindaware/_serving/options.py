"""What `serve` is told about a model, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kindaware._config.settings import PREFIX, Settings
from kindaware._device.runtime import count_devices
from kindaware._errors import ConfigError
from kindaware._model import KindAwareModel

_GROUP = re.compile(r"(?P<kind>cpu|gpu|model)(?::(?P<gpus>\d+(?:,\d+)*))?(?:\*(?P<count>[1-9]\d{0,3}))?")
Model = type[KindAwareModel] | Callable[..., Any] | torch.export.ExportedProgram
"""What can be served; torch modules are callable."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Servable:
    """One of the models that `kindaware.serve` gets in a mapping by name, with options of its own.

    Args:
        model: a class derived from KindAwareModel, a torch module, a program of torch.export, or a function.
        example: arguments of one call: by name in a mapping, by position in a tuple, or the only one. Needed
            for a module and a function, and for a class that declares no inputs and outputs.
        max_batch_size: most rows in a batch; by default what the class declares, or 32 for what batches.
        instances: such as `cpu*2`, `gpu`, `gpu:0,1` or `gpu:0*2 cpu`; by default one on each GPU, or one on
            the CPU where torch sees no GPU.
        settings: kindaware's settings, such as `{"precision": "bf16-true"}`.
        outputs: of a module or function, the names of the outputs to serve; by default all.
        config: further fields of config.pbtxt, as its JSON has them, such as `{"sequence_batching": {}}`.
    """

    model: Model
    example: Any = None
    max_batch_size: int | None = None
    instances: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def read_instances(text: str | None, subject: str) -> list[dict[str, Any]]:
    """Return the instance groups of a text such as `cpu*2` or `gpu:0,1 cpu`.

    Raises:
        ConfigError: it is no such text.
    """
    if text is None:
        return [{"kind": "KIND_GPU" if count_devices("GPU") else "KIND_CPU"}]
    groups: list[dict[str, Any]] = []
    for part in text.lower().split() if isinstance(text, str) else [""]:
        match = _GROUP.fullmatch(part)
        if match is None or (match["gpus"] and match["kind"] == "cpu"):
            groups.clear()
            break
        group: dict[str, Any] = {"kind": f"KIND_{match['kind'].upper()}"}
        if match["count"]:
            group["count"] = int(match["count"])
        if match["gpus"]:
            group["gpus"] = [int(one) for one in match["gpus"].split(",")]
        groups.append(group)
    if not groups:
        raise ConfigError.of(
            f"{subject} instances",
            expected="groups such as 'cpu*2', 'gpu', 'gpu:0,1' or 'gpu:0*2 cpu'",
            got=repr(text),
            remedy="write a kind, the numbers of its GPUs, and how many instances",
        )
    return groups


def read_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as parameters of config.pbtxt; with or without the prefix `kindaware.`.

    Raises:
        ConfigError: there is no such setting, or its value is not allowed.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError.of(
            "settings",
            expected="a mapping",
            got=repr(settings)[:80],
            remedy='write {"precision": "bf16-true"}',
        )
    parameters = {}
    for name, value in settings.items():
        key = str(name) if "." in str(name) else f"{PREFIX}{name}"
        parameters[key] = _as_text(value)
    Settings.resolve({}, parameters)
    return parameters


def check_name(name: str) -> str:
    """Return a model's name.

    Raises:
        ConfigError: it can't be the name of a directory and part of a URL.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError.of(
            "name of a model",
            expected="letters, digits, '_', '-' and '.'",
            got=repr(name),
            remedy="pass name=..., such as name='encoder'",
        )
    return name


def name_of(model: Any) -> str:
    """Return the name that a class, module or function is served under by default."""
    name = getattr(model, "__name__", None) or type(getattr(model, "func", model)).__name__
    return "model" if name == "TritonPythonModel" else str(name)


def _as_text(value: Any) -> str:
    """Return a setting's value as config.pbtxt has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(_as_text, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_as_entry(one)}" for key, one in value.items())
    return str(value)


def _as_entry(value: Any) -> str:
    """Return one value of `pad` or `unpad`."""
    if isinstance(value, (list, tuple)):
        return " ".join("none" if one is None else str(one) for one in value)
    return "none" if value is None else _as_text(value)
