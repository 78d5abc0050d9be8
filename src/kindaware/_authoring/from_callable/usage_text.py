"""The test and the client of a model that runs a callable."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._authoring.from_callable.callable_model import CallableModel
from kindaware._authoring.tasks import render
from kindaware._config.model_spec import TensorSpec


def write_test(model: CallableModel) -> str:
    """Return the text of the model's test."""
    rows = [2] if model.tensors.batches else []
    inputs = [
        f'        "{one.name}": {_random(one, [*rows, *model.rows[one.name]])},' for one in model.inputs
    ]
    more = render("callable_rows", output=model.outputs[0].name) if rows else ""
    text = render(
        "callable_test",
        inputs="\n".join(inputs),
        title="each_row_is_answered" if rows else "request_is_answered",
        checks="\n".join(_check(one, rows) for one in model.outputs),
        more=more,
    )
    return text.rstrip() + "\n"


def write_client(model: CallableModel, name: str) -> str:
    """Return the text of client.py."""
    if model.picture is not None and model.picture.categories:
        height, width = model.rows["INPUT"][-2:]
        return render("picture_client", name=name, height=str(height), width=str(width))
    inputs = [f'    "{one.name}": {_random_array(one, model.rows[one.name])},' for one in model.inputs]
    return render("callable_client", name=name, inputs="\n".join(inputs))


def _check(output: TensorSpec, rows: Sequence[int]) -> str:
    sizes = [*rows, *output.shape]
    if -1 in sizes:
        return f'    assert outputs["{output.name}"].ndim == {len(sizes)}'
    return f'    assert outputs["{output.name}"].shape == {tuple(sizes)}'


def _random(tensor: TensorSpec, sizes: Sequence[int]) -> str:
    dtype, shape = tensor.dtype.torch, ", ".join(map(str, sizes))
    if dtype is None or dtype.is_floating_point:
        return f"torch.rand({shape}){'' if str(dtype) == 'torch.float32' else f'.to({dtype})'}"
    return f"torch.randint(0, 2, {tuple(sizes)}, dtype={dtype})"


def _random_array(tensor: TensorSpec, shape: Sequence[int]) -> str:
    dtype = tensor.dtype.torch
    if dtype is None or dtype.is_floating_point:
        return f"random.random({tuple(shape)}, dtype=np.float32)"
    return f"random.integers(0, 2, {tuple(shape)})"
