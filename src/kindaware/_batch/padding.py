"""Padding: requests of different sizes share a batch, inputs padded to the longest and outputs cut back.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kindaware._batch.request import Request
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import Settings
from kindaware._errors import ConfigError, OutputError, message
from kindaware._hooks.binding import Hooks
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.dtypes import DType
from kindaware._tensors.rows import kind_of, split

Fill = bool | int | float | bytes
"""A value to pad with, of the input's data type."""

_BOOLEANS = {"true": True, "false": False, True: True, False: False}


@dataclass(frozen=True, slots=True)
class Padding:
    """Which inputs are padded, with what, and which outputs may be longer because of it.

    Dimensions are counted with the batch dimension, which is 0.

    Attributes:
        fills: fill value, by padded input.
        input_axes: dimensions declared as -1, by padded input.
        output_axes: dimensions declared as -1, by output that has any.
        ranks: number of dimensions, by padded input.
    """

    fills: Mapping[str, Fill]
    input_axes: Mapping[str, tuple[int, ...]]
    output_axes: Mapping[str, tuple[int, ...]]
    ranks: Mapping[str, int]

    @classmethod
    def plan(cls, spec: ModelSpec, settings: Settings, hooks: Hooks) -> Padding | None:
        """Return the padding that the setting `pad` asks for; None if nothing is padded.

        Raises:
            ConfigError: the setting names something other than an input of variable size, a fill value is not
                of the input's data type, the model does not batch or has a hook `collate`; or `forward` has a
                parameter `lengths`, and nothing is padded.
        """
        subject = f"model {spec.name!r} setting 'pad'"
        if not settings.pad:
            if "lengths" in hooks.call.extras:
                raise _config_error(subject, "inputs to pad, since forward names lengths", "none")
            return None
        if spec.decoupled:
            raise _config_error(subject, "a model that answers with forward", "a decoupled model")
        if not spec.batches:
            raise _config_error(subject, "a model with max_batch_size above 0", f"{spec.max_batch_size}")
        if hooks.collate is not None:
            raise _config_error(subject, "either pad or collate", "both")
        inputs = {tensor.name: tensor for tensor in spec.inputs if tensor.is_dynamic}
        for name in settings.pad:
            if name not in inputs:
                expected = f"inputs with a dimension of -1, {sorted(inputs)}"
                raise _config_error(subject, expected, repr(name))
        return cls(
            fills={
                name: _fill(value, inputs[name].dtype, f"{subject} value for {name!r}")
                for name, value in settings.pad.items()
            },
            input_axes={name: _axes(inputs[name]) for name in settings.pad},
            output_axes={tensor.name: _axes(tensor) for tensor in spec.outputs if tensor.is_dynamic},
            ranks={name: 1 + len(inputs[name].shape) for name in settings.pad},
        )

    def key(self, request: Request) -> object:
        """Return the key of requests that can be padded to the same size."""
        # The shape, with -1 in the dimensions that padding makes equal, and without the batch dimension.
        return frozenset(
            (name, kind_of(value), self._fixed_sizes(name, value.shape))
            for name, value in request.inputs.items()
        )

    def _fixed_sizes(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        axes = self.input_axes.get(name, ())
        return tuple(-1 if axis in axes else size for axis, size in enumerate(shape) if axis > 0)

    def check_rank(self, name: str, value: Value) -> None:
        """Refuse a padded input to which `preprocess` gave another number of dimensions.

        Raises:
            OutputError: the input has more or fewer dimensions than declared.
        """
        rank = self.ranks.get(name, value.ndim)
        if value.ndim != rank:
            raise OutputError(
                message(
                    f"preprocess input {name!r}, which is padded",
                    expected=f"{rank} dimensions, as declared",
                    got=f"shape {list(value.shape)}",
                    remedy="keep the number of dimensions, or join the input in collate instead of pad",
                )
            )

    def pad(self, name: str, values: Sequence[Any]) -> Sequence[Any]:
        """Concatenate the requests' rows of one input, each padded at its end to the largest size.

        Args:
            name: name of the input.
            values: [b, ...] each, all on the host or on one device.

        Returns:
            A list of one value, [B, ...] on the same device; `values` unchanged if nothing needs padding.
        """
        if name not in self.fills or len({value.shape[1:] for value in values}) == 1:
            return values
        sizes = [max(value.shape[axis] for value in values) for axis in range(1, self.ranks[name])]
        shape = (sum(map(len, values)), *sizes)
        is_tensor = isinstance(values[0], torch.Tensor)
        fill = self.fills[name]
        joined = values[0].new_full(shape, fill) if is_tensor else np.full(shape, fill, dtype=object)
        start = 0
        for value in values:
            region = (slice(start, start + len(value)), *map(slice, value.shape[1:]))
            joined[region] = value
            start += len(value)
        return [joined]

    def lengths(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Return the unpadded size of each row, by padded input that the requests have.

        Returns:
            INT64 tensors on the host: [B], or [B, n] for an input with n dimensions of -1.
        """
        lengths = {}
        for name, axes in self.input_axes.items():
            # All requests of a batch have the same inputs, since `key` contains their names.
            if name in requests[0].inputs:
                rows: list[Any] = []
                for request in requests:
                    sizes = [request.inputs[name].shape[axis] for axis in axes]
                    rows += [sizes if len(axes) > 1 else sizes[0]] * (request.rows or 0)
                shape = (len(rows), len(axes)) if len(axes) > 1 else (len(rows),)
                lengths[name] = torch.tensor(rows, dtype=torch.int64).reshape(shape)
        return lengths

    def cuts(
        self, outputs: Mapping[str, Value], requests: Sequence[Request]
    ) -> dict[str, dict[int, tuple[int, ...]]]:
        """Find the output dimensions that are as long as a padded input, and the size of each request there.

        Returns:
            By output and dimension, the unpadded size of each request.

        Raises:
            OutputError: several inputs of different lengths were padded to the size of an output, so that it
                is ambiguous which lengths apply. In a smaller batch it may not be.
        """
        # By padded size, the different sequences of unpadded sizes, one size per request, that led to it.
        padded: dict[int, set[tuple[int, ...]]] = {}
        for name, axes in self.input_axes.items():
            for axis in axes if name in requests[0].inputs else ():
                own = tuple(request.inputs[name].shape[axis] for request in requests)
                padded.setdefault(max(own), set()).add(own)
        found: dict[str, dict[int, tuple[int, ...]]] = {}
        for name, axes in self.output_axes.items():
            for axis in axes:
                size = outputs[name].shape[axis]
                candidates = padded.get(size, set())
                if len(candidates) > 1:
                    raise _ambiguous(name, size)
                for own in candidates:
                    found.setdefault(name, {})[axis] = own
        return found

    def split(self, outputs: Mapping[str, Value], requests: Sequence[Request]) -> list[Mapping[str, Value]]:
        """Split a batch's outputs into one mapping per request, with padding cut off; contiguous copies."""
        answers = split(outputs, [request.rows for request in requests])
        cuts = self.cuts(outputs, requests)
        return [
            {name: _cut(value, cuts.get(name, {}), index) for name, value in answer.items()}
            for index, answer in enumerate(answers)
        ]


def _cut(value: Value, sizes: Mapping[int, tuple[int, ...]], index: int) -> Value:
    """Cut one request's output to its unpadded sizes; the request is given by its index in the batch."""
    for axis, own in sizes.items():
        value = value[(slice(None),) * axis + (slice(own[index]),)]
    return value.contiguous() if isinstance(value, torch.Tensor) else np.ascontiguousarray(value)


def _axes(tensor: TensorSpec) -> tuple[int, ...]:
    """Return the dimensions of -1, the batch dimension counted."""
    return tuple(axis for axis, size in enumerate(tensor.shape, 1) if size == -1)


def _fill(value: object, dtype: DType, subject: str) -> Fill:
    """Return a fill value converted to an input's data type; in config.pbtxt it is text."""
    try:
        return _read_fill(value, dtype)
    except (ValueError, TypeError, KeyError):
        raise _config_error(subject, f"a value of type {dtype}", repr(value)[:80]) from None


def _read_fill(value: Any, dtype: DType) -> Fill:
    if dtype.torch is None:
        return bytes(value) if isinstance(value, bytes) else str.encode(value)
    if dtype.torch is torch.bool:
        return _BOOLEANS[value]
    # A bool is an int in Python, but not a number to pad with.
    if isinstance(value, bool):
        raise TypeError
    # type(...) is int refuses 1.0, which a cast would accept as well as 1.5.
    if not dtype.torch.is_floating_point:
        number = int(value) if isinstance(value, str) else value
        limits = torch.iinfo(dtype.torch)
        if type(number) is not int or not limits.min <= number <= limits.max:
            raise ValueError
        return number
    real = float(value)
    # Infinities are allowed, such as -inf for attention masks; a finite number must not become one.
    if math.isfinite(real) and abs(real) > torch.finfo(dtype.torch).max:
        raise ValueError
    return real


def _config_error(subject: str, expected: str, got: str) -> ConfigError:
    return ConfigError.of(subject, expected=expected, got=got, remedy="correct pad, or leave it out")


def _ambiguous(name: str, size: int) -> OutputError:
    return OutputError(
        message(
            f"forward output {name!r}",
            expected="a size that is that of one padded input only",
            got=f"{size}, to which inputs of different lengths were padded",
            remedy="cut the outputs in postprocess and declare them otherwise, or use collate instead of pad",
        )
    )
