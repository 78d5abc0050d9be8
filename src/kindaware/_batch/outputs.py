"""What a hook returned, named and checked against the outputs that the configuration declares."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._errors import OutputError, message
from kindaware._tensors.bytes_arrays import BytesArray, Value, to_bytes
from kindaware._tensors.dtypes import triton_name
from kindaware._tensors.rows import Output

NO_BATCH_DIMENSION = (
    "set max_batch_size above 0 in config.pbtxt: while it is 0, no tensor has a batch dimension"
)


class RowCountError(OutputError):
    """An output has more or fewer rows than the batch."""


def name_outputs(returned: Any, spec: ModelSpec, hook: str) -> dict[str, Any]:
    """Return by name the outputs that a hook returned, or that an item of `stream` holds.

    Args:
        returned: a tensor (one output), a tuple or list in the configuration's order, or a mapping,
            dataclass or named tuple by name. A list or tuple is the value of the only output if that is of
            type BYTES, unless it holds a single array, and if it holds one tensor per request or row. One
            whose elements could each be a request's outputs is refused.
        spec: spec of the model.
        hook: the hook that returned it, for the error's text.

    Returns:
        By name a tensor, or a list of one per request or row; for outputs of type BYTES, what was returned.

    Raises:
        OutputError: the names or their number differ from the declaration, or a value that should be a tensor
            is something else.
    """
    # By far the most frequent case, on the path of every batch.
    if isinstance(returned, torch.Tensor) and len(spec.outputs) == 1:
        return {spec.outputs[0].name: returned}
    names = [output.name for output in spec.outputs]
    subject = f"model {spec.name!r} {hook}"
    if isinstance(returned, Mapping):
        named = dict(returned)
    elif _is_dataclass(returned):
        named = {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    # Before plain tuples, of which a named tuple is one; its order is the author's, not the configuration's.
    elif isinstance(returned, tuple) and hasattr(returned, "_fields"):
        named = dict(zip(returned._fields, returned, strict=True))
    else:
        is_many = isinstance(returned, (tuple, list)) and not _is_value_of_one(returned, spec)
        if is_many and _is_by_request(returned, len(names)):
            raise _by_request_error(returned, names, subject)
        values = list(returned) if is_many else [returned]
        if len(values) != len(names):
            got = f"{len(values)} of type {type(returned).__name__}"
            raise _error(hook, subject, f"{len(names)} outputs {names}", got)
        named = dict(zip(names, values, strict=True))
    if set(named) != set(names):
        raise _error(hook, subject, f"outputs {sorted(names)}", f"outputs {sorted(map(str, named))}")
    for output in spec.outputs:
        value = named[output.name]
        if output.dtype.torch is not None and not (isinstance(value, torch.Tensor) or _are_tensors(value)):
            raise _error(hook, f"{subject} output {output.name!r}", "a torch.Tensor", type(value).__name__)
    return named


def _are_tensors(value: Any) -> bool:
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return is_list and all(isinstance(one, torch.Tensor) for one in value)


def _is_by_request(returned: Sequence[Any], num_outputs: int) -> bool:
    """Whether each element may be what one request gets, rather than one output for all requests.

    Where there are as many requests as outputs, nothing else tells the two apart. Of a tuple only lists are
    outputs for certain: `([...], [...])` is what nobody writes for a request each.
    """
    records = (tuple, Mapping) if isinstance(returned, tuple) else (tuple, list, Mapping)
    # Numbers in nested lists are no tensor, which the caller says.
    if num_outputs == 1 and not any(map(_are_tensors, returned)):
        records = (tuple, Mapping)
    return bool(returned) and all(isinstance(one, records) or _is_dataclass(one) for one in returned)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _by_request_error(returned: Sequence[Any], names: list[str], subject: str) -> OutputError:
    lists = ", ".join(f"[{name.lower()}, ...]" for name in names)
    return OutputError(
        message(
            subject,
            expected="each output for all requests together",
            got=f"a {type(returned).__name__} of {type(returned[0]).__name__}s, which may be one per request",
            remedy=f"return ({lists}{',' * (len(names) == 1)}), or a dict of such lists by output name",
        )
    )


def _is_value_of_one(returned: Any, spec: ModelSpec) -> bool:
    """Whether a list is the value of the only output, rather than a list of outputs."""
    if len(spec.outputs) != 1:
        return False
    output = spec.outputs[0]
    # A list of a single tensor is that output, unless it is the only row of the batch.
    if len(returned) == 1 and isinstance(returned[0], (np.ndarray, torch.Tensor)):
        return spec.batches and returned[0].ndim == len(output.shape)
    if output.dtype.torch is None or (isinstance(returned, list) and _are_tensors(returned)):
        return True
    # A plain tuple as `torch.split` returns it; that of `torch.max` holds two things, and is a subclass.
    return type(returned) is tuple and spec.batches and _are_tensors(returned)


def check_outputs(
    outputs: Mapping[str, Any],
    spec: ModelSpec,
    *,
    rows: Sequence[int | None],
    cast: bool,
    computed_dtype: torch.dtype | None,
    hook: str,
) -> dict[str, Output]:
    """Check outputs against the configuration, and make them contiguous.

    Args:
        outputs: tensors by name on any device, [B, ...] if the model batches, or lists of one per request,
            [b, ...], or per row; BYTES in any form.
        spec: spec of the model.
        rows: b of each request of the batch; None if the model does not batch.
        cast: whether an output of another dtype is converted to the declared one.
        computed_dtype: the dtype of the setting `precision`, which is always converted to a declared
            floating-point dtype, as Lightning does; None for full precision.
        hook: the hook that returned them, for the error's text.

    Returns:
        Contiguous dense tensors of the declared dtypes without gradient, in the configuration's order; for
        BYTES contiguous arrays of `bytes`, copied. An output that was a list is a list of one per request.

    Raises:
        OutputError: the dtype, shape or number of rows of an output differs from the declaration.
    """
    # Not a comprehension, whose frame would keep the outputs alive as long as an error's traceback.
    checked: dict[str, Output] = {}
    num_rows = None if rows[0] is None else sum(one or 0 for one in rows)
    for declared in spec.outputs:
        output = outputs[declared.name]
        parts = _parts(output, declared, spec, rows, hook)
        if parts is None:
            checked[declared.name] = _check(output, declared, spec, num_rows, cast, computed_dtype, hook)
            continue
        checked[declared.name] = [
            _check(part, declared, spec, num, cast, computed_dtype, hook)
            for part, num in zip(parts, rows, strict=True)
        ]
    return checked


def _parts(
    value: Any, declared: TensorSpec, spec: ModelSpec, rows: Sequence[int | None], hook: str
) -> list[Any] | None:
    """Return an output that is a list, or a nested tensor, as one value per request; None if it is neither.

    Raises:
        OutputError: there is neither one per request nor one per row, or rows of a request differ in shape.
    """
    if isinstance(value, torch.Tensor):
        if not value.is_nested:
            return None
        value = value.unbind()
    elif declared.dtype.torch is None:
        value = _text_parts(value, declared, spec)
        if value is None:
            return None
    rank = len(declared.shape)
    ranks = {one.ndim for one in value}
    if rows[0] is None:
        # The only request of its batch.
        if len(value) == 1:
            return list(value)
    elif ranks == {rank + 1} and len(value) == len(rows):
        return list(value)
    elif ranks == {rank} and len(value) == sum(one or 0 for one in rows):
        following = iter(value)
        return [_stacked(list(itertools.islice(following, one)), declared, spec, hook) for one in rows]
    expected = (
        f"one tensor for each of the {len(rows)} requests, its rows first, or for each row, without them"
    )
    got = f"{len(value)} of shapes {[list(one.shape) for one in value]}"[:200]
    raise _error(hook, _subject(declared, spec), expected, got, RowCountError)


def _stacked(rows: list[Any], declared: TensorSpec, spec: ModelSpec, hook: str) -> Any:
    """Stack the rows of one request, [...] each, into [b, ...]."""
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) > 1:
        raise _error(
            hook,
            _subject(declared, spec),
            "one shape for all rows of a request, since an answer has a tensor per output",
            f"shapes {sorted(map(list, shapes))}"[:200],
        )
    return torch.stack(rows) if isinstance(rows[0], torch.Tensor) else np.stack(rows)


def _text_parts(value: Any, declared: TensorSpec, spec: ModelSpec) -> list[BytesArray] | None:
    """Return a BYTES output's list of one value per request or row; None if it is a whole of equal rows."""
    if not (isinstance(value, (list, tuple)) and len(value) > 0):
        return None
    # A list of arrays is one per request or row, of lists only where their sizes may differ.
    if all(isinstance(one, np.ndarray) for one in value):
        return [to_bytes(one, _subject(declared, spec)) for one in value]
    if not (declared.is_dynamic and all(isinstance(one, (list, tuple, np.ndarray)) for one in value)):
        return None
    parts = [to_bytes(one, _subject(declared, spec)) for one in value]
    rank = len(declared.shape)
    has_arrays = any(isinstance(one, np.ndarray) for one in value)
    is_whole = not has_arrays and len({part.shape for part in parts}) == 1 and parts[0].ndim == rank
    return None if is_whole or {part.ndim for part in parts} not in ({rank}, {rank + 1}) else parts


