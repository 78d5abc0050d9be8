"""What `execute` returns or raises, and what the client gets of it."""

import numpy as np
from behaviour import Behaviour, says
from differential_kit import ask, x
from differential_models import CODES

OUTPUTS = """
    found = [pb_utils.Tensor(name, get(request)) for name in ("Z", "OTHER", "Y")]
    return [pb_utils.InferenceResponse(found)]
"""

RESPONSES = {
    "returns_too_few": Behaviour("return []", logs=True),
    "returns_too_many": Behaviour("return [answer([1]), answer([2])]"),
    "returns_tuple": Behaviour("return (answer([1]),)"),
    "returns_dict": Behaviour("return {}"),
    "returns_response": Behaviour("return answer([1])"),
    "returns_generator": Behaviour("yield answer([1])"),
    "returns_subclass_of_list": Behaviour('return type("L", (list,), {})([answer([1])])'),
    "returns_text_element": Behaviour("return ['text']"),
    "returns_tensor_element": Behaviour("return [tensor(1.0)]"),
    "returns_error": Behaviour("return [failure('mine')]"),
    "returns_error_and_tensors": Behaviour(
        "return [pb_utils.InferenceResponse([tensor(1.0, name='Y')], pb_utils.TritonError('both'))]"
    ),
    "returns_error_without_text": Behaviour("return [failure('')]"),
    "returns_error_of_several_lines": Behaviour("return [failure('one\\ntwo é')]"),
    **{f"error_code_{code.lower()}": Behaviour(f"return [failure('is {code}', '{code}')]") for code in CODES},
    "raises": Behaviour("raise ValueError('boom')"),
    "raises_without_text": Behaviour("raise ValueError"),
    "raises_triton_model_exception": Behaviour("raise pb_utils.TritonModelException('mine')"),
    "raises_system_exit": Behaviour("raise SystemExit(3)"),
    "raises_generator_exit": Behaviour("raise GeneratorExit('left')"),
    "raises_own_exception": Behaviour(
        "class Own(Exception):\n    def __str__(self):\n        return 'own text'\nraise Own()"
    ),
    "raises_deep": Behaviour("def inner():\n    raise KeyError('deep')\n\n(lambda: inner())()", logs=True),
    "raises_in_library": Behaviour("json.loads('{')"),
    "raises_from_another": Behaviour(
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('late') from error"
    ),
    "raises_error_of_pb_utils": Behaviour("pb_utils.Tensor('', np.zeros(1))"),
    "raises_triton_error": Behaviour("raise pb_utils.TritonError('no exception')"),
    "numpy_error": Behaviour("np.zeros(2) + np.zeros(3)"),
    "outputs_pruned_to_the_requested": Behaviour(
        OUTPUTS,
        (x(), x(requested_outputs=["Y"]), x(requested_outputs=["Z", "Y"]), x(requested_outputs=["TEXT"])),
    ),
    "outputs_none": Behaviour("return [pb_utils.InferenceResponse([])]"),
    "outputs_of_other_type_and_shape": Behaviour(
        "return [pb_utils.InferenceResponse([tensor([[1, 2, 3]], name='Y', dtype=np.int8)])]"
    ),
    "outputs_are_inputs": Behaviour("return [pb_utils.InferenceResponse(request.inputs())]"),
    "one_tensor_in_two_outputs": Behaviour(
        "a = get(request)\n"
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', a), pb_utils.Tensor('Z', a[1:])])]"
    ),
    "response_is_pruned_in_place": Behaviour(
        """
        kept = self.kept
        if kept:
            found = [len(kept[0].output_tensors()), kept[0].has_error()]
            kept.clear()
            return [report(found)]
        kept.append(pb_utils.InferenceResponse([tensor(1.0, name="Y"), tensor(2.0, name="Z")]))
        return list(kept)
        """,
        (x(requested_outputs=["Y"]), x()),
    ),
    "execute_is_a_coroutine": Behaviour(
        "await asyncio.sleep(0.01)\nreturn [answer(get(request) * 2)]", is_async=True
    ),
    "generator_raises": Behaviour("return [answer(sum(one / 0 for one in [1]))]"),
    "coroutine_raises_in_what_it_awaits": Behaviour(
        "async def inner():\n    await asyncio.sleep(0)\n    raise ValueError('boom')\n\nawait inner()",
        is_async=True,
    ),
    "coroutine_raises_in_a_task": Behaviour(
        "async def inner():\n    json.loads('{')\n\nawait asyncio.gather(inner(), inner())", is_async=True
    ),
    "coroutine_raises_in_a_plain_call": Behaviour(
        "def inner():\n    raise ValueError('boom')\n\nawait asyncio.sleep(0)\ninner()", is_async=True
    ),
    "coroutine_raises": Behaviour("await asyncio.sleep(0)\nraise ValueError('boom')", is_async=True),
    "coroutine_returns_tuple": Behaviour("return (answer([1]),)", is_async=True),
    "response_constructor": says("""
        InferenceResponse()
        InferenceResponse([]).output_tensors()
        InferenceResponse().has_error(), InferenceResponse().error()
        InferenceResponse(None)
        InferenceResponse([None])
        InferenceResponse(["x"])
        InferenceResponse({})
        InferenceResponse(set())
        InferenceResponse(one for one in [])
        InferenceResponse(tensor(1.0))
        InferenceResponse((tensor(1.0),)).output_tensors()[0].name()
        InferenceResponse([], "text")
        InferenceResponse([], ValueError("x"))
        InferenceResponse(error=TritonError("x")).error().message()
        InferenceResponse(output_tensors=[], error=None).has_error()
        InferenceResponse([], None, {})
        InferenceResponse(parameters={})
        hasattr(InferenceResponse, "parameters")
    """),
    "triton_error_object": says("""
        TritonError("x").message()
        TritonError(b"x").message()
        TritonError("x").code()
        TritonError("x", TritonError.NOT_FOUND).code().name
        TritonError(message="x", code=TritonError.CANCELLED).code().value
        TritonError()
        TritonError(None)
        TritonError(1)
        TritonError(ValueError("x"))
        TritonError("x", 1)
        TritonError("x", None)
        [TritonError.UNKNOWN, TritonError.INTERNAL, TritonError.NOT_FOUND, TritonError.INVALID_ARG]
        [TritonError.UNAVAILABLE, TritonError.UNSUPPORTED, TritonError.ALREADY_EXISTS, TritonError.CANCELLED]
        isinstance(TritonError("x"), Exception)
        TritonError.INTERNAL == 1, int(TritonError.INTERNAL)
        issubclass(TritonModelException, Exception), TritonModelException.__name__
        TritonModelException("a", 1).args
    """),
}

