"""From what a test passes to what a client sends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kindaware.testing.harness._failures import HarnessError
from kindaware.testing.harness._metadata_check import check_metadata
from kindaware.testing.harness._pending import Cancelled, Pending
from kindaware.testing.stand_in import WireTensor
from kindaware.testing.stand_in._datatypes import NUMPY_TYPES

_OPTIONS = (
    "inputs",
    "request_id",
    "correlation_id",
    "flags",
    "timeout",
    "parameters",
    "requested_outputs",
    "cancelled",
    "trace",
    "input_device",
)


def build_batch_entry(entry: Any, config: Mapping[str, Any]) -> Pending:
    """Take one request of `infer_batch`: inputs by name, or the arguments of `infer` as a dict.

    Raises:
        HarnessError: it is neither.
    """
    if not isinstance(entry, Mapping):
        raise _unexpected(entry)
    inputs = entry.get("inputs")
    if not isinstance(inputs, Mapping):
        return build_request(config, inputs=entry)
    unknown = sorted(set(entry) - set(_OPTIONS))
    if unknown:
        raise HarnessError.of(
            "infer_batch",
            expected=f"the arguments of infer, {', '.join(_OPTIONS)}",
            got=f"{unknown}",
            remedy="put the tensors into inputs",
        )
    return build_request(config, **entry)


def _unexpected(entry: object) -> HarnessError:
    return HarnessError.of(
        "infer_batch",
        expected="a list of dicts, name to array",
        got=f"an element of type {type(entry).__name__}",
        remedy="pass [{'INPUT': array}, ...]",
    )


def build_request(
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, Any],
    request_id: str = "",
    correlation_id: int | str = 0,
    flags: int = 0,
    timeout: int = 0,
    parameters: Mapping[str, Any] | None = None,
    requested_outputs: Any = None,
    cancelled: Cancelled = False,
    trace: str | None = None,
    input_device: str = "cpu",
) -> Pending:
    """Build a request; see `ModelHarness.infer` for the arguments.

    Raises:
        HarnessError: no client can send it.
    """
    datatypes = {tensor["name"]: tensor["data_type"].removeprefix("TYPE_") for tensor in config["input"]}
    gpu = _parse_device(input_device)
    sent = check_metadata(
        request_id=request_id,
        correlation_id=correlation_id,
        flags=flags,
        timeout=timeout,
        parameters=parameters,
        requested_outputs=requested_outputs,
        trace=trace,
    )
    wires = (replace(_to_wire(name, value, datatypes.get(name)), gpu=gpu) for name, value in inputs.items())
    return Pending(replace(sent, inputs=tuple(wires)), cancelled)


def _parse_device(device: str) -> int | None:
    """Give the number of a GPU, or None for the host."""
    found = re.fullmatch(r"cpu|cuda:(\d+)", device)
    if found is None:
        raise HarnessError.of(
            "input_device", expected="'cpu' or 'cuda:N'", got=repr(device), remedy="pass one of those"
        )
    return None if found[1] is None else int(found[1])


def _to_wire(name: str, value: Any, datatype: str | None) -> WireTensor:
    """Arrays and tensors keep their type; lists and numbers take that of the configuration."""
    if isinstance(value, WireTensor):
        return WireTensor(name, value.datatype, value.shape, value.data)
    if isinstance(value, (bool, int, float, str, bytes, list, tuple)):
        value = _to_array(value, datatype)
    if datatype == "BF16" and isinstance(value, np.ndarray) and value.dtype == np.uint16:
        return WireTensor.of(name, value, "BF16")
    return WireTensor.of(name, value)


def _to_array(value: Any, datatype: str | None) -> Any:
    if datatype == "BF16":
        import torch

        return torch.tensor(value, dtype=torch.bfloat16)
    if datatype == "STRING":
        return np.array(value, dtype=object)
    return np.array(value, dtype=NUMPY_TYPES.get(datatype or ""))
