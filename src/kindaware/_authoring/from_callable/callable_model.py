"""A callable with all that is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from kindaware._authoring.from_callable.picture_models import PictureModel
from kindaware._authoring.from_callable.source import Source
from kindaware._authoring.tensors_from_example import InferredTensors
from kindaware._config.model_spec import TensorSpec

_GENERIC = frozenset({"x", "X", "input", "inputs", "image", "images", "img", "data", "tensor", "t"})


@dataclass(frozen=True)
class CallableModel:
    """A callable with what is known about it.

    Attributes:
        source: the callable.
        tensors: its inputs and outputs.
        names: Triton's name of each input, by parameter.
        picture: what torchvision says about it; None for any other callable.
        selects: for outputs by name, the code that reads each from the result; empty where the result is
            an answer as it is.
        rows: a shape of one row that it runs on, by Triton's name.
    """

    source: Source
    tensors: InferredTensors
    names: Mapping[str, str]
    picture: PictureModel | None
    selects: Mapping[str, str]
    rows: Mapping[str, Sequence[int]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs by their names in Triton."""
        return tuple(
            TensorSpec(self.names[one.name], str(one.dtype), one.shape) for one in self.tensors.input_specs
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs."""
        return self.tensors.output_specs

    @property
    def has_random_weights(self) -> bool:
        """Whether nothing in the call that makes the module names weights."""
        call, function = self.source.call, self.source.function
        has_weights = isinstance(function, nn.Module) and any(True for _ in function.parameters())
        return has_weights and not ("weights=" in call and "weights=None" not in call)


def name_inputs(parameters: Sequence[str]) -> dict[str, str]:
    """Return Triton's names of inputs: the parameters' own, unless the only one says nothing."""
    if len(parameters) == 1 and parameters[0] in _GENERIC:
        return {parameters[0]: "INPUT"}
    return {name: name for name in parameters}
