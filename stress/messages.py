"""The outputs in the responses of gRPC, as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_DTYPES = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32}

Values = dict[str, list[Any]]
"""Flat values by the name of their output."""


def outputs_of(response: Any) -> Values:
    """Return the outputs of a response."""
    outputs = zip(response.outputs, response.raw_output_contents, strict=False)
    return {output.name: unpack(output.datatype, data) for output, data in outputs}


def unpack(datatype: str, data: bytes) -> list[Any]:
    """Return the values of an output in the binary form."""
    if datatype == "BYTES":
        return list(_texts_of(data))
    return list(np.frombuffer(data, _DTYPES[datatype]).tolist())


def _texts_of(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        yield data[place + 4 : end]
        place = end
