"""What the server fills into a configuration before a model sees it."""

from __future__ import annotations

from typing import Any

_SEQUENCE_IDLE_MICROSECONDS = 1_000_000


def fill_defaults(config: Any, name: str) -> None:
    """Fill in what config.pbtxt left out, but for the instance groups; in place.

    Args:
        config: `inference.ModelConfig`.
        name: the model's, for a configuration without one.

    Source: core `model_config_utils.cc`, AutoCompleteBackendFields, NormalizeModelConfig (commit 05295b7).
    """
    if not config.name:
        config.name = name
    if not config.backend and not config.platform:
        config.backend = "python"
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("ensemble_scheduling"):
        return
    if not config.default_model_filename:
        config.default_model_filename = "model.py"
    _fill_batchers(config)
    if not config.optimization.HasField("input_pinned_memory"):
        config.optimization.input_pinned_memory.enable = True
    if not config.optimization.HasField("output_pinned_memory"):
        config.optimization.output_pinned_memory.enable = True


def _fill_batchers(config: Any) -> None:
    sizes = [config.max_batch_size] if config.max_batch_size > 0 else []
    if config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size:
        config.dynamic_batching.preferred_batch_size.extend(sizes)
    if not config.HasField("sequence_batching"):
        return
    batcher = config.sequence_batching
    if batcher.max_sequence_idle_microseconds == 0:
        batcher.max_sequence_idle_microseconds = _SEQUENCE_IDLE_MICROSECONDS
    if batcher.HasField("oldest") and not batcher.oldest.preferred_batch_size:
        batcher.oldest.preferred_batch_size.extend(sizes)


def fill_groups(config: Any, num_gpus: int) -> None:
    """Fill in the instance groups for a host with that many GPUs; in place.

    Source: core `model_config_utils.cc`, NormalizeInstanceGroup (commit 05295b7).
    """
    if config.HasField("ensemble_scheduling"):
        return
    kinds = type(config.instance_group.add())
    del config.instance_group[-1]
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    for index, group in enumerate(config.instance_group):
        if not group.name:
            group.name = f"{config.name}_{index}"
        if group.kind == kinds.KIND_AUTO:
            is_there = all(gpu < num_gpus for gpu in group.gpus)
            group.kind = kinds.KIND_GPU if num_gpus and is_there else kinds.KIND_CPU
        group.count = max(group.count, 1)
        if group.kind == kinds.KIND_GPU and not group.gpus:
            group.gpus.extend(range(num_gpus))
