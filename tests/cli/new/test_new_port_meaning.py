"""Ports answer as the original does, or ask: never something else in silence."""
# ruff: noqa: E501 - the models are text

import textwrap

import numpy as np
import pytest

from kindaware.testing import ModelHarness

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
GET = 'x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()\n'
ANSWER = 'responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", {})]))'
REFUSE = 'responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))'
REQUESTS = [np.array([[1, 2, 3, 4]], np.float32), np.array([[-1, 5, 7, 9], [3, 2, 1, 0]], np.float32)]


def code(body, load="pass", more="", before="", above=""):
    parts = [
        textwrap.indent(textwrap.dedent(one), " " * n) for one, n in ((load, 8), (before, 8), (body, 12))
    ]
    return (
        f"import json\nimport numpy as np\nimport torch\nimport triton_python_backend_utils as pb_utils\n{above}\n"
        f"class TritonPythonModel:\n    def initialize(self, args):\n{parts[0]}\n\n"
        f"    def execute(self, requests):\n        responses = []\n{parts[1]}\n        for request in requests:\n"
        f"{parts[2]}\n        return responses\n\n{textwrap.indent(textwrap.dedent(more), ' ' * 4)}\n"
    )


@pytest.fixture
def port(made, tmp_path):
    def run(text, pbtxt=CONFIG):
        (tmp_path / "old" / "1").mkdir(parents=True)
        (tmp_path / "old" / "1" / "model.py").write_text(text)
        (tmp_path / "old" / "config.pbtxt").write_text(pbtxt)
        return made("net", "--from", "old/1/model.py")["questions"]

    return run


def answers(directory):
    """Outputs, or the code and the text of the error."""
    with ModelHarness(directory, raise_errors=False) as model:
        found = [model.infer(X=one) for one in REQUESTS]
    return [one.error.message() if one.error else one.outputs["Y"].tolist() for one in found]


