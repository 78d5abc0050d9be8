"""Requests made out of a model's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kindaware._errors import ConfigError, OptionError
from kindaware._tensors.dtypes import DType, find_dtype
from kindaware.cli._shapes import choose_sizes, fits
from kindaware.cli._values import load_array, make_random
from kindaware.client._metadata import Tensor

DEFAULT_REQUESTS = 32


def parse_parameters(options: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE`.

    Raises:
        OptionError: an option is not of that form.
    """
    found = {}
    for option in options:
        name, equals, found[name] = option.partition("=")
        if not (name and equals):
            raise OptionError.of(
                f"--parameter {option}",
                expected="a name and a value",
                got=repr(option),
                remedy="write it like --parameter kindaware.precision=bf16-true",
            )
    return found


def read_data(options: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Read the files of `INPUT=FILE.npy`; nothing in them is run.

    Raises:
        OptionError: an option is not of that form.
        ConfigError: there is no such file, or none of numpy's.
    """
    found = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (name and equals):
            raise OptionError.of(
                f"--data {option}",
                expected="an input and a file",
                got=repr(option),
                remedy="write it like --data INPUT=rows.npy",
            )
        try:
            found[name] = load_array(Path(path))
        except ValueError as error:
            raise ConfigError.of(
                f"--data {option}",
                expected="a file of numpy's, whose array is not one of objects",
                got=str(error),
                remedy="write the file with numpy.save",
            ) from error
    return found


def count_requests(model: str, max_batch_size: int, rows: int, requests: int | None) -> int:
    """Return how many requests one `execute` gets: as many as were asked for, else 32 or what fits.

    Raises:
        ConfigError: a server would not hand over that many.
    """
    limit = max_batch_size // rows if max_batch_size else int(rows == 1)
    wanted = min(DEFAULT_REQUESTS, limit) if requests is None else requests
    if not 1 <= wanted <= limit:
        raise ConfigError.of(
            f"model {model!r}, {max(wanted, 1)} requests of {rows} rows",
            expected=f"at most {max_batch_size} rows, its max_batch_size, in one execute"
            if max_batch_size
            else "one request of one row in an execute, since its max_batch_size is 0",
            got=f"{max(wanted, 1) * rows} rows",
            remedy="lower --requests or --rows",
        )
    return wanted


def make_requests(
    config: Mapping[str, Any],
    *,
    num_requests: int,
    rows: int,
    shapes: Mapping[str, tuple[int, ...]],
    data: Mapping[str, np.ndarray[Any, Any]],
) -> list[dict[str, Any]]:
    """Return the inputs of each request, by name: [rows, ...] where the model batches.

    Args:
        config: the model's, completed.
        num_requests: how many.
        rows: of each.
        shapes: of one row, of inputs whose configuration leaves sizes open.
        data: rows that take the place of random ones: [N, ...], of which the requests get one after the
            other, beginning again at the end; of a model that does not batch the input itself.

    Raises:
        ConfigError: an input has no shape, or what is given for it does not fit.
    """
    inputs = {tensor["name"]: tensor for tensor in config["input"]}
    for option, names in (("--shape", shapes), ("--data", data)):
        if unknown := sorted(set(names) - set(inputs)):
            raise ConfigError.of(
                f"{option} {unknown[0]}",
                expected=f"an input of model {config['name']!r}: {', '.join(inputs)}",
                got=repr(unknown[0]),
                remedy="correct the name",
            )
    batches = int(config["max_batch_size"]) > 0
    total = num_requests * rows
    columns: dict[str, Any] = {}
    for name, tensor in inputs.items():
        dtype = find_dtype(tensor["data_type"], f"input {name!r} data_type")
        dims = [int(size) for size in tensor["dims"]]
        if name in data:
            columns[name] = _take(data[name], name, dims, dtype, total if batches else None)
        else:
            sizes = choose_sizes(name, str(dtype), dims, shapes.get(name))
            columns[name] = _random(Tensor(name, str(dtype), sizes), dtype, total if batches else None)
    if not batches:
        return [columns]
    return [
        {name: column[start : start + rows] for name, column in columns.items()}
        for start in range(0, total, rows)
    ]


def _take(
    array: np.ndarray[Any, Any], name: str, dims: Sequence[int], dtype: DType, total: int | None
) -> Any:
    """Return rows of a file, as often as needed; without a total the array is the input."""
    row = array.shape if total is None else array.shape[1:]
    is_text = dtype.torch is None and array.dtype.kind in "SU"
    if not ((is_text or array.dtype == dtype.numpy) and fits(row, dims) and (total is None or len(array))):
        wanted = list(dims) if total is None else ["N", *dims]
        raise ConfigError.of(
            f"--data {name}",
            expected=f"an array {wanted} of {dtype}",
            got=f"{list(array.shape)} of {array.dtype}",
            remedy="convert it; BF16 has no type in numpy, so leave --data out there",
        )
    if is_text:
        array = (
            np.char.encode(array, "utf-8").astype(object) if array.dtype.kind == "U" else array.astype(object)
        )
    return array if total is None else array[np.arange(total) % len(array)]


def _random(tensor: Tensor, dtype: DType, total: int | None) -> Any:
    """Return random rows of a data type; without a total the input of a model that doesn't batch."""
    rows = [make_random(tensor, seed) for seed in range(total or 1)]
    values = rows[0] if total is None else np.stack(rows)
    if dtype.torch is None:
        return values.astype(bytes).astype(object)
    return values.astype(dtype.numpy) if dtype.numpy else torch.from_numpy(values).to(dtype.torch)
