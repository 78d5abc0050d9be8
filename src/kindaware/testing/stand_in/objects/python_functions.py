"""The functions of the module that are plain Python, and are there while model.py is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from kindaware._tensors.dtypes import DTYPES
from kindaware.testing.stand_in.wire.wire import decode_bytes, encode_bytes

TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    dtype.in_config: bool if name == "BOOL" else dtype.numpy.type
    for name, dtype in DTYPES.items()
    if dtype.numpy is not None
}

_NUMBERS = {name: number for number, name in enumerate(DTYPES, 1)}
_NUMPY_BY_NUMBER: dict[int, Any] = {
    number: dtype.numpy and dtype.numpy.type for number, dtype in enumerate(DTYPES.values(), 1)
}
_NUMBERS_OF_TYPES: dict[Any, int] = {
    **{numpy: number for number, numpy in _NUMPY_BY_NUMBER.items() if numpy is not None},
    np.bytes_: _NUMBERS["BYTES"],
}
_NUMBERS_OF_DTYPES = {np.dtype(numpy): number for numpy, number in _NUMBERS_OF_TYPES.items()}


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """Return numpy's type for a type of config.pbtxt, such as `TYPE_FP32`.

    Raises:
        KeyError: no such type, or one that numpy does not have.
    """
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """Return numpy's type for the server's number of a data type, or None."""
    return _NUMPY_BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Return the server's number for numpy's scalar type or dtype, or None."""
    if isinstance(data_type, np.dtype):
        return _NUMBERS_OF_DTYPES.get(data_type)
    return _NUMBERS_OF_TYPES.get(data_type) if isinstance(data_type, type) else None


def serialize_byte_tensor(input_tensor: np.ndarray[Any, Any]) -> bytes | tuple[()] | None:
    """Serialize the elements, each preceded by its length; None for arrays that hold no bytes."""
    if input_tensor.size == 0:
        return ()
    return encode_bytes(input_tensor) if input_tensor.dtype.kind in "OS" else None


def deserialize_bytes_tensor(encoded_tensor: bytes) -> np.ndarray[Any, Any]:
    """Undo `serialize_byte_tensor`; the array has one dimension.

    Raises:
        struct.error: the data is cut short.
    """
    return decode_bytes(encoded_tensor)


def get_input_tensor_by_name(inference_request: Any, name: str) -> Any:
    """Return the input of this name, or None."""
    return next((tensor for tensor in inference_request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(inference_response: Any, name: str) -> Any:
    """Return the output of this name, or None."""
    return next((tensor for tensor in inference_response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the part of the parsed configuration that declares the input, or None."""
    return _find(model_config, "input", name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the part of the parsed configuration that declares the output, or None."""
    return _find(model_config, "output", name)


def _find(model_config: dict[str, Any], kind: str, name: str) -> dict[str, Any] | None:
    if kind not in model_config:
        return None
    return next((one for one in model_config[kind] if one["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Return whether the parsed configuration is that of a decoupled model."""
    if "model_transaction_policy" not in model_config:
        return False
    decoupled: bool = model_config["model_transaction_policy"]["decoupled"]
    return decoupled
