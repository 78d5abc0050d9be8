"""What models of both transaction policies send."""

from harness_cases import TWICE, Case, model
from harness_kit import DECOUPLED, ECHO, PLAIN

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
