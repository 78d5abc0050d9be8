"""What the sequence batcher asks of requests, and the control tensors that it adds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kindaware._errors import ConfigError
from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.harness.pending import ClientRequest
from kindaware.testing.harness.server.input_check import RefusedRequest
from kindaware.testing.stand_in import WireTensor
from kindaware.testing.stand_in.wire.datatypes import NUMPY_TYPES, name_of_config

START, END = 1, 2
ID_TYPE_SINCE = (25, 1)
"""Since then the type of a correlation id is checked; the text of the refusal is not measured."""

_VALUES = (("int32_false_true", "INT32"), ("fp32_false_true", "FP32"), ("bool_false_true", "BOOL"))


class SequenceBatcher:
    """The sequences of one model, as far as a client notices them.

    With the strategy `direct` a sequence has a slot of an instance, which is its place in every batch there.
    Not mirrored: idle times, queues, and implicit state.

    Args:
        config: the model's configuration; it has `sequence_batching`.
        server_version: year and month of the release.

    Raises:
        ConfigError: it has implicit state.
    """

    def __init__(self, config: Mapping[str, Any], server_version: tuple[int, int]) -> None:
        self._server_version = server_version
        self._model = config["name"]
        self._is_batched = config["max_batch_size"] > 0
        batching = config["sequence_batching"]
        self.is_iterative = bool(batching["iterative_sequence"])
        self._controls = [
            (one["name"], control) for one in batching["control_input"] for control in one["control"]
        ]
        self._is_direct = "oldest" not in batching and not self.is_iterative
        self._num_slots = max(int(config["max_batch_size"]), 1)
        self._places: dict[int | str, tuple[int, int]] = {}
        self._running: set[int | str] = set()
        self._ids = itertools.count(1)
        if batching["state"]:
            raise ConfigError.of(
                f"model {self._model!r} sequence_batching",
                expected="no state in a harness",
                got="implicit state",
                remedy="test this model with TritonServer",
            )

    def admit(self, request: ClientRequest) -> ClientRequest:
        """Admit a request to its sequence.

        Raises:
            RefusedRequest: with the server's text.
        """
        if request.correlation_id:
            self._check_type(request)
        if self.is_iterative and not request.correlation_id:
            request = replace(request, correlation_id=next(self._ids), flags=request.flags | START)
        if not request.correlation_id:
            raise RefusedRequest(
                f"inference request to model '{self._model}' must specify a non-zero or "
                "non-empty correlation ID"
            )
        if self._is_batched and any(wire.shape[0] != 1 for wire in request.inputs):
            raise RefusedRequest(
                f"inference request to model '{self._model}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        identity = request.correlation_id
        if not request.flags & START and identity not in self._running:
            raise RefusedRequest(
                f"inference request for sequence {identity} to model '{self._model}' must specify the START "
                "flag on the first request of the sequence"
            )
        self._running.add(identity)
        if request.flags & END or self.is_iterative:
            self._running.discard(identity)
        return request

    def _check_type(self, request: ClientRequest) -> None:
        """Refuse a correlation id that the control tensor for it can't take."""
        is_text = isinstance(request.correlation_id, str)
        for _, control in self._controls:
            datatype = name_of_config(control["data_type"])
            is_id = control["kind"] == "CONTROL_SEQUENCE_CORRID"
            if is_id and is_text != (datatype == "BYTES") and self._server_version >= ID_TYPE_SINCE:
                raise RefusedRequest(
                    f"{request.label}sequence batching control: expected a correlation ID of type {datatype} "
                    f"for model '{self._model}', got {'BYTES' if is_text else 'UINT64'}"
                )

    def place(self, request: ClientRequest, num_instances: int, wanted: int | None) -> tuple[int, int] | None:
        """Return the instance and the slot of a request's sequence; None where it has no place of its own.

        Args:
            request: one that was admitted.
            num_instances: of the model.
            wanted: the instance that a new sequence is to get.

        Raises:
            HarnessError: there is no free slot; the server would let the request wait.

        Source: core `sequence_batch_scheduler.cc`, DirectSequenceBatch; order measured on 2.51.0.
        """
        if not self._is_direct:
            return None
        identity = request.correlation_id
        if identity not in self._places:
            instances = range(num_instances) if wanted is None else [wanted]
            every = ((index, slot) for slot in range(self._num_slots) for index in instances)
            free = next((one for one in every if one not in self._places.values()), None)
            if free is None:
                raise HarnessError.of(
                    f"sequence {identity!r} of model {self._model!r}",
                    expected="a free slot",
                    got=f"{len(self._places)} sequences in as many slots",
                    remedy="end one with flags=2, since the server would let this one wait, or raise "
                    "max_batch_size or instances",
                )
            self._places[identity] = free
        return self._places.pop(identity) if request.flags & END else self._places[identity]

    def controls(self, request: ClientRequest, flags: int, is_ready: bool) -> tuple[WireTensor, ...]:
        """Return the control tensors that the model sees.

        Args:
            request: the client's request.
            flags: its flags now; a request that comes again has none.
            is_ready: whether there is a request, and not only a slot.
        """
        is_on = {
            "CONTROL_SEQUENCE_START": bool(flags & START),
            "CONTROL_SEQUENCE_END": bool(flags & END),
            "CONTROL_SEQUENCE_READY": is_ready,
        }
        return tuple(self._control(name, one, is_on, request) for name, one in self._controls)

    def _control(
        self, name: str, control: Mapping[str, Any], is_on: Mapping[str, bool], request: ClientRequest
    ) -> WireTensor:
        shape = (1, 1) if self._is_batched else (1,)
        if control["kind"] == "CONTROL_SEQUENCE_CORRID":
            datatype = name_of_config(control["data_type"])
            if datatype == "BYTES":
                return WireTensor.of(name, np.full(shape, str(request.correlation_id), dtype=object))
            number = request.correlation_id if isinstance(request.correlation_id, int) else 0
            dtype = np.dtype(NUMPY_TYPES[datatype])
            mask = 2 ** (8 * dtype.itemsize) - 1
            return WireTensor.of(
                name, np.full(shape, number & mask, dtype=f"uint{8 * dtype.itemsize}").view(dtype)
            )
        for field, datatype in _VALUES:
            if control[field]:
                value = control[field][is_on[control["kind"]]]
                return WireTensor.of(name, np.full(shape, value, NUMPY_TYPES[datatype]))
        raise ConfigError.of(
            f"model {self._model!r} control_input {name!r}",
            expected="int32_false_true, fp32_false_true or bool_false_true",
            got="none",
            remedy="add one",
        )
