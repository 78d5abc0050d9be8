"""BYTES tensors: numpy arrays of `bytes`, which torch has no type for, joined and checked beside tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kindaware._errors import OutputError, message

BytesArray = np.ndarray[Any, np.dtype[np.object_]]
"""Elements of type `bytes`, dtype object: a fixed width would drop NULs at the end. Never on a device."""

Value = torch.Tensor | BytesArray
"""What an input or output holds: BYTES come as arrays, all other data types as tensors."""


def empty_bytes(shape: Sequence[int]) -> BytesArray:
    """Make an array of `b""`, which is to BYTES what zeros are to numbers."""
    return np.full(tuple(shape), b"", dtype=object)


def host_zeros(value: Value) -> Value:
    """Make zeros of the same kind and shape, in host memory."""
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    return empty_bytes(value.shape)


def is_value(value: object) -> bool:
    """Whether this is a tensor, or an array that can hold BYTES."""
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype == object)


def to_bytes(value: Any, subject: str) -> BytesArray:
    """Make what a hook returned for an output of type BYTES into an array of the answers' own.

    Args:
        value: a numpy array of objects or of text, or lists and tuples in each other; elements are `bytes`,
            which are sent as they are, or `str`, which are sent as UTF-8.
        subject: whose output it is, for the error's text.

    Returns:
        A contiguous copy with elements of type `bytes`, of the same shape.

    Raises:
        OutputError: it is none of these, its lists are of uneven length, or an element is of another type or
            can't be sent as UTF-8.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "OU":
            raise _error(subject, f"an array of dtype {value.dtype}")
        source = value
    elif isinstance(value, (list, tuple)):
        source = np.empty(_shape_of(value, subject), dtype=object)
        if source.size:
            source[...] = value
    else:
        raise _error(subject, type(value).__name__)
    # One by one: numpy takes text for a type of fixed width, and an array of arrays for one array.
    array = np.empty(source.size, dtype=object)
    for place, element in enumerate(source.ravel().tolist()):
        array[place] = _encoded(element, subject)
    return array.reshape(source.shape)


def _shape_of(value: Any, subject: str) -> tuple[int, ...]:
    """Sizes of lists in lists; all lists of a level must be of one length."""
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = {_shape_of(one, subject) for one in value}
    if len(shapes) > 1:
        raise _error(subject, f"lists of uneven length, {sorted(shapes)}"[:200])
    return (len(value), *next(iter(shapes), ()))


def _encoded(element: Any, subject: str) -> bytes:
    if isinstance(element, bytes):
        return bytes(element)
    if not isinstance(element, str):
        raise _error(subject, f"an element of type {type(element).__name__}")
    try:
        return element.encode()
    except UnicodeEncodeError as error:
        raise _error(subject, f"text that can't be sent as UTF-8 ({error})") from None


def _error(subject: str, got: str) -> OutputError:
    return OutputError(
        message(
            subject,
            expected="an array of dtype object or a list of bytes or str, the batch dimension first",
            got=got,
            remedy="correct forward or postprocess, or the output's data type in config.pbtxt",
        )
    )
