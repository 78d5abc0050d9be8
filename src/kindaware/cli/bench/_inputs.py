"""The inputs of the request that is sent again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kindaware._errors import ConfigError
from kindaware.cli._shapes import choose_sizes, parse_shapes
from kindaware.cli._values import make_random, read_inputs
from kindaware.client._metadata import Metadata, Tensor


def make_inputs(
    metadata: Metadata,
    config: Mapping[str, Any],
    given: Sequence[str],
    shapes: Sequence[str],
    rows: int,
    *,
    seed: int = 0,
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the inputs of one request, with their batch dimension: what was given, random values elsewhere.

    An optional input that was not given is left out.

    Args:
        metadata: the model's tensors.
        config: its configuration.
        given: values as in `--input X=file.npy`; a single row becomes `rows` of them.
        shapes: sizes of one row as in `--shape X=3x224x224`, for inputs with variable dims.
        rows: how many rows the request has; 1 for a model that does not batch.
        seed: of the random values.

    Raises:
        ConfigError: a value or a shape is not the model's, or one is missing.
        ModelClientError: a given value has another data type or rank.
    """
    if rows > 1 and not metadata.batches:
        raise ConfigError.of(
            f"--rows {rows}",
            expected=f"1, since model {metadata.model!r} does not batch",
            got=str(rows),
            remedy="leave --rows out, or set max_batch_size in config.pbtxt",
        )
    values = read_inputs(given, metadata.inputs, random_rest=False)
    sizes = _check_names(metadata, parse_shapes(shapes))
    optional = {one["name"] for one in config.get("input", ()) if one.get("optional")}
    arrays = {}
    for tensor in metadata.inputs:
        if tensor.name in values:
            prepared, is_row = metadata.prepare({tensor.name: values[tensor.name]})
            array = prepared[tensor.name]
            arrays[tensor.name] = np.repeat(array, rows, axis=0) if is_row else array
        elif tensor.name not in optional or tensor.name in sizes:
            arrays[tensor.name] = _random_rows(metadata, tensor, sizes.get(tensor.name), rows, seed)
    return arrays


def _random_rows(
    metadata: Metadata, tensor: Tensor, sizes: tuple[int, ...] | None, rows: int, seed: int
) -> np.ndarray[Any, Any]:
    filled = replace(tensor, dims=choose_sizes(tensor.name, tensor.datatype, tensor.dims, sizes))
    if not metadata.batches:
        return metadata.prepare({tensor.name: make_random(filled, seed)})[0][tensor.name]
    made = [make_random(filled, seed * rows + number) for number in range(rows)]
    return metadata.prepare({tensor.name: np.stack(made)})[0][tensor.name]


def _check_names(metadata: Metadata, sizes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    for name in sizes:
        metadata.find(name)
    return sizes