def _check(
    value: Any,
    declared: TensorSpec,
    spec: ModelSpec,
    num_rows: int | None,
    cast: bool,
    computed_dtype: torch.dtype | None,
    hook: str,
) -> Value:
    wanted = declared.dtype.torch
    if wanted is None:
        array = to_bytes(value, _subject(declared, spec))
        _check_shape(array, declared, spec, num_rows, hook)
        return array
    tensor: torch.Tensor = value
    if tensor.layout is not torch.strided:
        raise _error(hook, _subject(declared, spec), "a dense tensor", f"layout {tensor.layout}")
    if tensor.dtype is not wanted:
        is_computed = tensor.dtype is computed_dtype and wanted.is_floating_point
        if not (cast or is_computed):
            raise OutputError(
                message(
                    _subject(declared, spec),
                    expected=f"data type {declared.dtype}",
                    got=triton_name(tensor.dtype),
                    remedy=f"convert it in {hook}, declare TYPE_{triton_name(tensor.dtype)}, or set "
                    "parameter kindaware.cast_outputs to 'true'",
                )
            )
        tensor = tensor.to(wanted)
    _check_shape(tensor, declared, spec, num_rows, hook)
    if tensor.requires_grad:
        tensor = tensor.detach()
    # Triton sends the memory as it lies. A lazily negated view has the sign in a flag, which whoever reads
    # its memory doesn't see, and strides would send wrong rows. A tensor with neither is not copied.
    return tensor.resolve_neg().contiguous()


