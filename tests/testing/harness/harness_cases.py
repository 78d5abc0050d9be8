"""How a case is written down: a model, and the requests that a real server and a harness get alike."""

from dataclasses import dataclass, field

from harness_kit import floats

DESCRIBE = """
class TritonPythonModel:
    def execute(self, requests):
        return [self.describe(request) for request in requests]

    def describe(self, request):
        tensors = [(one.name(), one.shape(), str(one.as_numpy().dtype)) for one in request.inputs()]
        fields = [request.request_id(), request.correlation_id(), request.flags(), request.timeout()]
        parameters = sorted(json.loads(request.parameters()).items())
        found = [sorted(tensors), fields, parameters, sorted(request.requested_output_names())]
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.array([json.dumps(found)], dtype=object))])
"""
OUTPUTS = """
output [ { name: "Y" data_type: TYPE_STRING dims: -1 }, { name: "Z" data_type: TYPE_FP32 dims: 1 } ]
"""


def described(*inputs, extra=""):
    """A configuration for DESCRIBE."""
    return 'backend: "python"' + OUTPUTS + "".join(f"input {{ {text} }}\n" for text in inputs) + extra


X2 = 'name: "X" data_type: TYPE_FP32 dims: [ 2, -1 ]'


@dataclass(frozen=True)
class Case:
    """One model, and the arguments of `infer` for each request."""

    config: str
    requests: list
    source: str = DESCRIBE
    options: dict = field(default_factory=dict)


def of(*tensors, **options):
    """A request; tensors are (name, array)."""
    return {"inputs": dict(tensors), **options}


def x(array, **options):
    return of(("X", array), **options)


TWICE = [x(floats(2)), x(floats(3))]


def model(body, prefix=""):
    """A model whose `execute` has this body."""
    lines = "\n".join("        " + line for line in body.strip().splitlines())
    return f"{prefix}\nclass TritonPythonModel:\n    def execute(self, requests):\n{lines}\n"


DISPATCH = """

class TritonPythonModel:
    def initialize(self, args):
        found = {name: one for name, one in globals().items() if name.startswith("Case_")}
        self.cases = {name.removeprefix("Case_"): one() for name, one in found.items()}

    def execute(self, requests):
        return self.cases[json.loads(requests[0].parameters())["case"]].execute(requests)
"""


def merged(cases, config):
    """One model for all cases with this configuration; a request's parameter says which one is meant."""
    chosen = {name: case for name, case in cases.items() if case.config == config}
    sources = [
        case.source.replace("class TritonPythonModel", f"class Case_{name}") for name, case in chosen.items()
    ]
    return "".join(sources) + DISPATCH
