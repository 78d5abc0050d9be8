"""A callable as a model: found out, and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kindaware._authoring.config_writer import write_config
from kindaware._authoring.from_callable.callable_model import CallableModel, name_inputs
from kindaware._authoring.from_callable.examples import (
    Example,
    find_example,
    list_parameters,
    make_example,
    read_examples,
)
from kindaware._authoring.from_callable.model_text import write_model
from kindaware._authoring.from_callable.picture_models import PictureModel, find_picture_model
from kindaware._authoring.from_callable.source import Source, open_source
from kindaware._authoring.from_callable.usage_text import write_client, write_test
from kindaware._authoring.scaffold import Files
from kindaware._authoring.tasks import Scaffold, name_test
from kindaware._authoring.tensors_from_example import InferredTensors, tensors_from_example

_MAX_BATCH_SIZE = 32
_WEIGHTS = (
    "random weights, so its answers mean nothing yet: put yours into 1/weights.pt, or see WEIGHTS there"
)
_WEIGHTS_NOTE = (
    "Its weights are random numbers until you put yours, a `state_dict`, into `1/weights.pt`, or change the "
    "lines at `WEIGHTS` in `1/model.py`. Nothing was downloaded."
)
_PICTURES_NOTE = (
    "Pictures are RGB, with numbers from 0 to 1, as `kindaware infer` sends them. The model itself subtracts "
    "the mean and divides by the deviation, so a client must not."
)


def scaffold_callable(text: str, name: str, examples: Sequence[str]) -> Scaffold:
    """Return the scaffold of a model that runs a callable.

    Args:
        text: `PACKAGE.MODULE:CALLABLE`, or `FILE.py:CALLABLE`.
        name: of the model.
        examples: inputs, as `--example` describes them.

    Raises:
        ConfigError: there is no such callable, or its inputs can't be told or don't fit.
    """
    source = open_source(text)
    picture = find_picture_model(source)
    example = _find_example(source, picture, examples)
    tensors = tensors_from_example(
        source.function, example.values, vary_sizes=example.vary_sizes, subject=source.name
    )
    model = _describe(source, picture, example, tensors)
    files: dict[str, Any] = {
        "config.pbtxt": _config(model, name),
        "1/model.py": write_model(model),
        name_test(name): write_test(model),
        "client.py": write_client(model, name),
    }
    if source.file is not None:
        copied = "network.py" if source.file.stem == "model" else source.file.name
        files[f"1/{copied}"] = source.file
    if picture is not None and picture.categories:
        files["labels.txt"] = "".join(f"{one}\n" for one in picture.categories)
    return _scaffold(model, example, files, name)


def _find_example(source: Source, picture: PictureModel | None, options: Sequence[str]) -> Example:
    if options:
        return read_examples(options, source)
    if picture is None:
        return find_example(source)
    name = list_parameters(source.function)[0]
    shape = picture.shape or (3, 128, 160)
    why = picture.why if picture.shape else "pictures of any size"
    values = {name: make_example((1, *shape), torch.float32, source.function)}
    return Example(values, None if picture.shape else True, why)


def _describe(
    source: Source, picture: PictureModel | None, example: Example, tensors: InferredTensors
) -> CallableModel:
    names = name_inputs(list(example.values))
    start = int(tensors.batches)
    rows = {names[key]: list(value.shape[start:]) or [1] for key, value in example.values.items()}
    is_whole = not tensors.left_out and not (
        tensors.result_form != "one" and any(one.is_scalar for one in tensors.outputs)
    )
    selects = {} if is_whole else _selects(source, example, tensors)
    return CallableModel(source, tensors, names, picture, selects, rows)


def _selects(source: Source, example: Example, tensors: InferredTensors) -> dict[str, str]:
    """Return the code that reads each output from what the callable returns."""
    with torch.no_grad():
        returned = source.function(**example.values)
    names = [one.spec.name for one in tensors.outputs]
    if tensors.result_form == "sequence":
        return {name: f"outputs[{name.removeprefix('OUTPUT') or 0}]" for name in names}
    if isinstance(returned, Mapping):
        return {name: f'outputs["{name}"]' for name in names}
    return {name: f"outputs.{name}" for name in names}


def _config(model: CallableModel, name: str) -> str:
    entries = [one.to_config() for one in model.outputs]
    if model.picture is not None and model.picture.categories:
        entries[0]["label_filename"] = "labels.txt"
    return write_config(
        name=name,
        max_batch_size=_MAX_BATCH_SIZE if model.tensors.batches else 0,
        inputs=model.inputs,
        instance_groups=[{"kind": "KIND_CPU"}],
        output=entries,
    )


def _scaffold(model: CallableModel, example: Example, files: Files, name: str) -> Scaffold:
    notes, questions = [], []
    if model.has_random_weights:
        lines = str(files["1/model.py"]).splitlines()
        number = next(place for place, line in enumerate(lines, 1) if "WEIGHTS" in line)
        questions.append(f"1/model.py:{number}: {_WEIGHTS}")
        notes.append(_WEIGHTS_NOTE)
    if model.picture is not None:
        notes.append(_PICTURES_NOTE)
    return Scaffold(
        models={name: files},
        about=f"Runs `{model.source.text}`.",
        ask=f"kindaware infer {name} --random",
        notes=notes,
        findings=_findings(model, example),
        questions=questions,
    )


def _findings(model: CallableModel, example: Example) -> list[str]:
    """Return a line for each tensor, with the reason for its sizes."""
    rows = [
        ("input", spec, "; ".join(filter(None, [example.why, one.why])))
        for one, spec in zip(model.tensors.inputs, model.inputs, strict=True)
    ]
    rows += [("output", one.spec, one.why) for one in model.tensors.outputs]
    lines = [
        f"{kind:6}  {spec.name}  {spec.dtype} {list(spec.shape)}  {why}".rstrip() for kind, spec, why in rows
    ]
    if not model.tensors.batches:
        lines.append(f"does not batch: {model.tensors.why_batches}")
    if model.tensors.left_out:
        lines.append(f"left out: {', '.join(model.tensors.left_out)}")
    return lines
