"""The server's checks of a request before any model sees it, with the server's texts."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kindaware.testing.harness.pending import ClientRequest
from kindaware.testing.stand_in import Failure, WireTensor
from kindaware.testing.stand_in.wire.datatypes import ITEM_BYTES, name_of_config

ONE_OUTPUT_EACH_SINCE = (26, 5)
"""Since then an output may be requested once; the text of the refusal is not measured."""

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)


class RefusedRequest(Exception):  # noqa: N818 - not an error of the program
    """The server refuses a request.

    Args:
        text: the server's.
        code: name of the code.
    """

    def __init__(self, text: str, code: str = "INVALID_ARG") -> None:
        super().__init__(text)
        self.failure = Failure(text, code)


class HangingRequest(Exception):  # noqa: N818
    """The server takes a request and never answers it."""


class InputCheck:
    """Checks requests of one model.

    Source: core `infer_request.cc`, InferenceRequest::Normalize (commit 00033b4), and the texts of 24.10.

    Args:
        config: the model's configuration, as the server's JSON parses.
        server_version: year and month of the release.
    """

    def __init__(self, config: Mapping[str, Any], server_version: tuple[int, int]) -> None:
        self._server_version = server_version
        self._model = config["name"]
        self._max_batch_size = int(config["max_batch_size"])
        self._inputs: dict[str, Mapping[str, Any]] = {tensor["name"]: tensor for tensor in config["input"]}
        self._output_names = [tensor["name"] for tensor in config["output"]]
        self._required = [name for name, tensor in self._inputs.items() if not tensor["optional"]]

    def check(self, request: ClientRequest) -> tuple[WireTensor, ...]:
        """Return the inputs as the model gets them: reshaped, in the client's order.

        The server checks the inputs in an order of its own; here it is the client's backwards, which
        equals the server's as long as there are few.

        Raises:
            RefusedRequest: with the server's text.
            HangingRequest: it would never answer.
        """
        self._check_names(request)
        backwards = request.inputs[::-1]
        num_rows = self._count_rows(request, backwards)
        shapes = {wire.name: self._check_tensor(request, wire, num_rows) for wire in backwards}
        if self._max_batch_size and not request.inputs:
            raise RefusedRequest(request.label + "out of bounds index 0: request has 0 inputs")
        if self._max_batch_size and num_rows == 0:
            raise HangingRequest
        return tuple(replace(wire, shape=shapes[wire.name]) for wire in request.inputs)

    def output_names(self, request: ClientRequest) -> tuple[str, ...]:
        """Return the names of the outputs that the model is asked for."""
        return tuple(dict.fromkeys(request.requested_outputs)) or tuple(self._output_names)

    def _check_names(self, request: ClientRequest) -> None:
        for name in sorted(request.requested_outputs):
            if name not in self._output_names:
                raise RefusedRequest(f"unexpected inference output '{name}' for model '{self._model}'")
        repeated = [name for name, count in Counter(request.requested_outputs).items() if count > 1]
        if repeated and self._server_version >= ONE_OUTPUT_EACH_SINCE:
            raise RefusedRequest(f"{request.label}output '{repeated[0]}' already exists in request")
        names = [wire.name for wire in request.inputs]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise RefusedRequest(f"{request.label}input '{name}' already exists in request")
        if not len(self._required) <= len(names) <= len(self._inputs):
            raise RefusedRequest(request.label + self._wrong_number(names))

    def _wrong_number(self, names: Sequence[str]) -> str:
        missing = [name for name in self._required if name not in names]
        # The server takes the last character off "[" too, when no input is missing.
        shown = f"[{_quoted(missing)}]" if missing else "]"
        expected = f"{len(self._inputs)}"
        if len(self._required) != len(self._inputs):
            expected = f"number of inputs between {len(self._required)} and {len(self._inputs)}"
            start = f"expected {expected} but got {len(names)} inputs"
        else:
            start = f"expected {expected} inputs but got {len(names)} inputs"
        return (
            f"{start} for model '{self._model}'. Got input(s) [{_quoted(names[::-1])}], but missing required "
            f"input(s) {shown}. Please provide all required input(s)."
        )

    def _count_rows(self, request: ClientRequest, inputs: Sequence[WireTensor]) -> int:
        """Return the request's batch size; 0 where the model has none, and where all inputs have no rows."""
        if self._max_batch_size == 0:
            return 0
        num_rows = 0
        for wire in inputs:
            self._find(wire)
            if not wire.shape:
                raise RefusedRequest(
                    f"{request.label}input '{wire.name}' has no shape but model requires batch dimension for "
                    f"'{self._model}'"
                )
            if num_rows == 0:
                num_rows = wire.shape[0]
            elif wire.shape[0] != num_rows:
                raise RefusedRequest(
                    f"{request.label}input '{wire.name}' batch size does not match other inputs for "
                    f"'{self._model}'"
                )
        if num_rows > self._max_batch_size:
            raise RefusedRequest(
                f"{request.label}inference request batch-size must be <= {self._max_batch_size} for "
                f"'{self._model}'"
            )
        return num_rows

    def _find(self, wire: WireTensor) -> Mapping[str, Any]:
        if wire.name not in self._inputs:
            raise RefusedRequest(f"unexpected inference input '{wire.name}' for model '{self._model}'")
        return self._inputs[wire.name]

    def _check_tensor(self, request: ClientRequest, wire: WireTensor, num_rows: int) -> tuple[int, ...]:
        """Return the shape that the model sees."""
        declared = self._find(wire)
        expected = name_of_config(declared["data_type"])
        if wire.datatype != expected:
            raise RefusedRequest(
                f"{request.label}inference input '{wire.name}' data-type is '{wire.datatype}', but model "
                f"'{self._model}' expects '{expected}'"
            )
        shape = wire.shape[1:] if self._max_batch_size else wire.shape
        dims = declared["dims"]
        if len(dims) != len(shape) or any(a not in (-1, b) for a, b in zip(dims, shape, strict=True)):
            full = [-1, *dims] if self._max_batch_size else dims
            note = _BATCH_NOTE if self._max_batch_size else ""
            raise RefusedRequest(
                f"{request.label}unexpected shape for input '{wire.name}' for model '{self._model}'. "
                f"Expected {_listed(full)}, got {_listed(wire.shape)}. {note}"
            )
        if "reshape" in declared:
            variable = iter([size for dim, size in zip(dims, shape, strict=True) if dim == -1])
            shape = tuple(next(variable) if dim == -1 else dim for dim in declared["reshape"]["shape"])
        if num_rows:
            shape = (num_rows, *shape)
        self._check_size(request, wire, shape)
        return shape

    def _check_size(self, request: ClientRequest, wire: WireTensor, shape: tuple[int, ...]) -> None:
        num_elements = math.prod(shape)
        if wire.datatype == "BYTES":
            num_sent = self._count_elements(request, wire)
            if num_sent != num_elements:
                raise RefusedRequest(
                    f"{request.label}expected {num_elements} string elements for inference input "
                    f"'{wire.name}' for model '{self._model}', got {num_sent}"
                )
            return
        sent_bytes = len(wire.data)
        item_bytes = ITEM_BYTES[wire.datatype]
        if sent_bytes != num_elements * item_bytes:
            raise RefusedRequest(
                f"{request.label}input byte size mismatch for input '{wire.name}' for model "
                f"'{self._model}'. Expected {num_elements * item_bytes}, got {sent_bytes}"
            )

    def _count_elements(self, request: ClientRequest, wire: WireTensor) -> int:
        """Count the elements of BYTES; each follows its length, 4 bytes."""
        start = count = 0
        while start < len(wire.data):
            left = len(wire.data) - start
            if left < _LENGTH.size:
                raise RefusedRequest(
                    f"{request.label}incomplete string length indicator for inference input '{wire.name}' "
                    f"for model '{self._model}', expecting {_LENGTH.size} bytes but only {left} bytes "
                    "available. Please make sure the string length indicator is in one buffer."
                )
            (length,) = _LENGTH.unpack_from(wire.data, start)
            left -= _LENGTH.size
            if left < length:
                raise RefusedRequest(
                    f"incomplete string data for inference input '{wire.name}', expecting string of length "
                    f"{length} but only {left} bytes available"
                )
            start += _LENGTH.size + length
            count += 1
        return count


_LENGTH = struct.Struct("<I")


def _quoted(names: Sequence[str]) -> str:
    return ",".join(f"'{name}'" for name in names)


def _listed(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"
