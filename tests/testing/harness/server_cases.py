"""The models and requests that a real server and a harness get alike."""

from dataclasses import dataclass, field

import numpy as np
from harness_kit import BATCHED, DECOUPLED, ECHO, PLAIN, floats

STRINGS = np.array([[b"a", b""], [b"\xff\x00", "€".encode()]], dtype=object)

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
XR = 'name: "X" data_type: TYPE_FP32 dims: [ 2 ]'
W = 'name: "W" data_type: TYPE_INT32 dims: [ -1 ]'
S = 'name: "S" data_type: TYPE_STRING dims: [ -1 ]'
ROWS = "max_batch_size: 4\n"


@dataclass(frozen=True)
class Case:
    """One model, and the arguments of `infer` for each request."""

    config: str
    requests: list
    source: str = DESCRIBE
    options: dict = field(default_factory=dict)


def ints(*shape):
    return np.ones(shape, np.int32)


def of(*tensors, **options):
    """A request; tensors are (name, array)."""
    return {"inputs": dict(tensors), **options}


def x(array, **options):
    return of(("X", array), **options)


INPUTS = {
    "names_and_shapes": Case(
        described(X2),
        [
            x(floats(2, 3)),
            x(floats(2, 0)),
            of(),
            x(floats(2)),
            x(floats(3, 3)),
            x(np.array(1, np.float32)),
            x(floats(2, 3).astype(np.float64)),
            of(("Q", floats(2, 3))),
            of(("X", floats(2, 3)), ("Q", floats(2, 3))),
            of(("Q", floats(2, 3)), request_id="r7"),
            x(floats(3, 3), request_id="r8"),
            x(floats(2, 3), requested_outputs=["NO"]),
            x(floats(2, 3), requested_outputs=["Z"]),
            x(floats(2, 3), requested_outputs=["Y"]),
        ],
    ),
    "two_inputs": Case(
        described('name: "X" data_type: TYPE_FP32 dims: -1', W),
        [
            of(("W", ints(1))),
            of(("X", floats(1)), ("Q", floats(1))),
            of(),
            of(("X", floats(1)), ("W", ints(1)), ("Q", floats(1))),
            of(("X", floats(0)), ("W", ints(0))),
        ],
    ),
    "rows": Case(
        described(XR, W, extra=ROWS),
        [
            of(("X", floats(3, 2)), ("W", ints(3, 5))),
            of(("X", floats(4, 2)), ("W", ints(4, 1))),
            of(("X", floats(5, 2)), ("W", ints(5, 5))),
            of(("X", floats(0, 2)), ("W", ints(0, 5))),
            of(("X", floats(0, 2)), ("W", ints(3, 5))),
            of(("X", floats(3, 2)), ("W", ints(0, 5))),
            of(("X", floats(3, 2)), ("W", ints(3, 0))),
            of(("X", floats(2, 2)), ("W", ints(3, 5))),
            of(("X", floats(2)), ("W", ints(2, 5))),
            of(("X", floats(2, 3)), ("W", ints(2, 5))),
            of(("X", np.array(1, np.float32)), ("W", ints(2, 5))),
            of(("X", ints(2, 2)), ("W", ints(2, 5))),
            of(("Q", floats(2, 2)), ("W", ints(2, 5))),
            of(("X", floats(2, 2)), ("W", ints(2))),
        ],
    ),
    "optional_input": Case(
        described(XR, S + " optional: true", extra=ROWS),
        [
            x(floats(2, 2)),
            of(("S", STRINGS)),
            of(),
            of(("X", floats(2, 2)), ("S", STRINGS), ("Q", floats(2, 2))),
            of(("X", floats(2, 2)), ("Q", floats(2, 2))),
        ],
    ),
    "all_optional": Case(
        described(XR + " optional: true", S + " optional: true", extra=ROWS),
        [
            of(),
            of(("S", STRINGS[:0])),
            of(("X", floats(0, 2)), ("S", STRINGS[:1])),
            of(("S", STRINGS[:1]), ("X", floats(0, 2))),
        ],
    ),
    "no_inputs": Case(described(), [of(), x(floats(1))]),
    "reshape": Case(
        described(
            'name: "X" data_type: TYPE_FP32 dims: [ 2, -1 ] reshape { shape: [ 2, -1, 1 ] }',
            'name: "S" data_type: TYPE_STRING dims: 1 reshape { shape: [ ] }',
            extra=ROWS,
        ),
        [
            of(("X", floats(2, 2, 5)), ("S", STRINGS[:, :1])),
            of(("X", floats(2, 2, 0)), ("S", STRINGS[:, :1])),
            of(("X", floats(2, 2, 5)), ("S", STRINGS)),
        ],
    ),
    "request_fields": Case(
        described(X2),
        [
            x(floats(2, 1), correlation_id=7, flags=3),
            x(floats(2, 1), correlation_id="text"),
            x(floats(2, 1), request_id="é", timeout=5_000_000, parameters={"a": 1, "b": True, "c": "x"}),
        ],
    ),
    "sequence": Case(
        described(
            'name: "X" data_type: TYPE_FP32 dims: -1',
            extra=ROWS
            + """sequence_batching {
              control_input { name: "A" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
              control_input { name: "B" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }
              control_input { name: "C" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ 0, 1 ] } }
              control_input { name: "D" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT32 } }
            }""",
        ),
        [
            x(floats(1, 3)),
            x(floats(1, 3), correlation_id=5, flags=1),
            x(floats(1, 4), correlation_id=5),
            x(floats(1, 3), correlation_id=5, flags=2),
            x(floats(1, 3), correlation_id=5),
            x(floats(2, 3), correlation_id=6, flags=1),
            x(floats(1, 3), correlation_id="abc", flags=1),
            x(floats(1, 3), correlation_id="abd"),
        ],
    ),
    "decoupled_unary": Case(DECOUPLED, [x(floats(2))], ECHO),
}

