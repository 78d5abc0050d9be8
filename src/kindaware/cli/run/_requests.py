"""Requests made of what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kindaware.cli._served_models import refuse_missing
from kindaware.cli._values import make_random, read_inputs
from kindaware.client._metadata import Metadata, Tensor

START, END = 1, 2
"""Flags of a sequence's first and last request."""


def describe_tensors(config: Mapping[str, Any]) -> Metadata:
    """Return a model's inputs and outputs, as a server would tell a client."""

    def read(tensors: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                one["name"],
                str(one["data_type"]).removeprefix("TYPE_").replace("STRING", "BYTES"),
                tuple(map(int, one["dims"])),
                bool(one.get("optional")),
            )
            for one in tensors
        )

    return Metadata(
        config["name"],
        read(config.get("input", ())),
        read(config.get("output", ())),
        int(config.get("max_batch_size", 0)) > 0,
        bool(config.get("model_transaction_policy", {}).get("decoupled")),
    )


def make_requests(
    options: Sequence[str], config: Mapping[str, Any], *, is_random: bool, num_requests: int
) -> list[dict[str, Any]]:
    """Return the inputs of each request, by name.

    Args:
        options: `NAME=VALUE` each; a name that comes again is for the next request. What only the first
            request has is used for all.
        config: the model's, completed.
        is_random: whether inputs that are not given are random; each request has others.
        num_requests: how many there are at least.

    Raises:
        ConfigError: a value can't be read, or an input is missing.
    """
    metadata = describe_tensors(config)
    sets = _split(options, metadata)
    sets += [{} for _ in range(num_requests - len(sets))]
    found = []
    for number, own in enumerate(sets):
        values = {**sets[0], **own}
        if is_random:
            rest = [one for one in metadata.inputs if one.name not in values]
            values |= {one.name: make_random(one, seed=number) for one in rest}
        refuse_missing(metadata.model, metadata.inputs, values)
        found.append(_add_rows(values, metadata))
    return found


def flags_of(config: Mapping[str, Any], number: int, count: int) -> dict[str, int]:
    """Return what makes a request one of a sequence; nothing for a model without sequences."""
    if "sequence_batching" not in config:
        return {}
    return {"correlation_id": 1, "flags": START * (number == 0) + END * (number == count - 1)}


def _split(options: Sequence[str], metadata: Metadata) -> list[dict[str, Any]]:
    """Return the values of each request, as far as they are given."""
    sets: list[dict[str, Any]] = [{}]
    counts: dict[str, int] = {}
    for option in options:
        for name, value in read_inputs([option], metadata.inputs, random_rest=False).items():
            number = counts.get(name, 0)
            counts[name] = number + 1
            sets += [{}] * (number == len(sets))
            sets[number] = {**sets[number], name: value}
    return sets


def _add_rows(values: Mapping[str, Any], metadata: Metadata) -> dict[str, Any]:
    """Return arrays with their batch dimension; torch's where numpy has no such type."""
    arrays, _ = metadata.prepare(values)
    return {
        name: torch.from_numpy(array).to(torch.bfloat16) if metadata.find(name).datatype == "BF16" else array
        for name, array in arrays.items()
    }
