"""What the server refuses in a model configuration, in its words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kindaware._errors import ConfigError

_NO_DIM_LIMIT = -1
_FORCED = "FORCE_CPU_ONLY_INPUT_TENSORS"


def validate_config(config: Any) -> None:
    """Refuse what the server refuses when it loads a model; the message has the server's words.

    Not mirrored: sequence batching's controls, ensembles' steps, and what only TensorRT models may say.

    Args:
        config: `inference.ModelConfig` with the defaults filled in.

    Raises:
        ConfigError: the model would not load.

    Source: core `model_config_utils.cc`, ValidateModelConfig, ValidateModelIOConfig (commit 05295b7);
    python_backend `python_be.cc`, ModelState::ModelState (commit f9088ff).
    """
    for problem in _problems(config):
        raise ConfigError.of(
            f"model {config.name!r}",
            expected="a configuration that the server loads",
            got=f"the server's refusal: {problem}",
            remedy="correct the configuration",
        )


def validate_groups(config: Any, num_gpus: int) -> None:
    """Refuse instance groups that a host with that many GPUs can't have.

    Raises:
        ConfigError: with the server's words.

    Source: core `model_config_utils.cc`, ValidateInstanceGroup (commit 05295b7).
    """
    for group in config.instance_group:
        kind = group.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number[group.kind].name
        problem = _group_problem(kind, group, num_gpus)
        if problem:
            raise ConfigError.of(
                f"model {config.name!r}",
                expected="instance groups that the host can have",
                got=f"the server's refusal: instance group {group.name} of model {config.name} {problem}",
                remedy="correct instance_group",
            )


def _group_problem(kind: str, group: Any, num_gpus: int) -> str:
    if kind != "KIND_GPU":
        return f"has kind {kind} but specifies one or more GPUs" if group.gpus else ""
    if not group.gpus:
        return "has kind KIND_GPU but no GPUs are available"
    missing = [gpu for gpu in group.gpus if gpu >= num_gpus]
    return f"specifies invalid or unsupported gpu id {missing[0]}" if missing else ""


def _problems(config: Any) -> Iterator[str]:
    name = config.name
    if not config.HasField("ensemble_scheduling") and config.backend != "python":
        yield f"backend {config.backend or config.platform!r} is not 'python' for {name}"
    if config.max_batch_size < 0:
        yield f"'max_batch_size' must be non-negative value for {name}"
    if config.HasField("dynamic_batching"):
        yield from _dynamic_batching_problems(config)
    if config.HasField("sequence_batching"):
        yield from _sequence_batching_problems(config)
    if _FORCED in config.parameters and config.parameters[_FORCED].string_value not in ("yes", "no"):
        yield f"Incorrect value for {_FORCED}: {config.parameters[_FORCED].string_value}'"
    if config.model_transaction_policy.decoupled and config.response_cache.enable:
        yield (
            f"Response Cache does not currently support model {name} with 'decoupled' transaction policy. "
            "Please disable the response cache."
        )
    for what, tensors in (("input", config.input), ("output", config.output)):
        for tensor in tensors:
            for problem in _tensor_problems(tensor, config.max_batch_size):
                yield f"model {what} {problem} for {name}"
    for tensor in config.input:
        if tensor.format != 0 and len(tensor.dims) != 3:
            yield f"model input NHWC/NCHW require 3 dims for {name}"


def _dynamic_batching_problems(config: Any) -> Iterator[str]:
    batcher, name = config.dynamic_batching, config.name
    for size in batcher.preferred_batch_size:
        if size <= 0:
            yield f"dynamic batching preferred size must be positive for {name}"
        if size > config.max_batch_size:
            yield f"dynamic batching preferred size must be <= max batch size for {name}"
    levels = batcher.priority_levels
    if levels:
        if not 1 <= batcher.default_priority_level <= levels:
            yield f"default priority level must be in range [1, {levels}] for {name}"
        if any(not 1 <= level <= levels for level in batcher.priority_queue_policy):
            yield f"priority queue policy must have priority level in range [1, {levels}] for {name}"
    if not batcher.preserve_ordering:
        return
    if levels > 1:
        yield f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
    policies = [batcher.default_queue_policy, *batcher.priority_queue_policy.values()]
    if any(one.default_timeout_microseconds and one.timeout_action == one.DELAY for one in policies):
        yield (
            f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {name}"
        )


def _sequence_batching_problems(config: Any) -> Iterator[str]:
    batcher, name = config.sequence_batching, config.name
    if config.response_cache.enable:
        yield (
            f"Response Cache does not currently support model {name} with sequence batching scheduler. "
            "Please disable the response cache."
        )
    for size in batcher.oldest.preferred_batch_size:
        if size <= 0:
            yield f"sequence batching preferred batch size must be positive for {name}"
        if size > config.max_batch_size:
            yield f"sequence batching preferred batch size must be <= max batch size for {name}"
    if not 0.0 <= batcher.direct.minimum_slot_utilization <= 1.0:
        yield f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}"


def _tensor_problems(tensor: Any, max_batch_size: int) -> Iterator[str]:
    if not tensor.name:
        yield "must specify 'name'"
        return
    named = f"'{tensor.name}'"
    if not tensor.data_type:
        yield f"{named} must specify 'data_type'"
    if not tensor.dims:
        yield f"{named} must specify 'dims'"
    has_reshape = tensor.HasField("reshape")
    if has_reshape and not tensor.reshape.shape and max_batch_size == 0:
        yield (
            f"{named} cannot have empty reshape for non-batching model as scalar tensors are not supported"
        )
    suffix = "-1 to indicate a variable-size dimension"
    if any(dim < 1 and dim != _NO_DIM_LIMIT for dim in tensor.dims):
        yield f"{named} dimension must be integer >= 1, or {suffix}"
    if not has_reshape:
        return
    if any(dim < 1 and dim != _NO_DIM_LIMIT for dim in tensor.reshape.shape):
        yield f"{named} reshape dimensions must be integer >= 1, or {suffix}"
    yield from _reshape_problems(named, list(tensor.dims), list(tensor.reshape.shape))


def _reshape_problems(named: str, dims: list[int], shape: list[int]) -> Iterator[str]:
    """Between one variable dimension and the next, both must have the same number of elements."""
    before, after = _chunk_sizes(dims), _chunk_sizes(shape)
    if (len(before) == 1) != (len(after) == 1):
        yield f"{named} has different size for dims and reshape"
    elif len(before) != len(after):
        yield f"{named} has different number of variable-size dimensions for dims and reshape"
    elif before != after:
        yield f"{named} has different size for dims and reshape"


def _chunk_sizes(dims: list[int]) -> list[int]:
    sizes = [1]
    for dim in dims:
        if dim == _NO_DIM_LIMIT:
            sizes.append(1)
        else:
            sizes[-1] *= dim
    return sizes
