"""Values between a request and a callable, which takes and returns them as its example did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kindaware._authoring.example_results import name_values
from kindaware._authoring.example_values import (
    ARRAY,
    BYTES_TEXT,
    BYTES_TEXTS,
    TENSOR,
    TEXT,
    TEXT_ARRAY,
    TEXTS,
)
from kindaware._authoring.tensors_from_example import ExampleTensor, InferredTensors
from kindaware._errors import OutputError, RequestError, message


@dataclass(frozen=True)
class Form:
    """How a callable takes or returns one tensor of Triton's.

    Args:
        name: of the tensor.
        form: a name of `example_values`.
        is_scalar: whether it has one dimension less than Triton's tensor.
    """

    name: str
    form: str
    is_scalar: bool

    def taken(self, value: Any, batches: bool) -> Any:
        """Return an input as the callable takes it.

        Raises:
            RequestError: a text is not UTF-8; names the rows.
        """
        if self.form in (TEXTS, TEXT, TEXT_ARRAY):
            value = _decode(value, self.name, batches)
        if self.form in (TEXTS, BYTES_TEXTS):
            return value.ravel().tolist()
        if self.form in (TEXT, BYTES_TEXT):
            return value.ravel()[0]
        if self.form == ARRAY and isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        return value.reshape(value.shape[:-1]) if self.is_scalar else value

    def returned(self, value: Any, subject: str) -> Any:
        """Return an output as a hook returns it.

        Raises:
            OutputError: it has another form than in the example.
        """
        if self.form == TENSOR and isinstance(value, torch.Tensor):
            return value.unsqueeze(-1) if self.is_scalar else value
        if self.form == TENSOR or isinstance(value, torch.Tensor):
            raise self._other_form(value, subject)
        array = np.array(value, dtype=object) if isinstance(value, (str, bytes, list)) else np.asarray(value)
        if self.is_scalar:
            array = array[..., None]
        return (
            array.astype(object)
            if array.dtype.kind in "SUO"
            else torch.from_numpy(np.ascontiguousarray(array))
        )

    def _other_form(self, value: Any, subject: str) -> OutputError:
        return OutputError(
            message(
                f"{subject} output {self.name!r}",
                expected=f"a value of the example's form, {self.form}",
                got=type(value).__name__,
                remedy="return the same kind of value in every call",
            )
        )


@dataclass(frozen=True)
class CallForms:
    """How a callable is called and what it returns.

    Args:
        subject: what messages call it.
        inputs: in the order of the parameters.
        outputs: in the order in which they are returned.
        by_keyword: whether inputs are passed by keyword.
        batches: whether the first dimension is the batch.
    """

    subject: str
    inputs: tuple[Form, ...]
    outputs: tuple[Form, ...]
    by_keyword: bool
    batches: bool

    @classmethod
    def of(cls, found: InferredTensors) -> CallForms:
        """Return what a run on an example has shown."""
        inputs, outputs = (tuple(map(_form_of, tensors)) for tensors in (found.inputs, found.outputs))
        return cls(found.subject, inputs, outputs, found.by_keyword, found.batches)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CallForms:
        """Read what `to_json` has returned."""
        inputs, outputs = (tuple(Form(**one) for one in value[key]) for key in ("inputs", "outputs"))
        return cls(value["subject"], inputs, outputs, value["by_keyword"], value["batches"])

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON has it."""
        return asdict(self)

    def call(self, function: Any, inputs: Mapping[str, Any]) -> Any:
        """Call with the inputs of a batch; returns what the callable does."""
        values = {one.name: one.taken(inputs[one.name], self.batches) for one in self.inputs}
        return function(**values) if self.by_keyword else function(*values.values())

    def name(self, returned: Any) -> dict[str, Any]:
        """Return the outputs by name, as a hook returns them.

        Raises:
            OutputError: one is missing, or has another form than in the example.
        """
        _, named = name_values(returned)
        missing = [one.name for one in self.outputs if one.name not in named]
        if missing:
            raise OutputError(
                message(
                    self.subject,
                    expected=f"outputs {[one.name for one in self.outputs]}",
                    got=f"none of {missing}",
                    remedy="return the same outputs in every call",
                )
            )
        return {one.name: one.returned(named[one.name], self.subject) for one in self.outputs}


def _form_of(tensor: ExampleTensor) -> Form:
    return Form(tensor.spec.name, tensor.form, tensor.is_scalar)


def _decode(array: Any, name: str, batches: bool) -> Any:
    """Return an array of `str`."""
    decoded = np.empty(array.shape, dtype=object)
    bad = set()
    for position, data in np.ndenumerate(array):
        try:
            decoded[position] = data.decode()
        except UnicodeDecodeError:
            bad.add(position[0])
    if bad:
        raise RequestError(f"input {name!r} is not UTF-8", rows=sorted(bad) if batches else None)
    return decoded
