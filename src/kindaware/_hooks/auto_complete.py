"""What a class declares, written into a configuration that doesn't say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kindaware._config.model_spec import TensorSpec
from kindaware._config.parse import read_integer
from kindaware._errors import ConfigError
from kindaware._hooks.class_rules import check_declaration


class Declarations(Protocol):
    """What a class says about its tensors.

    Attributes:
        inputs: in the order of the configuration.
        outputs: in the order of the configuration.
        max_batch_size: rows that a batch may have; 0 where nothing is said.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    max_batch_size: int


def complete(declared: Declarations, model_config: Any, *, subject: str, streams: bool) -> None:
    """Write what a class declares into Triton's `pb_utils.ModelConfig`.

    The model becomes decoupled when the class streams and the configuration has no transaction policy.
    Requests are batched dynamically when the class doesn't stream, declares a `max_batch_size` above 1, and
    the configuration names no inputs.

    Args:
        declared: the class.
        model_config: the configuration, completed in place.
        subject: the class, for messages.
        streams: whether the class defines `stream`.

    Raises:
        ConfigError: a declaration is wrong, or disagrees with the configuration.
    """
    for name in ("inputs", "outputs"):
        check_declaration(subject, name, getattr(declared, name))
    read_integer(declared.max_batch_size, f"{subject} max_batch_size", lowest=0, remedy="correct the class")
    try:
        _complete(declared, model_config, streams)
    except ValueError as error:  # how Triton says that the two don't agree
        raise ConfigError.of(
            subject,
            expected="inputs, outputs and max_batch_size that agree with config.pbtxt",
            got=str(error),
            remedy="correct one of the two, or leave it out",
        ) from error


def _complete(declared: Declarations, model_config: Any, streams: bool) -> None:
    config = model_config.as_dict()
    is_bare = not config.get("input")
    for tensor in declared.inputs:
        optional = {"optional": True} if tensor.optional else {}
        model_config.add_input({**tensor.to_config(), **optional})
    for tensor in declared.outputs:
        model_config.add_output(tensor.to_config())
    size, current = declared.max_batch_size, config.get("max_batch_size", 0)
    if size and (current == 0 or current > size):
        model_config.set_max_batch_size(size)
    if streams and "model_transaction_policy" not in config:
        model_config.set_model_transaction_policy({"decoupled": True})
    if is_bare and size > 1 and not streams and "sequence_batching" not in config:
        model_config.set_dynamic_batching()
