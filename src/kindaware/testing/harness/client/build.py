"""From what a test passes to what a client sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from kindaware.testing.harness.client.input_values import to_wire
from kindaware.testing.harness.client.metadata_check import check_metadata
from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.harness.pending import Cancelled, Pending
from kindaware.testing.stand_in import Answer

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
    on_answer: Callable[[Answer], None] | None = None,
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
    wires = (replace(to_wire(name, value, datatypes.get(name)), gpu=gpu) for name, value in inputs.items())
    return Pending(replace(sent, inputs=tuple(wires)), cancelled, on_answer)


def join_inputs(given: Any, named: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs given as a mapping and those given by keyword in one.

    Raises:
        HarnessError: the first are no mapping; or one given by keyword is not the model's, and looks like an
            argument of `infer`.
    """
    inputs = [tensor["name"] for tensor in config["input"]]
    if given is not None and not isinstance(given, Mapping):
        first = inputs[0] if inputs else "INPUT"
        call = f"infer({first}=...)" if first.isidentifier() else f"infer({{{first!r}: ...}})"
        raise HarnessError.of(
            "infer",
            expected=f"values by the names of the model's inputs {inputs}",
            got=f"{type(given).__name__} without a name",
            remedy=f"write {call}",
        )
    for name in named.keys() - set(inputs):
        close = get_close_matches(name.lower(), _OPTIONS, n=1, cutoff=0.8)
        if close:
            raise HarnessError.of(
                "infer",
                expected=f"the model's inputs {sorted(inputs)} or arguments of infer",
                got=repr(name),
                remedy=f"did you mean {close[0]}? pass an input of that name in inputs=",
            )
    return {**(given or {}), **named}


def _parse_device(device: str) -> int | None:
    """Return the number of a GPU, or None for the host."""
    found = re.fullmatch(r"cpu|cuda:(\d+)", device)
    if found is None:
        raise HarnessError.of(
            "input_device", expected="'cpu' or 'cuda:N'", got=repr(device), remedy="pass one of those"
        )
    return None if found[1] is None else int(found[1])
