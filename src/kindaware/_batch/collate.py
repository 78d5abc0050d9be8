"""The rows of several requests as one batch, and what `forward` and other hooks get beside them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kindaware._batch.padding import Padding
from kindaware._batch.request import Request, concat_arrays
from kindaware._batch.request_info import SEQUENCE_END, SEQUENCE_START, RequestInfo
from kindaware._config.model_spec import ModelSpec
from kindaware._errors import OutputError, message
from kindaware._hooks.binding import Hooks
from kindaware._tensors.bytes_arrays import BytesArray, Value, is_value
from kindaware._tensors.rows import concat_bytes


class Collator:
    """Joins the requests of a batch.

    Args:
        spec: the model.
        hooks: the user's part.
        padding: how inputs of different sizes are joined; None where they are not.
    """

    def __init__(self, spec: ModelSpec, hooks: Hooks, padding: Padding | None) -> None:
        self._model = spec.name
        self._input_names = {tensor.name for tensor in spec.inputs}
        self._required_names = {tensor.name for tensor in spec.inputs if not tensor.optional}
        self._sequences = spec.sequences
        self._hooks = hooks
        self._padding = padding
        self._gives_lengths = "lengths" in hooks.call.extras
        first = "forward" if "forward" in hooks.with_requests else "postprocess"
        self._first_of_batch = None if spec.decoupled else first

    def check(self, inputs: Any, request: Request) -> Mapping[str, Value]:
        """Take what `preprocess` returned for a request.

        Raises:
            OutputError: it is none of what `forward` can take.
        """
        is_mapping = isinstance(inputs, Mapping) and self._required_names <= set(inputs) <= self._input_names
        if is_mapping and all(
            is_value(one) and (request.rows is None or one.shape[:1] == (request.rows,))
            for one in inputs.values()
        ):
            if self._padding is not None:
                for name, one in inputs.items():
                    self._padding.check_rank(name, one)
            return inputs  # type: ignore[no-any-return]  # a mapping of tensors, as just checked
        raise OutputError(
            message(
                f"model {self._model!r} preprocess",
                expected=f"a mapping of {sorted(self._input_names)} to tensors with {request.rows} rows",
                got=repr({k: list(getattr(v, "shape", ())) for k, v in inputs.items()})
                if isinstance(inputs, Mapping)
                else type(inputs).__name__,
                remedy="return the inputs, changed, with as many rows as they had; BYTES in object arrays",
            )
        )

    def parts(
        self, requests: Sequence[Request]
    ) -> tuple[dict[str, Sequence[torch.Tensor]], dict[str, BytesArray]]:
        """Give what is to be joined, by input, and BYTES joined already; `collate` and padding join both.

        Raises:
            OutputError: `collate` returned what is no input.
        """
        if self._hooks.collate is None and (joined := concat_arrays(requests)) is not None:
            return {next(iter(requests[0].inputs)): [joined]}, {}
        parts: dict[str, Sequence[torch.Tensor]] = {}
        texts: dict[str, BytesArray] = {}
        for name in requests[0].inputs:
            values: Any = [request.inputs[name] for request in requests]
            if self._hooks.collate is not None and requests[0].rows is not None:
                values = [self._hooks.collate(name, values)]
                _check_collated(name, values[0])
            elif self._padding is not None:
                values = self._padding.pad(name, values)
            if isinstance(values[0], torch.Tensor):
                parts[name] = values
            else:
                texts[name] = concat_bytes(values)
        return parts, texts

    def lengths(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Give host tensors with each row's own size, by padded input, where `forward` asks for them."""
        return self._padding.lengths(requests) if self._padding is not None and self._gives_lengths else {}

    def extras(self, lengths: dict[str, torch.Tensor], requests: Sequence[Request]) -> dict[str, Any]:
        """Give what `forward` gets beside its inputs; `lengths` lie on the device by now."""
        extras: dict[str, Any] = {**self.requests_for("forward", requests)}
        if self._padding is not None and self._gives_lengths:
            is_one = len(self._padding.fills) == 1
            extras["lengths"] = next(iter(lengths.values()), None) if is_one else lengths
        return extras

    def requests_for(self, hook: str, requests: Sequence[Request]) -> dict[str, list[RequestInfo]]:
        """Give what a hook that names a parameter `requests` gets by it."""
        if hook not in self._hooks.with_requests:
            return {}
        infos = [[one.info] if one.info is not None else self._infos_of_warm_up(one) for one in requests]
        if hook == self._first_of_batch:
            for info in itertools.chain.from_iterable(infos):
                info._begin_batch()
        return {"requests": list(itertools.chain.from_iterable(infos))}

    def _infos_of_warm_up(self, request: Request) -> list[RequestInfo]:
        """Say what the warm-up's request would; a request of a sequence has one row."""
        if self._sequences is None:
            return [RequestInfo(request.id, request.rows)]
        flags = SEQUENCE_START if self._sequences.is_iterative else SEQUENCE_START | SEQUENCE_END
        return [
            RequestInfo(request.id, request.rows and 1, correlation_id=f"warm-up {number}", flags=flags)
            for number in range(request.rows or 1)
        ]


def _check_collated(name: str, value: object) -> None:
    if not is_value(value):
        raise OutputError(
            message(
                f"collate of input {name!r}",
                expected="a torch.Tensor, or an array of dtype object",
                got=type(value).__name__,
                remedy="return the rows of all requests, joined",
            )
        )
