"""Collation: the rows of several requests as one batch, and the lengths that `forward` gets with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from kindaware._batch.outputs import RowCountError
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request, concat_arrays
from kindaware._errors import OutputError, describe, message
from kindaware._tensors.bytes_arrays import BytesArray, Value, is_value
from kindaware._tensors.dtypes import triton_name
from kindaware._tensors.rows import RaggedRows, Rows, concat_bytes, joinable


class CollateError(OutputError):
    """What `collate` returned is wrong: parts of the batch would only hide it."""


class Collator:
    """Collates the requests of a batch: with the hook `collate`, by padding, or by concatenating rows.

    Args:
        plan: plan of the instance.
        land: waits for copies to the host that a hook has queued; see `Staging.land`.
    """

    def __init__(self, plan: Plan, land: Callable[[Sequence[object]], None]) -> None:
        self._collate = plan.hooks.collate
        self._land = land
        # What `collate` has changed of an input in batches that were answered, so that it is meant.
        self._meant: set[tuple[str, str]] = set()
        self._padding = plan.padding
        self._may_be_ragged = plan.hooks.preprocess is not None
        # None where `forward` does not ask for lengths; one that asks is refused unless something is padded.
        self._lengths_of = plan.padding if "lengths" in plan.hooks.call.extras else None

    def parts(
        self, requests: Sequence[Request]
    ) -> tuple[dict[str, Sequence[torch.Tensor]], dict[str, BytesArray]]:
        """Return the tensors to concatenate, by input, and the BYTES inputs, already concatenated.

        Tensors are left apart, so that the staging can concatenate them in the memory where they are needed.
        What `collate` or padding has made is a single tensor.

        Raises:
            CollateError: `collate` returned something other than a tensor or an array of dtype object.
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
                # Its copy may be queued only, and the staging reads it on the host.
                self._land(values)
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

    def blame(
        self,
        error: Exception,
        parts: Mapping[str, Sequence[torch.Tensor]],
        texts: Mapping[str, BytesArray],
        requests: Sequence[Request],
    ) -> None:
        """Blame `collate` for what a batch failed with, if its inputs have other rows or data types too.

        Args:
            error: what `forward` or `postprocess` raised, or the check of the outputs.
            parts: tensors that were collated, by input.
            texts: BYTES arrays that were collated, by input.
            requests: the requests of the batch.

        Raises:
            CollateError: an input that `collate` returned has more or fewer rows than the batch, or another
                data type than the requests, and no batch with such an input has ever been answered.
        """
        counts_rows = isinstance(error, RowCountError)
        got = "outputs of another number of rows too" if counts_rows else describe(error)
        for name, what, wanted, found in self._changes(parts, texts, requests):
            # The outputs' number of rows has nothing to do with data types.
            if what == "rows" if counts_rows else (name, what) not in self._meant:
                raise _error(name, wanted, f"{found}, and {got}") from error

    def note_answered(
        self,
        parts: Mapping[str, Sequence[torch.Tensor]],
        texts: Mapping[str, BytesArray],
        requests: Sequence[Request],
    ) -> None:
        """Remember what `collate` has changed in a batch that was answered."""
        if self._collate is not None:
            self._meant.update((name, what) for name, what, *_ in self._changes(parts, texts, requests))

    def _changes(
        self,
        parts: Mapping[str, Sequence[torch.Tensor]],
        texts: Mapping[str, BytesArray],
        requests: Sequence[Request],
    ) -> Iterator[tuple[str, str, str, str]]:
        """Yield for each change of an input by `collate` the input, what it is, what was there, and is."""
        # A model that doesn't batch has never asked `collate`.
        if requests[0].rows is None:
            return
        # It returns one value per input, which is the only one to be concatenated.
        collated: dict[str, Value] = {name: tensors[0] for name, tensors in parts.items()}
        collated.update(texts)
        num_rows = sum(request.rows or 0 for request in requests)
        for name, value in collated.items():
            if value.shape[:1] != (num_rows,):
                yield (
                    name,
                    "rows",
                    f"{num_rows} rows, as many as the requests have",
                    f"shape {[*value.shape]}",
                )
            before, after = _dtype_of(requests[0].inputs[name]), _dtype_of(value)
            # Text has to become something else for most models.
            if before not in ("BYTES", after):
                yield name, "data type", f"data type {before}, as the requests have", after

    def lengths(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Return the unpadded size of each row, on the host, by padded input, if `forward` asks for them."""
        return {} if self._lengths_of is None else self._lengths_of.lengths(requests)

    def lengths_argument(self, lengths: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Return the keyword argument `lengths` of `forward`, made of tensors on the device."""
        if self._lengths_of is None:
            return {}
        # With one padded input a tensor, with several a dict of them by name.
        is_one = len(self._lengths_of.fills) == 1
        return {"lengths": next(iter(lengths.values()), None) if is_one else lengths}


def _check_collated(name: str, value: object) -> None:
    if not is_value(value):
        raise _error(name, "a torch.Tensor, or an array of dtype object", type(value).__name__)


def _dtype_of(value: Rows) -> str:
    one = value.rows[0] if isinstance(value, RaggedRows) else value
    return triton_name(one.dtype) if isinstance(one, torch.Tensor) else "BYTES"


def _error(name: str, expected: str, got: str) -> CollateError:
    subject, remedy = f"collate of input {name!r}", "return the rows of all requests in one tensor or array"
    return CollateError(message(subject, expected=expected, got=got, remedy=remedy))
