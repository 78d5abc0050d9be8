"""The inputs and outputs of a model class, found by loading it here and running it on an example."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from kindaware._authoring.example_values import ExampleValue
from kindaware._authoring.tensors_from_example import InferredTensors, tensors_from_example
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._errors import ConfigError
from kindaware._hooks.binding import Call
from kindaware._hooks.class_rules import streaming_hook
from kindaware._hooks.step_results import Done, Next, outcome_of
from kindaware._tensors.bytes_arrays import BytesArray


def tensors_of_class(model_class: Any, example: Mapping[str, Any]) -> InferredTensors:
    """Load a model of a class in this process, on the CPU, and run its hooks on an example.

    Args:
        model_class: derived from KindAwareModel.
        example: values by input name, with the batch dimension if the model batches.

    Raises:
        ConfigError: it doesn't run on the example, or takes or returns something that no request can carry.
        Exception: what `load` raised.
    """
    subject = f"class {model_class.__name__}"
    if not isinstance(example, Mapping) or not example:
        raise ConfigError.of(
            f"{subject} example",
            expected="a value for each input, by name",
            got=type(example).__name__ if not isinstance(example, Mapping) else "none",
            remedy="write from_example(X=array), or example={'X': array}",
        )
    inputs = {
        str(name): _as_hook_value(value, f"{subject} input {name!r}") for name, value in example.items()
    }
    specs = [
        TensorSpec(name, str(value.dtype), [-1] * len(value.shape[1:]) or [-1])
        for name, one in inputs.items()
        for value in [ExampleValue.of(one, f"{subject} input {name!r}")]
    ]
    with _loaded(model_class, specs) as model:
        found = tensors_from_example(_hooks_of(model, model_class, specs), inputs, subject=subject)
    for kind, tensors, remedy in (
        ("input", found.inputs, "pass [[1.0], [2.0]] for two rows of one number"),
        ("output", found.outputs, "return it with .unsqueeze(1)"),
    ):
        for tensor in tensors:
            if tensor.is_scalar:
                raise ConfigError.of(
                    f"{subject} {kind} {tensor.spec.name!r}",
                    expected="a size after the batch, as every tensor of Triton's has",
                    got="[B]" if found.batches else "no size at all",
                    remedy=remedy,
                )
    return found


def _as_hook_value(value: Any, subject: str) -> Any:
    """Return a value as hooks get it: a tensor, or an array of `bytes`."""
    if ExampleValue.of(value, subject).dtype.torch is None:
        return _as_bytes(value)
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def _as_bytes(value: Any) -> BytesArray:
    """Return texts as an array of `bytes`; those without a dimension get the one that a row has to have."""
    array = np.array(value, dtype=object)
    filled: BytesArray = np.empty(array.shape, dtype=object)
    for position, text in np.ndenumerate(array):
        filled[position] = text.encode() if isinstance(text, str) else text
    return filled if filled.ndim > 1 else filled.reshape(-1, 1)


@contextmanager
def _loaded(model_class: Any, specs: list[TensorSpec]) -> Iterator[Any]:
    """Load a model without a server, and end it; the process keeps its number of threads and its memory."""
    settings = {
        "num_threads": str(torch.get_num_threads()),
        "keep_memory": "off",
        "warmup": "off",
        "metrics": "false",
    }
    config = {
        "name": model_class.__name__,
        "max_batch_size": model_class.max_batch_size or 2**16,
        "input": [spec.to_config() for spec in specs],
        "parameters": {f"kindaware.{name}": {"string_value": value} for name, value in settings.items()},
    }
    if streaming_hook(model_class) is not None:
        config["model_transaction_policy"] = {"decoupled": True}
    model = model_class()
    model.initialize(
        {"model_config": json.dumps(config), "model_instance_kind": "CPU", "model_instance_device_id": "0"}
    )
    try:
        yield model
    finally:
        model.finalize()


def _hooks_of(model: Any, model_class: Any, specs: list[TensorSpec]) -> Callable[..., Any]:
    """Return a function that does for one request what the hooks do."""
    subject = f"class {model_class.__name__}"
    name = streaming_hook(model_class) or "forward"
    hook = getattr(model, name)
    preprocess, postprocess = (getattr(model, one, None) for one in ("preprocess", "postprocess"))
    spec = ModelSpec(model_class.__name__, 2**16, tuple(specs), ())
    call = Call.bind(hook, spec, subject, hook=name, has_preprocess=preprocess is not None)
    if call.extras or getattr(model, "collate", None) is not None or postprocess is not None:
        what = [*call.extras, *(one for one in ("collate", "postprocess") if getattr(model, one, None))]
        raise ConfigError.of(
            f"{subject} example",
            expected=f"a class whose {name} depends on its inputs alone",
            got=f"one with {', '.join(what)}",
            remedy="declare inputs and outputs in the class: lists of kindaware.TensorSpec",
        )

    def run(**inputs: Any) -> Any:
        values = inputs if preprocess is None else dict(preprocess(inputs))
        answer = call(hook, values)
        return _items_of(model, answer) if name == "begin" else answer

    return run


def _items_of(model: Any, begun: Any) -> Iterator[Any]:
    """Yield the items of a stream that has begun, as `stream` would."""
    state, item, is_done = outcome_of(begun if isinstance(begun, (Next, Done)) else Next(begun), None)
    while True:
        if item is not None:
            yield item
        if is_done:
            return
        [result] = model.step([state])
        state, item, is_done = outcome_of(result, state)
