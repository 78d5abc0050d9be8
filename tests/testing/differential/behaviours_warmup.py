"""Models with `model_warmup`: they load, and tell what they got meanwhile, or don't load."""

import numpy as np
from behaviour import Behaviour
from behaviours_loading import PLAIN
from differential_kit import ask
from differential_models import PYTHON

FILE = "numbers"  # lies in the folder `warmup` of all these models
CONTENT = bytes(range(32, 64))

WARMED = """
class TritonPythonModel:
    def initialize(self, args):
        self.seen = []

    def execute(self, requests):
        self.seen.append([self.describe(request) for request in requests])
        return [report(*self.seen) for _ in requests]

    def describe(self, request):
        inputs = sorted((one.name(), one.shape(), shown(one.as_numpy())) for one in request.inputs())
        fields = [request.request_id(), request.correlation_id(), request.flags(), request.parameters()]
        return [inputs, fields, sorted(request.requested_output_names()), request.is_cancelled()]
"""

ROWS = (
    PYTHON
    + 'input { name: "X" data_type: TYPE_FP32 dims: 2 }\n'
    + 'output { name: "TEXT" data_type: TYPE_STRING dims: -1 }\n'
    + "max_batch_size: 4\n"
)
STRINGS = PLAIN + 'input { name: "S" data_type: TYPE_STRING dims: -1 optional: true }\n'
CONTROLLED = (
    ROWS + 'sequence_batching { control_input { name: "C" control '
    "{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } } }\n"
)


def tensor(data="zero_data: true", dims="[ 2 ]", kind="TYPE_FP32", name="X"):
    return f'inputs {{ key: "{name}" value {{ data_type: {kind} dims: {dims} {data} }} }}'


def sample(*tensors, batch_size=1, count=0):
    """One entry of `model_warmup`."""
    size = f"batch_size: {batch_size} count: {count}"
    return f'model_warmup {{ name: "w" {" ".join(tensors)} {size} }}\n'


def row(name, **options):
    return ask(name, {"X": np.ones((1, 2), np.float32)}, **options)


def line(name):
    return ask(name, {"X": np.ones(2, np.float32)})


# Name to configuration, and the request that asks what was seen.
_LOADING = {
    "warmup_of_several_requests": (ROWS + sample(tensor(), batch_size=2, count=2), row),
    "warmup_of_several_samples": (ROWS + sample(tensor()) + sample(tensor(), batch_size=3), row),
    "warmup_of_no_requests": (ROWS + sample(tensor(), batch_size=0), row),
    "warmup_without_a_batch_dimension": (PLAIN + sample(tensor(dims="[ 3 ]")), line),
    "warmup_with_a_file": (ROWS + sample(tensor(f'input_data_file: "{FILE}"'), batch_size=2), row),
    "warmup_with_strings": (
        STRINGS
        + sample(tensor(kind="TYPE_STRING", name="S"))
        + sample(tensor("random_data: true", kind="TYPE_STRING", name="S")),
        line,
    ),
    "warmup_with_an_unknown_input": (PLAIN + sample(tensor(), tensor(name="Q")), line),
    "warmup_beside_a_sequence_batcher": (
        CONTROLLED + sample(tensor()),
        lambda name: row(name, correlation_id=5, flags=1),
    ),
}
LOADING = {name: (WARMED, config) for name, (config, _) in _LOADING.items()}
BEHAVIOURS = {name: Behaviour("", (asked(name),), name) for name, (_, asked) in _LOADING.items()}

# Settings that are wrong. Where a request of a warm-up fails, the server ends by chance.
FAILURES = {
    "warmup_with_another_shape": (WARMED, ROWS + sample(tensor(dims="[ 3 ]"))),
    "warmup_with_another_type": (WARMED, ROWS + sample(tensor(kind="TYPE_INT32"))),
    "warmup_without_an_input": (WARMED, ROWS.replace('"X"', '"NEEDED"') + sample(tensor())),
    "warmup_without_data": (WARMED, ROWS + sample(tensor(""))),
    "warmup_with_a_variable_dimension": (WARMED, ROWS + sample(tensor(dims="[ -1 ]"))),
    "warmup_without_its_file": (WARMED, ROWS + sample(tensor('input_data_file: "no"'))),
    "warmup_with_a_short_file": (
        WARMED,
        ROWS + sample(tensor(f'input_data_file: "{FILE}"', dims="[ 2, 9 ]")),
    ),
}
