"""Model repositories: a form's model.py, what it imports beside it, and one configuration for all forms."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.machine import ROOT
from benchmarks.networks import INPUT, NETWORKS, OUTPUT
from benchmarks.text import PROMPT, PROMPT_LENGTH, TOKEN, WANTED

HERE = Path(__file__).resolve().parents[1]
GPT_FOLDER = ROOT / "examples" / "generation" / "models" / "gpt" / "1"
MAX_BATCH_SIZE = 64


class Model(Protocol):
    """One model of a repository: a file of `forms` that becomes its model.py, and its config.pbtxt."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def form(self) -> str:
        """The file, without its ending."""

    def config(self) -> str:
        """Return the text of its config.pbtxt."""


@dataclass(frozen=True)
class Served:
    """One model of a repository.

    Attributes:
        form: the file in `forms` that becomes its model.py.
        network: what it serves.
        instances: how many instances, on the CPU.
        label: tells models of the same form apart.
        parameters: of the configuration, beside the network's name.
        max_batch_size: of the configuration.
        batching: how the server batches, as text of config.pbtxt.
    """

    form: str
    network: str
    instances: int = 1
    label: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    max_batch_size: int = MAX_BATCH_SIZE
    batching: str = "dynamic_batching { }"

    @property
    def name(self) -> str:
        """The model's name."""
        return "_".join(part for part in (self.network, self.form, str(self.instances), self.label) if part)

    def config(self) -> str:
        """Return the text of its config.pbtxt."""
        network = NETWORKS[self.network]
        rows, answers = (list(shape) for shape in (network.input_shape, network.output_shape))
        ragged = " allow_ragged_batch: true" if -1 in network.input_shape else ""
        text = f"""\
name: "{self.name}"
backend: "python"
max_batch_size: {self.max_batch_size}
input [ {{ name: "{INPUT}" data_type: TYPE_{network.input_type} dims: {rows}{ragged} }} ]
output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: {answers} }} ]
instance_group [ {{ kind: KIND_CPU count: {self.instances} }} ]
{self.batching}
"""
        return text + parameters_text({"network": self.network, **self.parameters})


@dataclass(frozen=True)
class ServedText:
    """One model that writes texts, as a repository has it.

    Attributes:
        form: the file in `forms` that becomes its model.py.
        size: a key of `benchmarks.text.SIZES`.
        parameters: of the configuration, beside the size.
        label: tells models of the same form apart.
    """

    form: str
    size: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return "_".join(part for part in (self.size, self.form, self.label) if part)

    def config(self) -> str:
        """Return the text of its config.pbtxt."""
        text = f"""\
name: "{self.name}"
backend: "python"
input [
  {{ name: "{PROMPT}" data_type: TYPE_INT32 dims: [ {PROMPT_LENGTH} ] }},
  {{ name: "{WANTED}" data_type: TYPE_INT32 dims: [ 1 ] }}
]
output [ {{ name: "{TOKEN}" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU }} ]
model_transaction_policy {{ decoupled: true }}
"""
        return text + parameters_text({"size": self.size, **self.parameters})


def parameters_text(values: Mapping[str, str]) -> str:
    """Return the lines of a config.pbtxt that set parameters."""
    lines = (
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()
    )
    return "\n".join([*lines, ""])


@contextlib.contextmanager
def repository(models: Iterable[Model]) -> Iterator[Path]:
    """Write models into a folder that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder:
        for served in models:
            write_model(Path(folder), served)
        yield Path(folder)


def write_model(folder: Path, served: Model) -> Path:
    """Write one model into a repository and return its directory."""
    model = folder / served.name
    version = model / "1"
    shutil.copytree(HERE / "forms", version / "forms", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (HERE / "networks.py", HERE / "text.py", GPT_FOLDER / "network.py"):
        shutil.copy(file, version / file.name)
    shutil.copy(version / "forms" / f"{served.form}.py", version / "model.py")
    (model / "config.pbtxt").write_text(served.config())
    return model