def _check_shape(
    value: Value, declared: TensorSpec, spec: ModelSpec, num_rows: int | None, hook: str
) -> None:
    shape: Sequence[int] = value.shape
    if num_rows is not None and (not shape or shape[0] != num_rows):
        expected = f"{num_rows} rows, as many as the batch has"
        got = f"shape {list(shape)}"
        raise _error(hook, _subject(declared, spec), expected, got, RowCountError)
    row_shape = shape if num_rows is None else shape[1:]
    # Equality first, which is cheap and true for nearly every output without a dimension of -1.
    if row_shape != declared.shape and not declared.fits(row_shape):
        batch = [] if num_rows is None else ["B"]
        expected = f"shape {_text([*batch, *declared.shape])}"
        got = f"shape {_text(shape)}"
        # Only without a batch dimension: of a batch, `shape[1:]` has just been found not to fit.
        if shape[:1] == (1,) and declared.fits(shape[1:]):
            remedy = f"{NO_BATCH_DIMENSION}, or correct {hook}"
            raise OutputError(message(_subject(declared, spec), expected=expected, got=got, remedy=remedy))
        raise _error(hook, _subject(declared, spec), expected, got)


def _subject(declared: TensorSpec, spec: ModelSpec) -> str:
    return f"model {spec.name!r} output {declared.name!r}"


def _text(shape: Any) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _error(
    hook: str, subject: str, expected: str, got: str, kind: type[OutputError] = OutputError
) -> OutputError:
    remedy = f"correct {hook}, or the outputs in config.pbtxt"
    return kind(message(subject, expected=expected, got=got, remedy=remedy))
