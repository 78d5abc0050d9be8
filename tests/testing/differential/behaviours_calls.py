"""Calls between models."""

from behaviour import Behaviour


def calls(expression, setup=""):
    """What the responses of calls to other models look like."""
    return Behaviour(f"{setup}\nreturn [report({expression})]")


CALLS = {
    "call_gives_outputs": calls("told(new([tensor(1.0, 2.0)]).exec())"),
    "call_asks_for_one_output": calls("told(new([tensor(1.0)], ['Z']).exec())"),
    "call_passes_fields_on": calls(
        "told(new([tensor(1.0)], ['TEXT'], request_id='i', correlation_id=5, flags=1, timeout=7, "
        "parameters={'p': 1, 'q': True, 's': 'x'}).exec())"
    ),
    "call_of_unknown_model": calls("told(new([tensor(1.0)], model='nobody').exec())"),
    "call_of_unknown_version": calls("told(new([tensor(1.0)], model_version=9).exec())"),
    "call_of_known_version": calls("told(new([tensor(1.0)], ['Y'], model_version=1).exec())"),
    "call_with_unknown_output": calls("told(new([tensor(1.0)], ['NO']).exec())"),
    "call_with_unknown_input": calls("told(new([tensor(1.0, name='NO')]).exec())"),
    "call_without_inputs": calls("told(new().exec())"),
    "call_with_other_type": calls("told(new([tensor(1.0, dtype=np.float64)]).exec())"),
    "call_with_other_shape": calls("told(new([pb_utils.Tensor('X', np.ones((2, 2), np.float32))]).exec())"),
    "call_with_the_same_input_twice": calls("told(new([tensor(1.0), tensor(2.0)]).exec())"),
    "call_is_answered_with_error": calls(
        "[told(new([tensor(1.0)], parameters={'code': c}).exec()) for c in ('INTERNAL', 'NOT_FOUND')]"
    ),
    "call_whose_model_raises": calls("told(new([tensor(1.0)], parameters={'raise': 1}).exec())"),
    "call_with_decoupled_kinds_of_arguments": calls(
        "tries('new([tensor(1.0)]).exec(decoupled=None)\\nnew([tensor(1.0)]).exec(decoupled=\"x\")')"
    ),
    "call_input_of_the_client_passed_on": calls(
        "told(new([pb_utils.Tensor.from_dlpack('X', request.inputs()[0])], ['Y']).exec())"
    ),
    "call_repeated_sends_its_first_data": calls(
        "told(first), told(call.exec())",
        "a = np.zeros(2, np.float32)\ncall = new([pb_utils.Tensor('X', a)], ['Y'])\n"
        "first = call.exec()\na[:] = 5",
    ),
    "call_output_becomes_answer": Behaviour(
        "return [pb_utils.InferenceResponse(new([tensor(3.0)], ['Y', 'Z']).exec().output_tensors())]"
    ),
    "call_async_gathered": Behaviour(
        "found = await asyncio.gather(*(new([tensor(float(i))], ['Y']).async_exec() for i in range(4)))\n"
        "return [report(*map(told, found))]",
        is_async=True,
    ),
    "call_async_of_unknown_model": Behaviour(
        "return [report(told(await new([tensor(1.0)], model='nobody').async_exec()))]", is_async=True
    ),
    "call_async_without_loop": calls("attempt(lambda: new([tensor(1.0)]).async_exec())"),
    "call_of_decoupled_model_as_if_it_were_not": calls(
        "told(new([tensor(1.0)], model='streams', parameters={'case': 'stream_of_one'}).exec())"
    ),
    **{
        f"call_of_{case}": calls(
            f"*map(told, new([tensor(1.0)], ['Y'], 'streams', parameters={{'case': '{case}'}})"
            ".exec(decoupled=True))"
        )
        for case in (
            "stream_without_responses",
            "stream_of_one",
            "stream_of_three_and_final",
            "stream_raises",
        )
    },
    "call_of_plain_model_as_decoupled": calls(
        "type(found).__name__, *map(told, found)", "found = new([tensor(1.0)], ['Y']).exec(decoupled=True)"
    ),
    "call_with_parameters_that_do_not_arrive": calls(
        "*[told(new([tensor(1.0)], ['Y'], parameters=one).exec()) for one in ("
        "{'a': 2**63}, {'a': -2**63 - 1}, {'a': 2**64}, {'a' + chr(0): 1})]"
    ),
    "call_of_streams_begins_before_they_are_read": calls(
        "told(new([tensor(1.0)], ['Y'], parameters={'counted': 1}).exec()), *map(told, kept[1])",
        "kept = [new([tensor(float(i))], ['Y'], parameters={'count': 1}).exec(decoupled=True)"
        " for i in range(3)]\ntime.sleep(0.5)",
    ),
    "call_async_of_streams_begins_before_they_are_read": Behaviour(
        "call = new([tensor(1.0)], ['Y'], parameters={'count': 1})\n"
        "kept = await call.async_exec(decoupled=True)\nawait asyncio.sleep(0.5)\n"
        "return [report(told(new([tensor(1.0)], ['Y'], parameters={'counted': 1}).exec()))]",
        is_async=True,
    ),
    "call_iterator_by_hand": calls(
        "tries('iter(i) is i\\ntold(next(i))\\n list(map(told, i))\\nnext(i)\\n"
        'hasattr(i, "__len__")\\n[told(one) for one in i]\', i=i)',
        "call = new([tensor(1.0)], ['Y'], 'streams', parameters={'case': 'stream_of_three_and_final'})\n"
        "i = call.exec(decoupled=True)",
    ),
    "call_async_of_stream": Behaviour(
        "i = await new([tensor(1.0)], ['Y'], 'streams', parameters={'case': 'stream_from_coroutine'})"
        ".async_exec(decoupled=True)\nreturn [report(*map(told, i))]",
        is_async=True,
    ),
    "sender_of_a_built_request": calls(
        "tries('s.send(answer([1]), 1)\\ns.send(flags=1)\\ns.send()', s=new().get_response_sender())"
    ),
}
