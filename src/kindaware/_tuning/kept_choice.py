"""The choice of an earlier start, kept in the cache on disk: instances that start later measure nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from logging import Logger
from pathlib import Path

import torch
from torch import nn

from kindaware._cache import Cache, CacheError, Entry
from kindaware._config.args import InstanceArgs
from kindaware._config.settings import Settings
from kindaware._device.module_tree import named_parts, named_tensors
from kindaware._placement.processor import describe_processor
from kindaware._tuning.optimizer import Choice

_CONFIGURED = ("max_batch_size", "input", "output", "dynamic_batching")
"""What of the configuration decides which batches come."""


class _DisturbedError(Exception):
    """The choice was made while other processes needed the cores, so the next start makes its own."""


def entry_of(
    args: InstanceArgs, settings: Settings, modules: Sequence[tuple[str, nn.Module]], num_cores: int
) -> Entry:
    """Return what a choice is for, and what it depends on; new values of the same weights are no change.

    Args:
        args: the args of the instance.
        settings: the settings in effect.
        modules: the model's, by name.
        num_cores: of the instance.
    """
    slot = {"version": args.model_version, "num_cores": num_cores}
    source = {
        "torch": torch.__version__,
        "processor": describe_processor(),
        "settings": {name: getattr(settings, name) for name in settings.changed()},
        "config": {name: args.config.get(name) for name in _CONFIGURED},
        "parts": [(path, str(type(part))) for name, one in modules for path, part in named_parts(one, name)],
        "tensors": [
            (name, path, list(tensor.shape), tensor.dtype)
            for name, one in modules
            for path, tensor in named_tensors(one)
        ],
    }
    return Entry(args.model_name, slot, source, ".json")


def obtain_choice(
    entry: Entry, choose: Callable[[], Choice], environment: Mapping[str, str], logger: Logger
) -> tuple[Choice, bool]:
    """Return the choice that is kept, or make one and keep it if nothing has disturbed it.

    Args:
        entry: what it is for.
        choose: makes one.
        environment: of the process; names the cache's folder.
        logger: gets a warning if the cache can't be used, without which each start chooses.

    Returns:
        The choice, and whether it is an earlier one.

    Raises:
        Exception: what `choose` raised.

    Sync:
        Until another instance that makes this choice is done.
    """
    made: list[Choice] = []

    def write(path: Path) -> None:
        made.append(choose())
        if not made[0].was_quiet:
            raise _DisturbedError
        path.write_text(json.dumps(asdict(made[0])))

    try:
        kept = Cache("choices", environment).obtain(entry, write)
        return Choice(**json.loads(kept.read_text())), not made
    except _DisturbedError:
        pass
    except CacheError as error:
        logger.warning("%s", error)
    return made[0] if made else choose(), False
