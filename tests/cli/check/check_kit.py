"""Models to check, and what the rules find in them without running anything."""

from kindaware.cli._machine import Machine, SharedMemory
from kindaware.cli.check import _session  # noqa: F401  (registers the rules)
from kindaware.cli.check._registry import apply_rules
from kindaware.cli.check._subject import Subject

CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU } ]
dynamic_batching { }
"""

ROOMY = SharedMemory(2**30, 2**30)

BY_HAND = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * x)])
"""

OURS = """\
from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        pass

    def forward(self, X):
        return 2 * X
"""


def write_model(folder, code=BY_HAND, config=CONFIG):
    """Write a model's directory; None leaves a file out."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    if code is not None:
        (folder / "1").mkdir(exist_ok=True)
        (folder / "1" / "model.py").write_text(code)
    return folder


def machine(cores=2, gpus=0, shared=ROOMY, server=None):
    """A machine of which nothing is looked up."""
    made = Machine()
    vars(made).update(num_cores=cores, num_gpus=gpus, shared_memory=shared, server=server)
    return made


def subject(folder, kind=None, **host):
    return Subject(folder, machine(**host), kind)


def find(checked, stage="files"):
    """What the rules find, as (rule, level, file, line)."""
    return [
        (one.rule, one.level, str(one.file.relative_to(checked.folder)), one.line)
        for one in apply_rules(checked, stage)
    ]


def only(checked, rule, stage="files"):
    """The one finding of a rule."""
    [found] = [one for one in apply_rules(checked, stage) if one.rule == rule]
    return found
