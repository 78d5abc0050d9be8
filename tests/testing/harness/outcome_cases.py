"""What `execute` returns or raises."""

from harness_cases import TWICE, Case, model, x
from harness_kit import BATCHED, ECHO, PLAIN, floats
from input_cases import INPUTS

CONTROLS = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer([get(one, name)[0, 0] for name in "ABCD"]) for one in requests]
"""

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
