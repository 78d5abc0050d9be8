"""Outputs on the terminal: shapes and first values, the best classes, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TextIO

import numpy as np

from kindaware._errors import ConfigError
from kindaware.cli._hanging import hang
from kindaware.cli._values import Tensor

_NUM_VALUES = 8


def write_json(outputs: Mapping[str, Any], **more: Any) -> str:
    """Return an answer as one line of JSON.

    Args:
        outputs: arrays by name; bytes that are not UTF-8 are escaped, and NaN and the infinities, which JSON
            does not have, are null.
        more: what else there is to say about the answer.
    """
    found = {name: plain(_finite(array)) for name, array in outputs.items()}
    return json.dumps({"outputs": found, **more}, ensure_ascii=False, allow_nan=False)


def _finite(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    found = array.astype(object)
    found[~np.isfinite(array)] = None
    return found


def write_outputs(
    outputs: Mapping[str, Any],
    *,
    top: int = 0,
    labels: Mapping[str, Sequence[str]] = MappingProxyType({}),
    column: int = 0,
    out: TextIO | None = None,
) -> str:
    """Return a line for each output, with its data type, shape and first values.

    Args:
        outputs: arrays by name.
        top: how many of the best classes to list for each row; 0 for none.
        labels: names of the classes, by output.
        column: number of characters before the text on its first line.
        out: where it is printed; standard output if None.
    """
    lines: list[str] = []
    for name, array in outputs.items():
        kind = "BYTES" if array.dtype == object else str(array.dtype)
        line = f"{name}  {kind} {list(array.shape)}  {_first_values(array)}".rstrip()
        lines.append(hang(line, 0 if lines else column, further=4, out=out))
        if top and array.ndim and array.dtype.kind in "fiu" and array.shape[-1] > 1:
            for number, row in enumerate(array.reshape(-1, array.shape[-1])):
                lines += [f"  row {number}"] * (array.ndim > 1) + _best(row, top, labels.get(name, ()))
    return "\n".join(lines)


def refuse_no_classes(top: int, tensors: Iterable[Tensor]) -> None:
    """Refuse to list the best classes of a model none of whose outputs are numbers.

    Args:
        top: how many were asked for; 0 for none.
        tensors: the outputs.

    Raises:
        ConfigError: there are none to list.
    """
    datatypes = {one.name: one.datatype for one in tensors}
    if top and all(datatype in ("BYTES", "BOOL") for datatype in datatypes.values()):
        raise ConfigError.of(
            f"--top {top}",
            expected="an output of numbers, whose largest are the best classes",
            got=", ".join(f"{name} {datatype}" for name, datatype in datatypes.items()) or "no outputs",
            remedy="leave --top and --labels out",
        )


def read_text(outputs: Mapping[str, Any]) -> str | None:
    """Return the text that an item of a stream consists of; None for one that has anything else in it."""
    values = list(outputs.values())
    if len(values) != 1 or values[0].dtype != object or values[0].size != 1:
        return None
    return str(plain(values[0].reshape(1))[0])


def _first_values(array: np.ndarray[Any, Any]) -> str:
    values = plain(array.ravel()[:_NUM_VALUES])
    shown = ", ".join(
        f"{one:.6g}" if isinstance(one, float) else json.dumps(one, ensure_ascii=False) for one in values
    )
    return f"[{shown}{', ...' if array.size > _NUM_VALUES else ''}]"


def _best(row: np.ndarray[Any, Any], top: int, labels: Sequence[str]) -> list[str]:
    order = np.argsort(row)[::-1][:top]
    return [
        f"  {row[index]:10.4f}  {index:5d}  {labels[index] if index < len(labels) else ''}".rstrip()
        for index in order.tolist()
    ]


def plain(array: np.ndarray[Any, Any]) -> Any:
    """Return an array as JSON has it; bytes that are not UTF-8 are escaped."""
    if array.dtype != object:
        return array.tolist()
    texts = [
        one.decode("utf-8", "backslashreplace") if isinstance(one, bytes) else one
        for one in array.ravel().tolist()
    ]
    return np.array(texts, dtype=object).reshape(array.shape).tolist()
