"""The models that both sides load: few, without torch, and each runs the case that a request names."""

import textwrap
from pathlib import Path

DATATYPES = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
]
CODES = [
    *("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG"),
    *("UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"),
]

HEAD = '''
import asyncio, json, sys, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils


def get(request, name="X"):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def answer(array, name="Y"):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.asarray(array, np.float32))])


def failure(text, code="INTERNAL"):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, code)))


def report(*found):
    """Everything that was found, as text."""
    text = np.array([json.dumps(one, default=shown, sort_keys=True) for one in found], dtype=object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", text)])


def shown(value):
    if isinstance(value, np.ndarray):
        data = value.tolist() if value.dtype == object else value.tobytes().hex()
        return ["array", str(value.dtype), value.shape, repr(data), value.flags.writeable]
    if type(value).__module__ == "c_python_backend_utils" and not hasattr(value, "value"):
        return type(value).__name__
    if isinstance(value, pb_utils.ModelConfig):
        return value.as_dict()
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(map(repr, value))]
    return value if isinstance(value, dict) else repr(value)


def attempt(call):
    """What a call gives, or the error that it raises; pybind11's own without its list of signatures."""
    try:
        return shown(call())
    except Exception as error:
        text, found, _ = str(error).partition("The following argument types are supported")
        if not found:
            text = text.partition("The signature was")[0]
        return f"{type(error).__name__}: {text}"


def tries(lines, **names):
    """One observation for every expression."""
    known = {**vars(pb_utils), **globals(), "pb_utils": pb_utils, "new": new, "shown": shown, **names}
    known["json"] = json
    return {line: attempt(lambda: eval(line, known)) for line in map(str.strip, lines.strip().splitlines())}


def new(inputs=(), outputs=(), model="callee", **more):
    return pb_utils.InferenceRequest(
        model_name=model, inputs=list(inputs), requested_output_names=list(outputs), **more
    )


def tensor(*values, name="X", dtype=np.float32):
    return pb_utils.Tensor(name, np.array(values, dtype))


def make_families():
    family = pb_utils.MetricFamily
    histograms = family(name="diff_histogram", description="d", kind=family.HISTOGRAM)
    return [
        family(name="diff_counter", description="a counter", kind=family.COUNTER),
        family(name="diff_gauge", description="a gauge", kind=family.GAUGE),
        histograms,
        histograms.Metric(buckets=[0.1, 1.0]),
    ]


def told(response):
    """A BLS response as plain data."""
    if response.has_error():
        return ["error", response.error().code().name, response.error().message()]
    return [[one.name(), shown(one.as_numpy())] for one in response.output_tensors()]

'''

DISPATCH = '''

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.kept = []

    def execute(self, requests):
        """Only the case that the first request names."""
        case = json.loads(requests[0].parameters())["case"]
        return globals()["case_" + case](self, requests, requests[0])
'''

ANY = "".join(
    f'input {{ name: "IN_{name}" data_type: TYPE_{name} dims: -1 optional: true }}\n' for name in DATATYPES
)
OUT = """
output { name: "Y" data_type: TYPE_FP32 dims: -1 }
output { name: "Z" data_type: TYPE_FP32 dims: -1 }
output { name: "TEXT" data_type: TYPE_STRING dims: -1 }
"""
X = 'input { name: "X" data_type: TYPE_FP32 dims: -1 optional: true }\n'
PYTHON = 'backend: "python"\ninstance_group { kind: KIND_CPU count: 1 }\n'

RUNNER = PYTHON + X + ANY + OUT + 'parameters { key: "word" value { string_value: "known" } }'
STREAMS = PYTHON + X + OUT + "model_transaction_policy { decoupled: true }"
# A batch is complete with its third row; until then the server waits.
BATCHES = (
    PYTHON
    + 'input { name: "X" data_type: TYPE_FP32 dims: -1 }'
    + OUT
    + "max_batch_size: 3 dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 10000000 }"
)
STRICT = """
input { name: "A" data_type: TYPE_FP32 dims: [ 2, -1 ] }
input { name: "B" data_type: TYPE_INT32 dims: [ -1 ] }
output { name: "TEXT" data_type: TYPE_STRING dims: -1 }
"""
ITERATIVE = PYTHON + X + OUT + "sequence_batching { iterative_sequence: true }"
CONTROL = 'control_input { name: "%s" control { kind: CONTROL_SEQUENCE_%s int32_false_true: [ 0, 1 ] } }\n'
SEQUENCES = (
    PYTHON
    + 'input { name: "X" data_type: TYPE_FP32 dims: -1 }'
    + OUT
    + "max_batch_size: 4 sequence_batching {\n"
    + "".join(CONTROL % (kind[0], kind) for kind in ("START", "END", "READY"))
    + "}"
)
CALLEE = PYTHON + 'input { name: "X" data_type: TYPE_FP32 dims: -1 }' + OUT

SHAPES = """
class TritonPythonModel:
    def execute(self, requests):
        return [report(sorted((one.name(), one.shape()) for one in each.inputs())) for each in requests]
"""
CALLED = """
class TritonPythonModel:
    num_counted = 0

    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        array, wish = get(request), json.loads(request.parameters())
        if "code" in wish:
            return failure("callee says no", wish["code"])
        if "count" in wish:
            self.num_counted += 1
        if "counted" in wish:
            return answer([self.num_counted])
        if "raise" in wish:
            raise ValueError("callee raises")
        fields = [request.request_id(), request.correlation_id(), request.flags(), request.timeout()]
        text = np.array([json.dumps([fields, wish], sort_keys=True)], dtype=object)
        named = {"Y": array + 1, "Z": array * 2, "TEXT": text}
        found = [pb_utils.Tensor(name, one) for name, one in named.items()]
        return pb_utils.InferenceResponse(found)
"""


def write(folder, name, source, config):
    place = Path(folder, name, "1")
    place.mkdir(parents=True)
    (place / "model.py").write_text(source if source.startswith("#") else HEAD + source)
    (place.parent / "config.pbtxt").write_text(config)


def source_of(cases):
    """A model that has a function for every case."""
    parts = []
    for name, case in cases.items():
        kind = "async def" if case.is_async else "def"
        body = textwrap.indent(textwrap.dedent(case.body).strip(), "    ")
        parts.append(f"\n\n{kind} case_{name}(self, requests, request):\n{body}\n")
    return "".join(parts) + DISPATCH
