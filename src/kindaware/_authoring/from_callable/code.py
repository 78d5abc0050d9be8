"""The files of a model that runs a callable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kindaware._authoring.from_callable.picture_models import PictureModel
from kindaware._authoring.from_callable.source import Source
from kindaware._authoring.tensors_from_example import ExampleTensor, InferredTensors
from kindaware._config.model_spec import TensorSpec

_NORMALIZE = '''class Normalize(nn.Module):
    """Scales the channels of pictures as the trained weights want it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor({mean}).view({view}))
        self.register_buffer("std", torch.tensor({std}).view({view}))

    def forward(self, picture):
        return (picture - self.mean) / self.std
'''
_GENERIC = frozenset({"x", "X", "input", "inputs", "image", "images", "img", "data", "tensor", "t"})


@dataclass(frozen=True)
class CallableModel:
    """A callable with what is known about it.

    Attributes:
        source: the callable.
        tensors: its inputs and outputs.
        names: Triton's name of each input, by parameter.
        picture: what torchvision says about it; None for any other callable.
        selects: for outputs by name, the code that reads each from the result; empty where the result is
            an answer as it is.
        rows: an example of one row's shape, by Triton's name.
    """

    source: Source
    tensors: InferredTensors
    names: Mapping[str, str]
    picture: PictureModel | None
    selects: Mapping[str, str]
    rows: Mapping[str, Sequence[int]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs by their names in Triton."""
        return tuple(_renamed(one, self.names[one.spec.name]) for one in self.tensors.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs."""
        return self.tensors.output_specs


def name_inputs(parameters: Sequence[str]) -> dict[str, str]:
    """Return Triton's names of inputs: the parameters' own, unless the only one says nothing."""
    if len(parameters) == 1 and parameters[0] in _GENERIC:
        return {parameters[0]: "INPUT"}
    return {name: name for name in parameters}


def write_model(model: CallableModel) -> str:
    """Return the text of model.py."""
    source, picture = model.source, model.picture
    module = "network" if source.file is not None and source.file.stem == "model" else source.module_name
    needs_torch = bool(source.call) or picture is not None
    imports = (["import torch"] if needs_torch else []) + (["from torch import nn"] if picture else [])
    own_import = f"from {module} import {source.name}"
    third_party = [own_import] if source.file is None else []
    groups = [sorted([*imports, *third_party], key=lambda one: (one.startswith("from"), one.lower()))]
    groups.append(["from kindaware import KindAwareModel"])
    if source.file is not None:
        groups.append([own_import])
    parts = ["\n\n".join("\n".join(group) for group in groups if group)]
    if picture is not None:
        view = "3, 1, 1" if len(model.inputs[0].shape) == 3 else "3, 1, 1, 1"
        parts.append(
            _NORMALIZE.format(
                mean=[round(one, 6) for one in picture.mean],
                std=[round(one, 6) for one in picture.std],
                view=view,
            ).rstrip()
        )
    parts.append("\n".join(["class TritonPythonModel(KindAwareModel):", *_load(model), "", *_forward(model)]))
    return "\n\n\n".join(parts) + "\n"


def _load(model: CallableModel) -> list[str]:
    source = model.source
    if not source.call:
        return ["    def load(self):", "        return None"]
    made = "nn.Sequential(Normalize(), model)" if model.picture is not None else "model"
    lines = ["    def load(self):"]
    if uses_random_weights(source):
        lines += [f"        # {line}" for line in _weights(source)]
        lines.append("        torch.manual_seed(0)")
    lines.append(f"        model = {source.call}")
    return [*lines, f"        return {made}"] if made != "model" else [*lines[:-1], f"        return {source.call}"]


def uses_random_weights(source: Source) -> bool:
    """Whether nothing in the call that makes a module names weights."""
    return bool(source.call) and not ("weights=" in source.call and "weights=None" not in source.call)


def _weights(source: Source) -> list[str]:
    lines = ["WEIGHTS: random numbers, so what it answers means nothing yet. To get trained ones:"]
    if "weights=None" in source.call:
        lines.append(f'  {source.name}(weights="DEFAULT") downloads them, once per machine; or, from a file beside this:')
    else:
        lines.append("  from a file beside this one, before the module is returned:")
    return [*lines, '  model.load_state_dict(torch.load(Path(__file__).with_name("weights.pt"), weights_only=True))']


def _forward(model: CallableModel) -> list[str]:
    source, tensors = model.source, model.tensors
    callee = "self.model" if source.call else source.name
    names = [model.names[one.spec.name] for one in tensors.inputs]
    values = [f"{name}.squeeze({int(tensors.batches)})" if one.is_scalar else name for name, one in zip(names, tensors.inputs, strict=True)]
    parameters = [one.spec.name for one in tensors.inputs]
    by_name = tensors.by_keyword and len(names) > 1
    args = [f"{key}={value}" for key, value in zip(parameters, values, strict=True)] if by_name else values
    call = f"{callee}({', '.join(args)})"
    note = f"  # pictures, {_layout(model)}, RGB, 0 to 1" if model.picture is not None else ""
    lines = [f"    def forward({', '.join(['self', *names])}):{note}"]
    if not model.selects:
        suffix = f".unsqueeze({int(tensors.batches)})" if tensors.outputs[0].is_scalar else ""
        return [*lines, f"        return {call}{suffix}"]
    lines.append(f"        outputs = {call}")
    entries = []
    for one in tensors.outputs:
        suffix = f".unsqueeze({int(tensors.batches)})" if one.is_scalar else ""
        entries.append(f'"{one.spec.name}": {model.selects[one.spec.name]}{suffix}')
    return [*lines, "        return {", *(f"            {entry}," for entry in entries), "        }"]


def _layout(model: CallableModel) -> str:
    rows = ["rows"] if model.tensors.batches else []
    names = ["height", "width"]
    inner = ["3", *(["frames"] if len(model.inputs[0].shape) == 4 else []), *names]
    return f"[{', '.join([*rows, *inner])}]"


def write_test(model: CallableModel) -> str:
    """Return the text of the model's test."""
    batches = model.tensors.batches
    rows = [2] if batches else []
    lines = ["from pathlib import Path", "", "import torch", "", "from kindaware.testing import ModelHarness", ""]
    lines += ["MODEL = Path(__file__).parent", "", "", "def make_inputs(seed):"]
    lines.append("    torch.manual_seed(seed)")
    entries = [f'"{one.name}": {_random(one, [*rows, *model.rows[one.name]])}' for one in model.inputs]
    lines += _dict("    return ", entries)
    shapes = [
        f'    assert result.outputs["{one.name}"].shape == {_shape(one.spec if isinstance(one, ExampleTensor) else one, rows)}'
        for one in model.outputs
        if -1 not in one.shape
    ]
    ranks = [
        f'    assert result.outputs["{one.name}"].ndim == {len(one.shape) + len(rows)}'
        for one in model.outputs
        if -1 in one.shape
    ]
    title = "each_row_is_answered" if batches else "request_is_answered"
    lines += ["", "", f"def test_{title}():", "    with ModelHarness(MODEL) as model:"]
    lines += ["        result = model.infer(make_inputs(0))", *shapes, *ranks]
    if batches:
        first = model.outputs[0].name
        lines += ["", "", "def test_answer_does_not_depend_on_the_requests_beside_it():"]
        lines += ["    with ModelHarness(MODEL) as model:", "        alone = model.infer(make_inputs(0))"]
        lines += ["        beside, _ = model.infer_batch([make_inputs(0), make_inputs(1)])"]
        lines += [f'    values, others = (one.outputs["{first}"] for one in (alone, beside))']
        is_float = model.outputs[0].dtype.torch is not None and model.outputs[0].dtype.torch.is_floating_point
        compare = (
            "torch.testing.assert_close(torch.as_tensor(others), torch.as_tensor(values), rtol=1e-3, atol=1e-3)"
            if is_float
            else "assert (others == values).all()"
        )
        lines.append(f"    {compare}")
    return "\n".join(lines) + "\n"


def _shape(one: TensorSpec, rows: Sequence[int]) -> str:
    sizes = ", ".join(map(str, [*rows, *one.shape]))
    return f"({sizes},)" if len(rows) + len(one.shape) == 1 else f"({sizes})"


def _random(one: TensorSpec, sizes: Sequence[int]) -> str:
    dtype, shape = one.dtype.torch, ", ".join(map(str, sizes))
    if dtype is None or dtype.is_floating_point:
        return f"torch.rand({shape})" if str(dtype) == "torch.float32" else f"torch.rand({shape}).to({dtype})"
    return f"torch.randint(0, 2, ({shape},)).to({dtype})"


def _dict(head: str, entries: Sequence[str]) -> list[str]:
    short = f"{head}{{{', '.join(entries)}}}"
    if len(short) <= 100:
        return [short]
    return [f"{head}{{", *(f"        {entry}," for entry in entries), "    }"]


def write_client(model: CallableModel, name: str) -> str:
    """Return the text of client.py."""
    lines = ["import sys", "", "import numpy as np"]
    reads = model.picture is not None and len(model.inputs[0].shape) == 3
    lines += ["from PIL import Image"] if reads else []
    lines += ["", "from kindaware.client import ModelClient", ""]
    if reads:
        height, width = model.rows["INPUT"][-2:]
        lines += ["path = sys.argv[1]", 'url = sys.argv[2] if len(sys.argv) > 2 else "localhost:8001"']
        lines += [f'picture = Image.open(path).convert("RGB").resize(({width}, {height}))']
        lines += ['values = {"INPUT": np.asarray(picture, np.float32).transpose(2, 0, 1) / 255}']
    else:
        lines += ['url = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"']
        lines += ["random = np.random.default_rng(0)"]
        entries = [f'"{one.name}": {_random_array(one, model.rows[one.name])}' for one in model.inputs]
        lines += _dict("values = ", entries)
    lines += [f'with ModelClient(url, "{name}") as model:', "    outputs = model.infer(values)"]
    if model.picture is not None and model.picture.categories:
        lines += ['labels = Path(__file__).with_name("labels.txt").read_text().splitlines()']
        lines += ['scores = outputs["OUTPUT"]', "for number in scores.argsort()[::-1][:5]:"]
        lines += ['    print(f"{scores[number]:8.3f}  {labels[number]}")']
        lines.insert(1, "from pathlib import Path")
    else:
        lines += ["for key, value in outputs.items():", "    print(key, value.shape, value.ravel()[:8])"]
    return "\n".join(lines) + "\n"


def _random_array(one: TensorSpec, shape: Sequence[int]) -> str:
    sizes = ", ".join(map(str, shape))
    dtype = one.dtype.torch
    if dtype is None or dtype.is_floating_point:
        return f"random.random(({sizes},), dtype=np.float32)"
    return f"random.integers(0, 2, ({sizes},))"


def _renamed(tensor: ExampleTensor, name: str) -> TensorSpec:
    return TensorSpec(name, str(tensor.spec.dtype), tensor.spec.shape)
