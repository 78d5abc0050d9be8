"""Streams of decoupled models."""

from behaviour import Behaviour
from differential_kit import x


def stream(body, *asks, is_async=False):
    return Behaviour(body, tuple(asks) or (x(model="streams"),), "streams", is_async)


START = "s = request.get_response_sender()\n"

STREAMS = {
    "stream_without_responses": stream(START + "s.send(flags=1)"),
    "stream_of_one": stream(START + "s.send(answer(get(request)), 1)"),
    "stream_of_three_and_final": stream(
        START + "for index in range(3):\n    s.send(answer(get(request) + index))\ns.send(flags=1)"
    ),
    "stream_of_three_last_is_final": stream(
        START + "for index in range(3):\n    s.send(answer(get(request) + index), int(index == 2))"
    ),
    "stream_from_thread": stream("""
        def work():
            sender = request.get_response_sender()
            for index in range(3):
                time.sleep(0.01)
                sender.send(answer(get(request) - index))
            sender.send(flags=1)
        threading.Thread(target=work).start()
    """),
    "stream_from_coroutine": stream(
        START
        + "for index in range(3):\n    await asyncio.sleep(0.01)\n    s.send(answer(get(request) - index))\n"
        + "s.send(flags=1)\nreturn ['ignored']",
        is_async=True,
    ),
    "stream_from_task_after_execute": stream(
        START
        + "async def work():\n    await asyncio.sleep(0.05)\n    s.send(answer(get(request)))\n"
        + "    s.send(flags=1)\n"
        + "self.task = asyncio.get_running_loop().create_task(work())",
        is_async=True,
    ),
    "stream_from_timer_after_execute": stream(
        START + "asyncio.get_running_loop().call_later(0.05, lambda: s.send(answer(get(request)), 1))",
        is_async=True,
    ),
    "stream_with_error_in_the_middle": stream(
        START + "s.send(answer([1]))\ns.send(failure('in between'))\ns.send(answer([2]), 1)"
    ),
    "stream_error_is_final": stream(START + "s.send(answer([1]))\ns.send(failure('last'), 1)"),
    "stream_prunes": stream(
        START + "s.send(report(1))\ns.send(answer([2]))\ns.send(flags=1)",
        x(model="streams", requested_outputs=["Y"]),
    ),
    "stream_returns_empty_list": stream("return []"),
    "stream_returns_responses": stream("return [answer([1])]"),
    "stream_raises": stream("raise ValueError('boom')"),
    "stream_raises_after_a_response": stream(START + "s.send(answer([1]))\nraise ValueError('boom')"),
    "stream_refuses_after_final": stream(
        """
        s = request.get_response_sender()
        if self.kept:
            s.send(report(self.kept.pop()), 1)
            return None
        s.send(answer([1]))
        found = tries('''
            s.send()
            s.send(flags=2)
            s.send("x")
            s.is_cancelled()
        ''', s=s)
        s.send(report(found), 1)
        self.kept.append(tries('''
            s.send(answer([1]))
            s.send(flags=1)
            s.send()
        ''', s=s))
        """,
        x(model="streams"),
        x(model="streams"),
    ),
}
