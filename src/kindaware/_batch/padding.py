"""Padding: requests of different sizes share a batch, inputs padded to the longest and outputs cut back.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

import itertools
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
from kindaware._hooks.hooks import Hooks
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.dtypes import DTYPES, DType, triton_name
from kindaware._tensors.rows import Output, RaggedRows, Rows, kind_of, split

Fill = bool | int | float | bytes
"""A value to pad with, of the input's data type."""

_BOOLEANS = {"true": True, "false": False, True: True, False: False}


Source = tuple[str, int]
"""The padded input whose size an output's dimension has, and which of its padded dimensions."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Padding:
    """Which inputs are padded, with what, and which dimensions of outputs are longer because of it.

    Where `collate` does the padding, nothing is known of it but which outputs follow which inputs.

    Dimensions are counted with the batch dimension, which is 0.

    Attributes:
        fills: fill value, by padded input; as written if `preprocess` decides on the data type.
        input_axes: dimensions declared as -1, by padded input; empty for one that only `preprocess` makes.
        ranks: number of declared dimensions, by padded input; 0 for one that only `preprocess` makes.
        required: padded inputs that no request may lack.
        sources: the padded input that each output's dimensions follow, by output and dimension.
        is_by_collate: whether `collate` pads, to any size.
    """

    fills: Mapping[str, Any]
    input_axes: Mapping[str, tuple[int, ...]]
    ranks: Mapping[str, int]
    required: frozenset[str]
    sources: Mapping[str, Mapping[int, Source]]
    is_by_collate: bool = False

    @classmethod
    def plan(cls, spec: ModelSpec, settings: Settings, hooks: Hooks) -> Padding | None:
        """Return the padding that `pad` and `unpad` ask for, or `collate` may do; None if nothing is padded.

        Raises:
            ConfigError: `pad` names something other than an input of variable size or, if there is a hook
                `preprocess`, a parameter of `forward`; a fill value is not of the input's data type; `unpad`
                does not say what each output of variable size follows; the model does not batch or has a hook
                `collate`; or `forward` has a parameter `lengths`, and nothing is padded.
        """
        subject = f"model {spec.name!r} setting 'pad'"
        if not settings.pad:
            if "lengths" in hooks.call.extras:
                raise _config_error(subject, "inputs to pad, since forward names lengths", "none")
            return cls._of_collate(spec, settings, hooks)
        if spec.decoupled:
            raise _config_error(subject, "a model that answers with forward", "a decoupled model")
        if not spec.batches:
            raise _config_error(subject, "a model with max_batch_size above 0", f"{spec.max_batch_size}")
        if hooks.collate is not None:
            raise _config_error(subject, "either pad or collate", "both")
        inputs = {tensor.name: tensor for tensor in spec.inputs}
        _check_names(settings.pad, spec, hooks, subject)
        padded = {name: inputs[name] for name in settings.pad if name in inputs}
        input_axes = {name: _axes(padded[name]) if name in padded else () for name in settings.pad}
        return cls(
            fills=settings.pad
            if hooks.preprocess is not None
            else {
                name: _fill(value, inputs[name].dtype, f"{subject} value for {name!r}")
                for name, value in settings.pad.items()
            },
            input_axes=input_axes,
            ranks={name: 1 + len(padded[name].shape) if name in padded else 0 for name in settings.pad},
            required=frozenset(settings.pad) - _may_lack(spec, hooks),
            sources=plan_sources(spec, settings, input_axes),
        )

    @classmethod
    def _of_collate(cls, spec: ModelSpec, settings: Settings, hooks: Hooks) -> Padding | None:
        """Return what is cut off where `collate` may join sizes that differ; None if there is nothing to cut.

        Raises:
            ConfigError: `unpad` does not say what each output of variable size follows.
        """
        inputs = {tensor.name: _axes(tensor) for tensor in spec.inputs if tensor.is_dynamic}
        if hooks.preprocess is not None:
            parameters = hooks.call.parameters
            names = {one.name for one in spec.inputs} | (parameters.names if parameters else set())
            if parameters is not None and parameters.takes_any_name:
                names.update(filter(None, itertools.chain(*(settings.unpad or {}).values())))
            inputs = dict.fromkeys(names, ()) | inputs
        # A batch of one row has one request.
        may_differ = hooks.collate is not None and spec.max_batch_size > 1 and not spec.decoupled and inputs
        if not may_differ or not any(tensor.is_dynamic for tensor in spec.outputs):
            return None
        return cls(
            fills={},
            input_axes=inputs,
            ranks={one.name: 1 + len(one.shape) for one in spec.inputs},
            required=frozenset(),
            sources=plan_sources(spec, settings, inputs, joins="collate"),
            is_by_collate=True,
        )

    def key(self, request: Request) -> object:
        """Return the key of requests that can be padded to the same size."""
        # The shape, with -1 in the dimensions that padding makes equal, and without the batch dimension.
        return frozenset(
            (name, kind_of(value), self._fixed_sizes(name, value.shape))
            for name, value in request.inputs.items()
        )

    def _fixed_sizes(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        axes = self._padded_axes(name, len(shape)) if name in self.fills else ()
        return tuple(-1 if axis in axes else size for axis, size in enumerate(shape) if axis > 0)

    def _padded_axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Return the padded dimensions of an input: those of -1, or all of one that `preprocess` made."""
        declared = self.input_axes[name]
        return declared if declared and rank == self.ranks[name] else tuple(range(1, rank))

    def extents(self, request: Request) -> list[tuple[int, ...]]:
        """Return the sizes of the dimensions that are padded, by padded input that the request has."""
        shapes = [(name, request.inputs[name].shape) for name in self.fills if name in request.inputs]
        return [tuple(shape[axis] for axis in self._padded_axes(name, len(shape))) for name, shape in shapes]

    def check(self, inputs: Mapping[str, Rows]) -> None:
        """Refuse what `preprocess` returned if it can't be padded.

        Raises:
            OutputError: a padded input is missing, is one number per row, or its data type can't have the
                fill value.
        """
        for name in self.fills:
            if name not in inputs:
                if name in self.required:
                    raise _produced_error(name, "it, since pad names it", f"inputs {sorted(inputs)}")
                continue
            if inputs[name].ndim < 2:
                shape = list(inputs[name].shape)
                raise _produced_error(name, "a size behind the rows, to be padded", f"shape {shape}")
            self._fill_of(name, inputs[name])

    def _fill_of(self, name: str, value: Rows) -> Fill:
        """Return the value to pad with, read for the data type of the rows: `preprocess` may have chosen it.

        Raises:
            OutputError: the data type can't have the value.
        """
        written = self.fills[name]
        one = value.rows[0] if isinstance(value, RaggedRows) else value
        dtype = triton_name(one.dtype) if isinstance(one, torch.Tensor) else "BYTES"
        try:
            return _read_fill(written, DTYPES[dtype])
        except (ValueError, TypeError, KeyError):
            got = f"{dtype}, which {written!r} is no value of"
            raise _produced_error(name, "a data type of the value in pad", got) from None

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
        sizes = [max(value.shape[axis] for value in values) for axis in range(1, values[0].ndim)]
        shape = (sum(map(len, values)), *sizes)
        is_tensor = isinstance(values[0], torch.Tensor)
        fill = self._fill_of(name, values[0])
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
            INT64 tensors on the host: [B], or [B, n] for an input with n dimensions that are padded.
        """
        lengths = {}
        for name in self.fills:
            # All requests of a batch have the same inputs, since `key` contains their names.
            if name not in requests[0].inputs:
                continue
            axes = self._padded_axes(name, requests[0].inputs[name].ndim)
            rows: list[list[int]] = []
            for request in requests:
                value = request.inputs[name]
                shapes = (
                    value.row_shapes
                    if isinstance(value, RaggedRows)
                    else [value.shape[1:]] * (request.rows or 0)
                )
                rows += [[shape[axis - 1] for axis in axes] for shape in shapes]
            table = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(axes))
            lengths[name] = table if len(axes) > 1 else table[:, 0]
        return lengths

    def cuts(
        self, outputs: Mapping[str, Output], requests: Sequence[Request]
    ) -> dict[str, dict[int, tuple[int, ...]]]:
        """Return the size of each request in the output dimensions that follow a padded input.

        Returns:
            By output and dimension, the unpadded size of each request. An output of one value per request has
            none: its sizes are the model's own.

        Raises:
            OutputError: an output is not as long as the padded input that it follows.
        """
        found: dict[str, dict[int, tuple[int, ...]]] = {}
        for name, sources in self.sources.items():
            output = outputs[name]
            for axis, (source, place) in sources.items():
                if isinstance(output, list) or source not in requests[0].inputs:
                    continue
                axes = self._padded_axes(source, requests[0].inputs[source].ndim)
                if place >= len(axes):
                    raise _unlike_source(name, f"at most {len(axes)} dimensions that follow", source, "more")
                own = tuple(request.inputs[source].shape[axes[place]] for request in requests)
                size = output.shape[axis]
                if size < max(own) or (size > max(own) and not self.is_by_collate):
                    at_least = " or more" if self.is_by_collate else ""
                    expected = f"size {max(own)}{at_least} in dimension {axis}, to which is padded"
                    raise _unlike_source(name, expected, source, f"shape {list(output.shape)}")
                found.setdefault(name, {})[axis] = own
        return found

    def cut(self, outputs: Mapping[str, Output], requests: Sequence[Request]) -> dict[str, Output]:
        """Cut the padding off a batch's outputs, each that follows an input into one value per request.

        An output that is cut already has one value per request, and stays as it is.
        """
        cuts = self.cuts(outputs, requests)
        answers = split({name: outputs[name] for name in cuts}, [request.rows for request in requests])
        parts: dict[str, Output] = {
            name: [_cut(answer[name], sizes, index) for index, answer in enumerate(answers)]
            for name, sizes in cuts.items()
        }
        return {**outputs, **parts}


def _check_names(pad: Mapping[str, Any], spec: ModelSpec, hooks: Hooks, subject: str) -> None:
    """Refuse names in `pad` that no request can have, or that can't vary in size."""
    names = sorted(tensor.name for tensor in spec.inputs if tensor.is_dynamic)
    expected = f"inputs with a dimension of -1, {names}"
    if hooks.preprocess is not None:
        parameters = hooks.call.parameters
        if parameters is not None and parameters.takes_any_name:
            return
        names = sorted({tensor.name for tensor in spec.inputs} | (parameters.names if parameters else set()))
        expected = f"inputs, or parameters of forward that preprocess returns, {names}"
    for name in pad:
        if name not in names:
            raise _config_error(subject, expected, repr(name))


