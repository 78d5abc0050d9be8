"""Collation: the rows of several requests as one batch, and the lengths that `forward` gets with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request, concat_arrays
from kindaware._errors import OutputError, message
from kindaware._tensors.bytes_arrays import BytesArray, Value, is_value
from kindaware._tensors.rows import RaggedRows, concat_bytes, joinable


class Collator:
    """Collates the requests of a batch: with the hook `collate`, by padding, or by concatenating rows.

    Args:
        plan: plan of the instance.
    """

    def __init__(self, plan: Plan) -> None:
        self._collate = plan.hooks.collate
        self._padding = plan.padding
        self._may_be_ragged = plan.hooks.preprocess is not None
        self._gives_lengths = "lengths" in plan.hooks.call.extras

    def parts(
        self, requests: Sequence[Request]
    ) -> tuple[dict[str, Sequence[torch.Tensor]], dict[str, BytesArray]]:
        """Return the tensors to concatenate, by input, and the BYTES inputs, already concatenated.

        Tensors are left apart, so that the staging can concatenate them in the memory where they are needed.
        What `collate` or padding has made is a single tensor.

        Raises:
            OutputError: `collate` returned something other than a tensor or an array of dtype object.
        """
        # On the CPU requests may hold arrays, which are concatenated without making a tensor of each.
        if self._collate is None and (concatenated := concat_arrays(requests)) is not None:
            return {next(iter(requests[0].inputs)): [concatenated]}, {}
        parts: dict[str, Sequence[torch.Tensor]] = {}
        texts: dict[str, BytesArray] = {}
        for name in requests[0].inputs:
            values: Any = [request.inputs[name] for request in requests]
            # A model that doesn't batch has one request per batch, so there is nothing to collate.
            if self._collate is not None and requests[0].rows is not None:
                # Rows that `preprocess` left apart are a list here, which gives the same when iterated.
                rows = [one.rows if isinstance(one, RaggedRows) else one for one in values]
                values = [self._collate(name, rows)]
                _check_collated(name, values[0])
            elif self._padding is not None:
                values = self._padding.pad(name, joinable(values))
            elif self._may_be_ragged:
                values = joinable(values)
            if isinstance(values[0], torch.Tensor):
                parts[name] = values
            else:
                texts[name] = concat_bytes(values)
        return parts, texts

    def check_rows(
        self,
        parts: Mapping[str, Sequence[torch.Tensor]],
        texts: Mapping[str, BytesArray],
        num_rows: int | None,
    ) -> None:
        """Blame `collate` for outputs of another number of rows than the batch, if its inputs have that too.

        Raises:
            OutputError: an input that `collate` returned has more or fewer rows than the batch.
        """
        if self._collate is None or num_rows is None:
            return
        # It returns one value per input, which is the only one to be concatenated.
        collated: dict[str, Value] = {name: tensors[0] for name, tensors in parts.items()}
        collated.update(texts)
        for name, value in collated.items():
            if value.shape[:1] != (num_rows,):
                raise OutputError(
                    message(
                        f"collate of input {name!r}",
                        expected=f"{num_rows} rows, as many as the requests have",
                        got=f"shape {list(value.shape)}, and outputs of another number of rows too",
                        remedy="return the rows of all requests in one tensor or array",
                    )
                )

    def lengths(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Return the unpadded size of each row, on the host, by padded input, if `forward` asks for them."""
        return self._padding.lengths(requests) if self._padding is not None and self._gives_lengths else {}

    def lengths_argument(self, lengths: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Return the keyword argument `lengths` of `forward`, made of tensors on the device."""
        if self._padding is None or not self._gives_lengths:
            return {}
        # With one padded input a tensor, with several a dict of them by name.
        is_one = len(self._padding.fills) == 1
        return {"lengths": next(iter(lengths.values()), None) if is_one else lengths}


def _check_collated(name: str, value: object) -> None:
    if not is_value(value):
        raise OutputError(
            message(
                f"collate of input {name!r}",
                expected="a torch.Tensor, or an array of dtype object",
                got=type(value).__name__,
                remedy="return the rows of all requests in one tensor or array",
            )
        )
