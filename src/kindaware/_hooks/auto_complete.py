"""Auto-complete: the declarations of a class, added to a model configuration that lacks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kindaware._config.model_spec import TensorSpec
from kindaware._config.parse import read_integer
from kindaware._errors import ConfigError
from kindaware._hooks.class_rules import check_declaration


class Declarations(Protocol):
    """The declarations of a model class.

    Attributes:
        inputs: the inputs, in the order in which `forward` gets them by position.
        outputs: the outputs, in the order in which `forward` returns them.
        max_batch_size: maximum number of rows per batch; 0 if undeclared.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    max_batch_size: int


def complete(declared: Declarations, model_config: Any, *, subject: str, streams: bool) -> None:
    """Add the declarations of a class to Triton's `pb_utils.ModelConfig`.

    The model becomes decoupled if the class streams and the configuration has no transaction policy. Dynamic
    batching is enabled if the class doesn't stream and declares a `max_batch_size` above 1, and the
    configuration names no inputs.

    Args:
        declared: the class.
        model_config: the configuration, completed in place.
        subject: the class, for messages.
        streams: whether the class defines `stream` or `step`.

    Raises:
        ConfigError: a declaration is invalid, or disagrees with the configuration.
    """
    for name in ("inputs", "outputs"):
        check_declaration(subject, name, getattr(declared, name))
    read_integer(declared.max_batch_size, f"{subject} max_batch_size", lowest=0, remedy="correct the class")
    # Triton's ModelConfig raises ValueError where the declarations disagree with config.pbtxt.
    try:
        _complete(declared, model_config, streams)
    except ValueError as error:
        raise ConfigError.of(
            subject,
            expected="inputs, outputs and max_batch_size that agree with config.pbtxt",
            got=str(error),
            remedy="correct one of the two, or leave it out",
        ) from error


def _complete(declared: Declarations, model_config: Any, streams: bool) -> None:
    config = model_config.as_dict()
    # Read before inputs are added. An author who names the inputs has decided about batching as well.
    is_bare = not config.get("input")
    for tensor in declared.inputs:
        optional = {"optional": True} if tensor.optional else {}
        model_config.add_input({**tensor.to_config(), **optional})
    for tensor in declared.outputs:
        model_config.add_output(tensor.to_config())
    size, current = declared.max_batch_size, config.get("max_batch_size", 0)
    # A smaller size in config.pbtxt stands; Triton raises for a larger one.
    if size and (current == 0 or current > size):
        model_config.set_max_batch_size(size)
    if streams and "model_transaction_policy" not in config:
        model_config.set_model_transaction_policy({"decoupled": True})
    if is_bare and size > 1 and not streams and "sequence_batching" not in config:
        model_config.set_dynamic_batching()