def _may_lack(spec: ModelSpec, hooks: Hooks) -> frozenset[str]:
    """Return the names of inputs that a batch may lack."""
    parameters = hooks.call.parameters
    defaults = parameters.names - parameters.required if parameters is not None else frozenset()
    return frozenset(tensor.name for tensor in spec.inputs if tensor.optional) | defaults


def plan_sources(
    spec: ModelSpec, settings: Settings, input_axes: Mapping[str, tuple[int, ...]], *, joins: str = "pad"
) -> dict[str, dict[int, Source]]:
    """Return which padded input each output's dimensions of -1 follow, as the setting `unpad` says.

    The inputs are those that the setting `pad` names, or all that the hook `collate` may join.

    Sizes alone don't tell: the five best of a request of length 3 are as long as a neighbour of length 5.

    Raises:
        ConfigError: `unpad` leaves out an output of variable size, names another one, or an input that is not
            padded, or has more or fewer entries than the output has dimensions of -1.
    """
    subject = f"model {spec.name!r} setting 'unpad'"
    said = settings.unpad or {}
    dynamic = {tensor.name: _axes(tensor) for tensor in spec.outputs if tensor.is_dynamic}
    if unknown := sorted(set(said) - set(dynamic)):
        raise _unpad_error(subject, f"outputs with a dimension of -1, {sorted(dynamic)}", repr(unknown[0]))
    sources: dict[str, dict[int, Source]] = {}
    for name, axes in dynamic.items():
        if name not in said:
            by = "padded input" if joins == "pad" else "input, which collate may pad,"
            expected = f"the {by} that output {name!r} is as long as, or None"
            raise _unpad_error(subject, expected, "neither")
        entries = said[name] * len(axes) if len(said[name]) == 1 else said[name]
        if len(entries) != len(axes):
            expected = f"an entry for each of the {len(axes)} dimensions of -1 of output {name!r}"
            raise _unpad_error(subject, expected, f"{len(entries)}")
        for number, (axis, entry) in enumerate(zip(axes, entries, strict=True)):
            if entry is None:
                continue
            if entry not in input_axes:
                which = "that pad names" if joins == "pad" else "of variable size"
                raise _unpad_error(subject, f"inputs {which}, {sorted(input_axes)}", repr(entry))
            # The first dimension that follows an input follows its first, the second its second.
            sources.setdefault(name, {})[axis] = (entry, entries[:number].count(entry))
    return sources


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


def _unpad_error(subject: str, expected: str, got: str) -> ConfigError:
    remedy = (
        "write unpad = {'OUTPUT': 'INPUT'} to cut it back to each request's length, or {'OUTPUT': None} "
        "where it follows none, or is a list with one tensor per request"
    )
    return ConfigError.of(subject, expected=expected, got=got, remedy=remedy)


def _produced_error(name: str, expected: str, got: str) -> OutputError:
    remedy = "correct preprocess, or the setting pad"
    return OutputError(
        message(f"preprocess input {name!r}, which is padded", expected=expected, got=got, remedy=remedy)
    )


def _unlike_source(name: str, expected: str, source: str, got: str) -> OutputError:
    return OutputError(
        message(
            f"output {name!r}",
            expected=f"{expected} input {source!r}",
            got=got,
            remedy="return it as long as that input, or write None for it in unpad",
        )
    )