SENDER = {
    "sender_sends_response_and_final": Behaviour(
        "request.get_response_sender().send(answer(get(request)), 1)\nreturn None"
    ),
    "sender_sends_response_then_final": Behaviour(
        "s = request.get_response_sender()\ns.send(answer(get(request)))\ns.send(flags=1)\nreturn [None]"
    ),
    "sender_in_thread_after_return": Behaviour("""
        def work():
            time.sleep(0.05)
            request.get_response_sender().send(answer(get(request)), flags=1)
        threading.Thread(target=work).start()
        return None
    """),
    "sender_sends_error": Behaviour(
        "request.get_response_sender().send(failure('sent', 'UNAVAILABLE'), 1)\nreturn [None]"
    ),
    "sender_prunes": Behaviour(
        "request.get_response_sender().send(report(1), 1)\nreturn [None]", (x(requested_outputs=["Y"]),)
    ),
    "sender_refuses_before_a_response": Behaviour("""
        s = request.get_response_sender()
        found = tries('''
            s.send(answer([1]), 2)
            s.send(None, 0)
            s.send()
            s.send(flags=1)
            s.send(flags=-1)
            s.send(flags=None)
            s.send("text", 1)
            s.send(answer([1]), 1.0)
            s.close()
            type(s)()
            s.is_cancelled()
        ''', s=s)
        return [report(found)]
    """),
    "sender_refuses_after_a_response": Behaviour(
        """
        if self.kept:
            return [report(self.kept.pop())]
        s = request.get_response_sender()
        s.send(answer([1]))
        found = tries('''
            s.send(answer([1]))
            s.send(answer([1]), 1)
            s.send(flags=0)
        ''', s=s)
        s.send(flags=1)
        self.kept.append([found, tries('''
            s.send(answer([1]), 1)
            s.send(flags=1)
            s.send(flags=3)
        ''', s=s)])
        return [None]
        """,
        (x(), x()),
    ),
    "sender_true_counts_as_final": Behaviour(
        "request.get_response_sender().send(answer([1]), True)\nreturn [None]"
    ),
    "sender_used_then_response_returned": Behaviour(
        "request.get_response_sender().send(answer([7]), 1)\nreturn [answer([8])]", logs=True
    ),
    "sender_half_used_then_response_returned": Behaviour(
        "request.get_response_sender().send(answer([7]))\nreturn [answer([8])]"
    ),
}


def three(**options):
    return tuple(
        ask("batches", {"X": np.full((1, 2), index, np.float32)}, request_id=f"r{index}", **options)
        for index in range(3)
    )


def by_id(body):
    return Behaviour(f"return [{body} for request in requests]", three(), "batches")


BATCHES = {
    "batch_of_three_requests": by_id(
        "report(len(requests), request.inputs()[0].shape(), request.request_id())"
    ),
    "batch_one_error_among_three": by_id(
        "failure('not this', 'INVALID_ARG') if request.request_id() == 'r1' else answer(get(request) + 1)"
    ),
    "batch_all_errors": by_id("failure('no ' + request.request_id())"),
    "batch_raises": Behaviour("raise ValueError('all of them')", three(), "batches"),
    "batch_two_responses_for_three": Behaviour("return [answer([[1]]), answer([[2]])]", three(), "batches"),
    "batch_wrong_element_in_the_middle": by_id("5 if request is requests[1] else answer(get(request))"),
    "batch_none_for_one_that_was_sent": Behaviour(
        """
        found = []
        for one in requests:
            found.append(None if one.request_id() == "r2" else answer(get(one) * 3))
            if found[-1] is None:
                one.get_response_sender().send(answer(get(one) * 5), 1)
        return found
        """,
        three(),
        "batches",
    ),
    "batch_with_different_requested_outputs": Behaviour(
        "both = [tensor(1.0, name='Y'), tensor(2.0, name='Z')]\n"
        "return [pb_utils.InferenceResponse(both) for _ in requests]",
        tuple(
            ask(one.model, one.inputs, requested_outputs=names)
            for one, names in zip(three(), (["Y"], ["Z"], ["TEXT"]), strict=True)
        ),
        "batches",
    ),
}