SAME = {
    "kind that is no GPU": code(
        GET + ANSWER.format("x * self.k"),
        'self.k = 1\nif args["model_instance_kind"] != "GPU":\n    self.k = 2',
    ),
    "kind that is CPU": code(
        GET + ANSWER.format("x * self.k"),
        'self.k = 1\nif args["model_instance_kind"] == "CPU":\n    self.k = 2',
    ),
    "kind and another condition": code(
        GET + ANSWER.format("x * self.k"),
        'self.k = 1\nif args["model_instance_kind"] == "GPU" or args["model_name"]:\n    self.k = 2',
    ),
    "no CUDA": code(
        GET + ANSWER.format("x * self.k"), "self.k = 1\nif not torch.cuda.is_available():\n    self.k = 3"
    ),
    "device as text": code(
        GET + ANSWER.format("x * self.k"),
        'self.device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"\nself.k = 2 if self.device == "cpu" else 1',
    ),
    "data type that changes": code(
        GET + ANSWER.format("(x / 2).astype(self.t).astype(np.float32)"),
        'c = json.loads(args["model_config"])\nself.t = pb_utils.triton_string_to_numpy(c["output"][0]["data_type"])\n'
        'if args["model_name"]:\n    self.t = np.int32',
    ),
    "default of a parameter": code(
        GET + ANSWER.format("x * np.float32(self.k)"),
        'self.k = float(json.loads(args["model_config"]).get("parameters", {}).get("k", {}).get("string_value", "2.5"))',
    ),
    "error answered in try": code(
        f"try:\n    {GET}    if (x < 0).any():\n        {REFUSE}\n        continue\n    {ANSWER.format('x')}\n"
        'except Exception as e:\n    responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("failed: " + str(e))))'
    ),
    "output made in try": code(
        GET + 'try:\n    out = pb_utils.Tensor("Y", self.root(x))\nexcept ValueError as e:\n    '
        'responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("no: " + str(e))))\n    continue\n'
        "responses.append(pb_utils.InferenceResponse([out]))",
        more='def root(self, x):\n    if (x < 0).any():\n        raise ValueError("negative")\n    return np.sqrt(x)',
    ),
    "output whose source changes": code(
        GET
        + 'y = x + 1\nout = pb_utils.Tensor("Y", y * 2)\ny.fill(9)\nresponses.append(pb_utils.InferenceResponse([out]))'
    ),
    "tensor under one name": code(
        'x = pb_utils.get_input_tensor_by_name(request, "X")\nx = x.as_numpy()\nx = np.abs(x)\n'
        + ANSWER.format("x")
    ),
    "statements in one line": code(GET + "y = x.copy(); y *= 2; y += 1\n" + ANSWER.format("y")),
    "name that is deleted": code(GET + "y = np.abs(x)\ndel x\n" + ANSWER.format("y")),
    "function inside": code(GET + "def scaled(k):\n    return x * k\n" + ANSWER.format("scaled(2)")),
    "tensor changed in place": code(
        "x = torch.tensor(pb_utils.get_input_tensor_by_name(request, 'X').as_numpy())\nx.mul_(2)\n"
        + ANSWER.format("x.numpy()")
    ),
    "method named like a module's": code(
        "x = torch.from_numpy(pb_utils.get_input_tensor_by_name(request, 'X').as_numpy())\n"
        + ANSWER.format("self.forward(x).numpy()"),
        "self.net = Net()",
        "def forward(self, x):\n    return self.net(x)",
        above="class Net(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n",
    ),
    "annotations of the future": "from __future__ import annotations\n"
    + code(GET + ANSWER.format("np.abs(x)")),
    "autocast around the loop": code("pass").replace(
        "        for request in requests:\n            pass\n",
        "        with torch.autocast('cpu', dtype=torch.bfloat16):\n            for request in requests:\n"
        "                x = torch.from_numpy(pb_utils.get_input_tensor_by_name(request, 'X').as_numpy())\n"
        "                y = torch.mm(x, torch.full((4, 4), 1.001)).float().numpy()\n"
        f"                {ANSWER.format('y')}\n",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_answers_and_errors_are_those_of_the_original(name, port, tmp_path):
    assert port(SAME[name]) == []
    assert answers(tmp_path / "net") == answers(tmp_path / "old")


ASKED = {
    "counts requests": (
        code(GET + "self.n += 1\n" + ANSWER.format("x * self.n"), "self.n = 0"),
        "from one request to the next",
    ),
    "mean of a request": (code(GET + ANSWER.format("x - x.mean()")), "it may mix rows"),
    "sum over all requests": (
        code(GET + "n += 1\n" + ANSWER.format("x * n"), before="n = 0"),
        "does more than go through",
    ),
    "behind an error": (
        code(GET + f"if (x < 0).any():\n    {REFUSE}\n    self.seen()\n    continue\n" + ANSWER.format("x")),
        "behind an answer",
    ),
    "training mode": (
        code(GET + ANSWER.format("x"), "self.model = torch.nn.Dropout()\nself.model.train()"),
        "training mode",
    ),
    "several answers": (
        code(GET + f"responses += [{ANSWER.format('x')[17:-1]}]"),
        "several responses at once",
    ),
    "match": (
        code(GET + "match x.shape[0]:\n    case _:\n        " + ANSWER.format("x")),
        "a statement that isn't ported",
    ),
    "control input": (
        code(
            GET
            + 's = pb_utils.get_input_tensor_by_name(request, "START").as_numpy()\n'
            + ANSWER.format("x * s")
        ),
        "no input",
    ),
    "helper with Triton's module": (
        code(GET + ANSWER.format("x"), above="def refuse():\n    return pb_utils.TritonError('no')\n"),
        "only the library talks to Triton",
    ),
    "bases": (code(GET + ANSWER.format("x")).replace("Model:", "Model(dict):"), "bases of its own"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_may_mean_something_else_is_a_question(name, port):
    text, expected = ASKED[name]
    assert any(expected in one for one in port(text))


@pytest.mark.parametrize(("dtype", "number"), [("INT64", "0.001"), ("UINT8", "1000"), ("UINT8", "-1")])
def test_constants_that_change_the_type_in_numpy_alone_stay_with_numpy(dtype, number, port, tmp_path):
    port(
        code(GET + ANSWER.format(f"(x * {number}).astype(np.float64)")),
        CONFIG.replace("FP32", dtype, 1).replace("FP32", "FP64"),
    )
    assert ".numpy()" in (tmp_path / "net" / "1" / "model.py").read_text()


def test_variable_named_like_an_input_does_not_take_its_place(port, tmp_path):
    body = (
        'X = pb_utils.get_input_tensor_by_name(request, "Z").as_numpy()\n'
        'Z = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()\n'
        + ANSWER.format("np.abs(X) - np.sqrt(Z) + X - Z")
    )
    inputs = 'input [ { name: "Z" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
    assert port(code(body), CONFIG + inputs) == []
    found = []
    for directory in ("old", "net"):
        with ModelHarness(tmp_path / directory) as model:
            found.append(model.infer(X=abs(REQUESTS[0]), Z=REQUESTS[0] * 10).outputs["Y"].tolist())
    assert found[0] == found[1]
