"""Values of an example: what Triton would call them, and the same with other rows or other sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kindaware._config.parse import shorten
from kindaware._errors import ConfigError
from kindaware._tensors.dtypes import DTYPES, DType

TENSOR, ARRAY, TEXT_ARRAY = "tensor", "array", "text array"
TEXTS, TEXT, BYTES_TEXTS, BYTES_TEXT = "texts", "text", "byte strings", "bytes"
"""Forms of a value: a torch tensor, a numpy array of anything but `str`, one of `str`; a list of `str`, one
`str`, a list of `bytes`, one `bytes`."""

_BY_TORCH = {dtype.torch: dtype for dtype in DTYPES.values() if dtype.torch is not None}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES.values() if dtype.numpy is not None}
_SERVED = "a tensor, a numpy array, a str, bytes, or a list of str or bytes"


@dataclass(frozen=True)
class ExampleValue:
    """One input or output of an example.

    Args:
        data: the value as it was given.
        form: one of the names above.
        dtype: Triton's data type of its elements.
        shape: of the whole value, () for one text.
    """

    data: Any
    form: str
    dtype: DType
    shape: tuple[int, ...]

    @classmethod
    def of(cls, data: Any, subject: str) -> ExampleValue:
        """Look at a value.

        Raises:
            ConfigError: Triton has no tensor like it.
        """
        if isinstance(data, torch.Tensor):
            return cls(data, TENSOR, _torch_dtype(data, subject), tuple(data.shape))
        if isinstance(data, (np.ndarray, np.generic)):
            data = np.asarray(data)
            has_text = data.dtype.kind == "U" or any(isinstance(one, str) for one in data.ravel().tolist())
            return cls(data, TEXT_ARRAY if has_text else ARRAY, _numpy_dtype(data, subject), data.shape)
        if isinstance(data, str):
            return cls(data, TEXT, DTYPES["BYTES"], ())
        if isinstance(data, bytes):
            return cls(data, BYTES_TEXT, DTYPES["BYTES"], ())
        if isinstance(data, list) and data:
            for kind, form in ((str, TEXTS), (bytes, BYTES_TEXTS)):
                if all(isinstance(one, kind) for one in data):
                    return cls(data, form, DTYPES["BYTES"], (len(data),))
        raise ConfigError.of(
            subject, expected=_SERVED, got=f"{type(data).__name__} {shorten(data)}", remedy=_remedy(data)
        )

    @property
    def may_vary(self) -> bool:
        """Whether sizes are likely to differ between requests: those of text, and of token numbers."""
        return self.dtype.torch is None or not self.dtype.torch.is_floating_point

    def joined_with_other_rows(self) -> Any:
        """Return the rows followed by as many that differ from them, where that is easy to do."""
        if isinstance(self.data, torch.Tensor):
            other = torch.flip(self.data, tuple(range(1, self.data.ndim)))
            if other.dtype.is_floating_point:
                other = other * 0.5
            return torch.cat([self.data, other.to(self.data.dtype)])
        if isinstance(self.data, np.ndarray):
            flipped = np.flip(self.data, tuple(range(1, self.data.ndim)))
            if self.data.dtype.kind == "f":
                flipped = flipped * self.data.dtype.type(0.5)
            return np.concatenate([self.data, flipped])
        return [*self.data, *reversed(self.data)]

    def with_size(self, old: int, new: int, *, first: int) -> Any:
        """Return the value with each dimension of size `old`, from `first` on, cut or grown to `new`."""
        keep = [min(position, old - 1) for position in range(new)]
        data = self.data
        for dim, size in enumerate(self.shape):
            if dim >= first and size == old:
                if isinstance(data, torch.Tensor):
                    data = data.index_select(dim, torch.tensor(keep, device=data.device))
                elif isinstance(data, np.ndarray):
                    data = data.take(keep, axis=dim)
                else:
                    data = [data[position] for position in keep]
        return data

    def begins_like(self, other: ExampleValue) -> bool:
        """Return whether the first rows are those of another value, but for rounding."""
        num_rows = other.shape[0] if other.shape else 0
        mine, theirs = self.data[:num_rows], other.data
        if isinstance(mine, torch.Tensor):
            return _are_close(_as_array(mine), _as_array(theirs))
        if isinstance(mine, np.ndarray):
            return _are_close(mine, theirs)
        return bool(mine == theirs)


def _as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    array: np.ndarray[Any, Any] = (tensor.double() if tensor.dtype.is_floating_point else tensor).numpy()
    return array


def _are_close(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if one.shape != other.shape or one.dtype.kind not in "f":
        return bool(np.array_equal(one, other))
    finite = np.abs(other[np.isfinite(other)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(one, other, rtol=1e-2, atol=1e-2 * scale + 1e-6, equal_nan=True))


def _torch_dtype(tensor: torch.Tensor, subject: str) -> DType:
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise ConfigError.of(
            subject,
            expected="a dense tensor",
            got=str(tensor.layout),
            remedy="make it dense with .to_dense()",
        )
    dtype = _BY_TORCH.get(tensor.dtype)
    if dtype is None:
        raise _unknown_dtype(subject, str(tensor.dtype), "torch.view_as_real(x) for complex numbers")
    return dtype


def _numpy_dtype(array: np.ndarray[Any, Any], subject: str) -> DType:
    if array.dtype.kind in "SU":
        return DTYPES["BYTES"]
    if array.dtype.kind == "O" and not all(isinstance(one, (str, bytes)) for one in array.ravel().tolist()):
        raise _unknown_dtype(subject, "an array of Python objects", "an array of numbers, str or bytes")
    dtype = _BY_NUMPY.get(array.dtype.newbyteorder("="))
    if dtype is None:
        raise _unknown_dtype(subject, str(array.dtype), "array.astype(np.float32)")
    return dtype


def _unknown_dtype(subject: str, got: str, remedy: str) -> ConfigError:
    return ConfigError.of(
        subject, expected="a data type out of " + ", ".join(DTYPES), got=got, remedy=f"convert it: {remedy}"
    )


def _remedy(data: Any) -> str:
    if isinstance(data, (bool, int, float)):
        return f"pass torch.tensor([[{data!r}]]), one row of one number, or bind it with functools.partial"
    if data is None:
        return "leave it out"
    if isinstance(data, list) and not data:
        return "give it at least one text"
    if isinstance(data, (list, tuple)):
        return "make it a tensor, or several arguments"
    return "convert it in a function of your own, and serve that"
