"""BYTES tensors: numpy arrays of `bytes`, for which torch has no dtype, made and checked beside tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kindaware._errors import OutputError, message

BytesArray = np.ndarray[Any, np.dtype[np.object_]]
"""Elements of type `bytes`, dtype object: a fixed-width dtype would drop trailing NULs. Never on a device."""

Value = torch.Tensor | BytesArray
"""The value of an input or output: an array for BYTES, a tensor for every other data type."""


def empty_bytes(shape: Sequence[int]) -> BytesArray:
    """Return an array of `b""`, the BYTES counterpart of zeros."""
    return np.full(tuple(shape), b"", dtype=object)


def host_zeros(value: Value) -> Value:
    """Return zeros of the same dtype and shape, in host memory."""
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    return empty_bytes(value.shape)


def num_bytes(value: Value) -> int:
    """Return the bytes that a value takes in a response; Triton writes four before each element of BYTES."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    texts: list[bytes] = value.ravel().tolist()
    return 4 * len(texts) + sum(map(len, texts))


def is_value(value: object) -> bool:
    """Whether this is a tensor, or an array whose dtype can hold BYTES."""
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype == object)


def to_bytes(value: Any, subject: str) -> BytesArray:
    """Convert what a hook returned for a BYTES output to an array that the response owns.

    Args:
        value: a numpy array of objects or text, or nested lists and tuples; elements are `bytes`, sent as
            they are, or `str`, sent as UTF-8.
        subject: whose output it is, for the error's text.

    Returns:
        A contiguous copy with elements of type `bytes`, of the same shape.

    Raises:
        OutputError: the value is none of these, its lists have uneven lengths, or an element has another
            type or can't be encoded as UTF-8.
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
    # Element by element: numpy would turn text into a fixed-width dtype, and nested arrays into one array.
    array = np.empty(source.size, dtype=object)
    for place, element in enumerate(source.ravel().tolist()):
        array[place] = _encoded(element, subject)
    return array.reshape(source.shape)


def _shape_of(value: Any, subject: str) -> tuple[int, ...]:
    """Return the shape of nested lists; all lists at one level must have the same length."""
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = {_shape_of(one, subject) for one in value}
    if len(shapes) > 1:
        raise _error(subject, f"lists of uneven length, {sorted(shapes)}"[:200])
    return (len(value), *next(iter(shapes), ()))


def _encoded(element: Any, subject: str) -> bytes:
    # A plain `bytes`, also for a subclass such as numpy's bytes_.
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
