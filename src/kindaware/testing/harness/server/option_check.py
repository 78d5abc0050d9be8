"""Checks of arguments of `ModelHarness` and `infer` that no server would ever see."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.stand_in import NEWEST

_OLDEST = (24, 10)
_MONTHS = range(1, 13)


def parse_version(version: Any) -> tuple[int, int]:
    """Return year and month of a release.

    Raises:
        HarnessError: it is not a release, or one older or newer than those that the stand-in knows.
    """
    if version == "current":
        return NEWEST
    parts = version.split(".") if isinstance(version, str) else version
    if isinstance(parts, (tuple, list)) and len(parts) == len(NEWEST):
        numbers = [_whole(part, is_text=isinstance(version, str)) for part in parts]
        found = (numbers[0], numbers[1])
        if found[1] in _MONTHS and _OLDEST <= found <= NEWEST:
            return found
    raise HarnessError.of(
        "server_version",
        expected="a release such as '24.10' or (24, 10), up to {}.{:02}, or 'current'".format(*NEWEST),
        got=repr(version),
        remedy="pass one of those",
    )


def _whole(part: Any, *, is_text: bool) -> int:
    is_number = isinstance(part, str) and part.isdecimal() if is_text else type(part) is int
    return int(part) if is_number else -1


def check_source(model: Any) -> None:
    """Refuse what can't be a model.

    Raises:
        HarnessError: it is neither a path nor a class.
    """
    if not isinstance(model, (str, os.PathLike, type)):
        raise HarnessError.of(
            "model", expected="a model's directory, or a class", got=repr(model), remedy="pass one of those"
        )


def check_models(models: Any) -> list[Any]:
    """Return the further models as a list.

    Raises:
        HarnessError: they are not a sequence of directories and tuples of a class and a configuration.
    """
    is_list = isinstance(models, Sequence) and not isinstance(models, (str, bytes))
    if not is_list or any(isinstance(one, tuple) and len(one) != 2 for one in models):
        raise HarnessError.of(
            "models",
            expected="a list of directories, or of tuples of a class and a configuration",
            got=repr(models),
            remedy="put it into a list",
        )
    return list(models)


def check_count(instances: Any) -> None:
    """Refuse a number of instances that no server starts.

    Raises:
        HarnessError: it is less than 1; None is the configuration's number.
    """
    if instances is not None and (type(instances) is not int or instances < 1):
        raise HarnessError.of(
            "instances", expected="an int, at least 1", got=repr(instances), remedy="start one or more"
        )


def check_parameters(parameters: Any) -> None:
    """Refuse parameters of a model that a configuration can't have.

    Raises:
        HarnessError: they are not a dict of str to str; numbers and booleans are accepted as their text.
    """
    is_dict = isinstance(parameters, Mapping)
    pairs = parameters.items() if is_dict else ()
    wrong = [
        name for name, value in pairs if not isinstance(name, str) or not isinstance(value, (str, int, float))
    ]
    if not is_dict or wrong:
        raise HarnessError.of(
            "parameters", expected="a dict of str to str", got=repr(parameters), remedy="pass text"
        )


def check_index(index: Any, num_instances: int) -> None:
    """Refuse an instance that isn't there.

    Raises:
        HarnessError: there are fewer.
    """
    if type(index) is not int or not 0 <= index < num_instances:
        raise HarnessError.of(
            "instance",
            expected=f"an index of the {num_instances} instances, counted from 0",
            got=repr(index),
            remedy="pass another, or start more with instances=",
        )


def check_kind(model: str, kind: str, num_gpus: int) -> None:
    """Refuse a model whose configuration asks for a GPU where there is none.

    Raises:
        HarnessError: torch sees no GPU.
    """
    if kind != "CPU" and not num_gpus:
        raise HarnessError.of(
            f"model {model!r}",
            expected=f"a GPU, since its instance_group has KIND_{kind}",
            got="none that torch sees",
            remedy="pass kind='CPU' to run it on the CPU, or accelerator='simulated' for simulated GPUs",
        )


def check_gpu(ordinal: int, num_gpus: int) -> None:
    """Refuse memory of a GPU that isn't there.

    Raises:
        HarnessError: the host has fewer.
    """
    if ordinal >= num_gpus:
        raise HarnessError.of(
            "input_device",
            expected=f"one of the {num_gpus} GPUs that torch sees, counted from 0, or 'cpu'",
            got=f"'cuda:{ordinal}'",
            remedy="pass another, or start the harness with accelerator='simulated'",
        )