CONTROLS = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer([get(one, name)[0, 0] for name in "ABCD"]) for one in requests]
"""

TWICE = [x(floats(2)), x(floats(3))]


def model(body, prefix=""):
    """A model whose `execute` has this body."""
    lines = "\n".join("        " + line for line in body.strip().splitlines())
    return f"{prefix}\nclass TritonPythonModel:\n    def execute(self, requests):\n{lines}\n"


OUTCOMES = {
    "echo": Case(PLAIN, TWICE, ECHO),
    "no_execute": Case(PLAIN + "\n", TWICE, "class TritonPythonModel:\n    pass\n"),
    "raises": Case(PLAIN, TWICE, model("raise ValueError('boom')")),
    "raises_without_text": Case(PLAIN, TWICE, model("raise ValueError")),
    "raises_triton_exception": Case(PLAIN, TWICE, model("raise pb_utils.TritonModelException('mine')")),
    "raises_deep": Case(PLAIN, TWICE, model("helper()", "def helper():\n    raise KeyError('deep')\n")),
    "raises_system_exit": Case(PLAIN, TWICE, model("raise SystemExit(3)")),
    "raises_chained": Case(
        PLAIN,
        TWICE,
        model("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('late') from error"),
    ),
    "raises_in_library": Case(PLAIN, TWICE, model("json.loads('{')")),
    "type_error_of_pb_utils": Case(PLAIN, TWICE, model("pb_utils.Tensor('', 1)")),
    "returns_tuple": Case(PLAIN, TWICE, model("return (answer(1.0),)")),
    "returns_dict": Case(PLAIN, TWICE, model("return {}")),
    "returns_empty": Case(PLAIN, TWICE, model("return []")),
    "returns_too_many": Case(PLAIN, TWICE, model("return [answer([1.0]), answer([2.0])]")),
    "returns_text": Case(PLAIN, TWICE, model("return ['text']")),
    "returns_one_error": Case(
        PLAIN,
        TWICE,
        model(
            "error = pb_utils.TritonError('no', pb_utils.TritonError.NOT_FOUND)\n"
            "return [pb_utils.InferenceResponse(error=error)]"
        ),
    ),
    "returns_no_outputs": Case(PLAIN, TWICE, model("return [pb_utils.InferenceResponse([])]")),
    "returns_other_names": Case(PLAIN, TWICE, model("return [answer([1.0], 'OTHER')]")),
    "returns_other_type": Case(
        PLAIN, TWICE, model("return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', np.arange(3))])]")
    ),
    "returns_list_subclass": Case(PLAIN, TWICE, model("return type('L', (list,), {})([answer([1.0])])")),
    "coroutine": Case(
        PLAIN,
        TWICE,
        "class TritonPythonModel:\n    async def execute(self, requests):\n        await asyncio.sleep(0)\n"
        "        return [answer(get(request)) for request in requests]\n",
    ),
    "coroutine_raises": Case(
        PLAIN,
        TWICE,
        "class TritonPythonModel:\n    async def execute(self, requests):\n        await asyncio.sleep(0)\n"
        "        raise ValueError('boom')\n",
    ),
    "generator": Case(PLAIN, TWICE, model("yield 1")),
    "sender": Case(
        PLAIN,
        TWICE,
        model("requests[0].get_response_sender().send(answer(get(requests[0])), 1)\nreturn None"),
    ),
    "sender_two_steps": Case(
        PLAIN,
        TWICE,
        model(
            "sender = requests[0].get_response_sender()\nsender.send(answer(get(requests[0])))\n"
            "sender.send(flags=1)\nreturn [None]"
        ),
    ),
    "sender_in_thread": Case(
        PLAIN,
        TWICE,
        model(
            "def work(request):\n    time.sleep(0.05)\n"
            "    request.get_response_sender().send(answer(get(request)), 1)\n"
            "threading.Thread(target=work, args=(requests[0],)).start()\nreturn [None]"
        ),
    ),
    "sender_refuses": Case(
        PLAIN,
        TWICE,
        model("requests[0].get_response_sender().send(flags=1)"),
    ),
    "sender_then_returned": Case(
        PLAIN,
        TWICE,
        model("requests[0].get_response_sender().send(answer([7.0]), 1)\nreturn [answer([8.0])]"),
    ),
    "half_sent_then_returned": Case(
        PLAIN,
        TWICE,
        model("requests[0].get_response_sender().send(answer([7.0]), 0)\nreturn [answer([8.0])]"),
    ),
    "half_sent_then_raises": Case(
        PLAIN,
        TWICE,
        model("requests[0].get_response_sender().send(answer([7.0]), 0)\nraise ValueError('late')"),
    ),
    "iterative": Case(
        PLAIN + "sequence_batching { iterative_sequence: true }",
        [x(floats(2)), x(floats(2), correlation_id=9, flags=1), x(floats(2), correlation_id=9)],
        "class TritonPythonModel:\n"
        "    def initialize(self, args):\n        self.flags = []\n"
        + model(
            "self.flags.append(float(requests[0].flags()))\n"
            "if len(self.flags) < 3:\n    requests[0].set_release_flags(2)\n    return [None]\n"
            "flags, self.flags = self.flags, []\nreturn [answer(flags)]"
        ).replace("\nclass TritonPythonModel:\n", ""),
    ),
    "batched_answers": Case(BATCHED, [x(floats(3, 2)), x(floats(1, 5))], ECHO),
    "controls": Case(
        INPUTS["sequence"].config.replace("TYPE_STRING", "TYPE_FP32"),
        [
            x(floats(1, 3), correlation_id=5, flags=1),
            x(floats(1, 4), correlation_id=5),
            x(floats(1, 3), correlation_id=2**32 + 3, flags=3),
        ],
        CONTROLS,
    ),
    "auto_complete": Case(
        "",
        [x(floats(2, 4)), x(floats(9, 4)), x(floats(2, 3))],
        "class TritonPythonModel:\n"
        "    @staticmethod\n"
        "    def auto_complete_config(config):\n"
        "        config.set_max_batch_size(8)\n"
        "        config.set_dynamic_batching()\n"
        "        config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [4]})\n"
        "        config.add_output({'name': 'Y', 'data_type': 'TYPE_FP32', 'dims': [4]})\n"
        "        return config\n" + ECHO.replace("\nclass TritonPythonModel:\n", "\n"),
    ),
    "local_imports": Case(
        PLAIN,
        TWICE,
        model(
            "import sys\nfrom importlib import import_module\n"
            "assert __name__ == '1.model' and __package__ == '1'\n"
            "import triton_python_backend_utils as again\nassert again is pb_utils\n"
            "return [answer([float(len(requests))])]"
        ),
    ),
}

STREAMS = {
    "three_and_final": Case(
        DECOUPLED,
        TWICE,
        model(
            "for request in requests:\n    sender = request.get_response_sender()\n"
            "    for index in range(3):\n        sender.send(answer(get(request) + index))\n"
            "    sender.send(flags=1)"
        ),
    ),
    "last_is_final": Case(
        DECOUPLED,
        TWICE,
        model(
            "for request in requests:\n    sender = request.get_response_sender()\n"
            "    sender.send(answer(get(request)))\n    sender.send(answer(get(request)), 1)"
        ),
    ),
    "nothing_but_final": Case(
        DECOUPLED, TWICE, model("for request in requests:\n    request.get_response_sender().send(flags=1)")
    ),
    "threads": Case(
        DECOUPLED,
        TWICE,
        model(
            "def work(request):\n    sender = request.get_response_sender()\n"
            "    for index in range(3):\n        time.sleep(0.01)\n"
            "        sender.send(answer(get(request) + index))\n"
            "    sender.send(flags=1)\n"
            "for request in requests:\n    threading.Thread(target=work, args=(request,)).start()"
        ),
    ),
    "coroutine": Case(
        DECOUPLED,
        TWICE,
        "class TritonPythonModel:\n    async def execute(self, requests):\n"
        "        for request in requests:\n            sender = request.get_response_sender()\n"
        "            for index in range(3):\n                await asyncio.sleep(0.01)\n"
        "                sender.send(answer(get(request) + index))\n            sender.send(flags=1)\n",
    ),
    "returns_list": Case(DECOUPLED, TWICE, model("return []")),
    "raises_at_once": Case(DECOUPLED, TWICE, model("raise ValueError('boom')")),
    "raises_midway": Case(
        DECOUPLED,
        TWICE,
        model("requests[0].get_response_sender().send(answer([1.0]))\nraise ValueError('boom')"),
    ),
    "raises_after_final": Case(
        DECOUPLED,
        TWICE,
        model("requests[0].get_response_sender().send(answer([1.0]), 1)\nraise ValueError('boom')"),
    ),
    "error_midway": Case(
        DECOUPLED,
        TWICE,
        model(
            "sender = requests[0].get_response_sender()\n"
            "sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError('no')))\n"
            "sender.send(answer([1.0]), 1)"
        ),
    ),
    "one_response_half_sent": Case(
        PLAIN + "\n",
        TWICE,
        model("requests[0].get_response_sender().send(answer([7.0]), 0)\nraise ValueError('late')"),
    ),
    "one_response_model": Case(PLAIN + "\n", TWICE, ECHO),
}

LOADS = {
    "import_fails": "import nothing_of_this_name\n",
    "syntax": "#\nclass TritonPythonModel\n",
    "no_class": "x = 1\n",
    "class_used_while_imported": "x = pb_utils.Tensor\n",
    "exits": "raise SystemExit(4)\n",
    "initialize_raises": """
class TritonPythonModel:
    def initialize(self, args):
        raise KeyError("x")
""",
    "constructor_wants_more": """
class TritonPythonModel:
    def __init__(self, a):
        pass
""",
    "auto_complete_gives_none": """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        pass
""",
    "auto_complete_not_static": """
class TritonPythonModel:
    def auto_complete_config(self, config):
        pass
""",
    "auto_complete_wants_less": """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(4)
        config.set_max_batch_size(2)
        return config
""",
}

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
