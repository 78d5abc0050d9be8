"""The model.py that runs a callable."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._authoring.from_callable.callable_model import CallableModel
from kindaware._authoring.from_callable.picture_models import PictureModel
from kindaware._authoring.tasks import render


def write_model(model: CallableModel) -> str:
    """Return the text of model.py."""
    own = ["class TritonPythonModel(KindAwareModel):", *_load(model), "", *_forward(model)]
    parts = [_imports(model), "\n".join(own)]
    if model.picture is not None:
        parts.insert(1, _normalize(model.picture, len(model.inputs[0].shape)))
    return "\n\n\n".join(parts) + "\n"


def _imports(model: CallableModel) -> str:
    source = model.source
    imported = f"from {source.module_name} import {source.name}"
    others = ["import torch"] if model.has_random_weights or model.picture else []
    others += ["from torch import nn"] if model.picture else []
    others += [imported] if source.file is None else []
    others.sort(key=lambda one: (one.startswith("from"), one))
    path = ["from pathlib import Path"] if model.has_random_weights else []
    last = [imported] if source.file is not None else []
    groups = [path, others, ["from kindaware import KindAwareModel"], last]
    return "\n\n".join("\n".join(group) for group in groups if group)


def _normalize(picture: PictureModel, rank: int) -> str:
    mean, std = (", ".join(f"{one:.6g}" for one in values) for values in (picture.mean, picture.std))
    view = ", ".join(["3", *["1"] * (rank - 1)])
    return render("normalize", mean=mean, std=std, view=view).rstrip()


def _load(model: CallableModel) -> list[str]:
    """Return `load`; what loads weights stands there as a comment, and uses what is imported."""
    call = model.source.call
    if not call:
        return ["    def load(self):", "        return None"]
    lines = ["    def load(self):"]
    if model.has_random_weights:
        lines += ["        torch.manual_seed(0)"]
    lines += [f"        module = {call}"]
    if model.has_random_weights:
        lines += [f"        {line}" for line in _weights(call, model.source.name)]
    made = "nn.Sequential(Normalize(), module)" if model.picture is not None else "module"
    return [*lines, f"        return {made}"]


def _weights(call: str, name: str) -> list[str]:
    lines = [
        "# WEIGHTS: random numbers, so its answers mean nothing yet, unless weights.pt, a state_dict, lies",
        "# beside this file.",
    ]
    if "weights=None" in call:
        lines += [f'# In place of all this, {name}(weights="DEFAULT") has torchvision download them, once.']
    return [
        *lines,
        'weights = Path(__file__).with_name("weights.pt")',
        "if weights.exists():",
        "    module.load_state_dict(torch.load(weights, weights_only=True))",
        "else:",
        '    self.logger.warning("%s is missing: the weights are random numbers", weights)',
    ]


def _forward(model: CallableModel) -> list[str]:
    source, tensors = model.source, model.tensors
    dim = int(tensors.batches)
    parameters = [one.spec.name for one in tensors.inputs]
    values = [
        f"{model.names[one.spec.name]}.squeeze({dim})" if one.is_scalar else model.names[one.spec.name]
        for one in tensors.inputs
    ]
    if tensors.by_keyword and len(values) > 1:
        values = [f"{key}={value}" for key, value in zip(parameters, values, strict=True)]
    call = f"{'self.model' if source.call else source.name}({', '.join(values)})"
    note = f"  # pictures, RGB, 0 to 1: {_layout(model)}" if model.picture is not None else ""
    lines = [f"    def forward({', '.join(['self', *model.names.values()])}):{note}"]
    return [*lines, *(f"        {line}" for line in _answer(model, call, dim))]


def _answer(model: CallableModel, call: str, dim: int) -> Sequence[str]:
    outputs = model.tensors.outputs
    if not model.selects:
        return [f"return {call}{_widened(outputs[0].is_scalar, dim)}"]
    entries = [
        f'    "{one.spec.name}": {model.selects[one.spec.name]}{_widened(one.is_scalar, dim)},'
        for one in outputs
    ]
    return [f"outputs = {call}", "return {", *entries, "}"]


def _widened(is_scalar: bool, dim: int) -> str:
    """Return the code that gives a row of a single value the dimension that Triton's tensors have."""
    return f".unsqueeze({dim})" if is_scalar else ""


def _layout(model: CallableModel) -> str:
    frames = ["frames"] if len(model.inputs[0].shape) == 4 else []
    rows = ["rows"] if model.tensors.batches else []
    return f"[{', '.join([*rows, '3', *frames, 'height', 'width'])}]"
