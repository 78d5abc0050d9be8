"""What a server says about a model, and arrays as it wants them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from kindaware._tensors.dtypes import DTYPES, no_numpy
from kindaware.client._errors import ModelClientError

Arrays = dict[str, np.ndarray[Any, Any]]

_KINDS = {"b": "b", "i": "iub", "u": "iub", "f": "fiub"}
"""Kinds of numpy's dtypes that may become one of a kind: what is left out would lose more than precision."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: its name.
        datatype: Triton's wire name, such as `FP32`.
        dims: sizes of one row, -1 for any; all of the shape for a model that does not batch.
        is_optional: whether a request may leave it out.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class Metadata:
    """A model's tensors.

    Attributes:
        model: name of the model.
        inputs: its inputs, in order.
        outputs: its outputs, in order.
        batches: whether tensors have a batch dimension before `dims`.
        decoupled: whether the model streams: any number of answers to a request.
        is_sequence: whether each request has to name the sequence that it is of.
    """

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batches: bool
    decoupled: bool
    is_sequence: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Metadata:
        """Read what the server answers about a model, as JSON parses."""
        batches = int(config.get("max_batch_size", 0)) > 0
        optional = {one["name"] for one in config.get("input", ()) if one.get("optional")}
        sequences = config.get("sequence_batching")

        def read(entries: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
            return tuple(
                Tensor(
                    one["name"],
                    one["datatype"],
                    tuple(int(size) for size in one["shape"])[batches:],
                    one["name"] in optional,
                )
                for one in entries
            )

        return cls(
            metadata["name"],
            read(metadata.get("inputs", ())),
            read(metadata.get("outputs", ())),
            batches,
            bool(config.get("model_transaction_policy", {}).get("decoupled")),
            # The server names those of iterative sequences itself.
            sequences is not None and not sequences.get("iterative_sequence"),
        )

    def find(self, name: str) -> Tensor:
        """Return an input.

        Raises:
            ModelClientError: the model has none of this name.
        """
        names = [one.name for one in self.inputs]
        if name not in names:
            nearest = get_close_matches(name, names, n=1)
            raise ModelClientError.of(
                f"model {self.model!r} input {name!r}",
                expected=f"one of the model's inputs {names}",
                got="another name",
                remedy=f"did you mean {nearest[0]}?" if nearest else "pass inputs by these names",
            )
        return self.inputs[names.index(name)]

    def prepare(self, inputs: Mapping[str, Any]) -> tuple[Arrays, bool]:
        """Return arrays as the server takes them, and whether they were single rows, without a batch.

        Raises:
            ModelClientError: a name, data type or rank is not the model's.
        """
        arrays, are_rows = {}, set()
        for name, value in inputs.items():
            tensor = self.find(name)
            array = self._convert(tensor, value)
            rank = len(tensor.dims)
            if array.ndim == rank + self.batches:
                are_rows.add(False)
            elif self.batches and array.ndim == rank:
                array = array[np.newaxis]
                are_rows.add(True)
            else:
                shape = (
                    f"[rows, {', '.join(map(str, tensor.dims))}]" if self.batches else f"{list(tensor.dims)}"
                )
                raise self._wrong(tensor, f"shape {shape}", f"{list(array.shape)}", "reshape it")
            arrays[name] = array
        if len(are_rows) > 1:
            raise ModelClientError.of(
                f"model {self.model!r}",
                expected="inputs that all have a batch dimension, or all have none",
                got=", ".join(f"{name} {list(np.shape(value))}" for name, value in inputs.items()),
                remedy="add the dimension to the single rows: array[None]",
            )
        return arrays, are_rows == {True}

    def _convert(self, tensor: Tensor, value: Any) -> np.ndarray[Any, Any]:
        """Return a value as an array of the input's data type; only conversions that keep the values."""
        # Who passes a tensor has imported torch; others start without it.
        if (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = (value.float() if value.dtype in no_numpy() else value).numpy()
        if tensor.datatype == "BYTES":
            return self._convert_text(tensor, value)
        array = self._as_array(tensor, value)
        found = DTYPES[tensor.datatype].numpy
        wanted = np.dtype(np.float32) if found is None else found
        if array.dtype == wanted:
            return array
        if array.dtype.kind not in _KINDS[wanted.kind]:
            raise self._wrong(tensor, f"data type {tensor.datatype}", f"{array.dtype}", "convert it first")
        with np.errstate(over="ignore"):  # it is refused below
            converted = array.astype(wanted)
        is_lost = (
            not np.array_equal(converted, array)
            if wanted.kind in "iub"
            else bool((np.isinf(converted) & np.isfinite(array)).any())
        )
        if is_lost:
            raise self._wrong(
                tensor, f"values that {tensor.datatype} has", f"{array.dtype}", "convert it first"
            )
        return converted

    def _as_array(self, tensor: Tensor, value: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        try:
            return np.asarray(value, dtype=dtype)
        except ValueError as error:  # numpy's for lists that are not equally long
            raise self._wrong(
                tensor, "lists of equal lengths", str(error), "pad them, or send one request each"
            ) from error

    def _convert_text(self, tensor: Tensor, value: Any) -> np.ndarray[Any, Any]:
        array = self._as_array(tensor, value, dtype=object)
        texts = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
        for one in texts:
            if not isinstance(one, bytes):
                raise self._wrong(tensor, "str or bytes", type(one).__name__, "convert it first")
        found = np.empty(len(texts), dtype=object)
        found[:] = texts
        return found.reshape(array.shape)

    def _wrong(self, tensor: Tensor, expected: str, got: str, remedy: str) -> ModelClientError:
        subject = f"model {self.model!r} input {tensor.name!r}"
        return ModelClientError.of(subject, expected=expected, got=got, remedy=remedy)
